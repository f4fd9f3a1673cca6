"""The hub's own settings: what there is, the defaults, the limits. The reference is rendered from here.

To add a setting, add a field. Plugins declare theirs in their own ``Settings``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

import attrs

from hub.auth.settings import AuthSettings
from hub.providers import ProviderSettings, check_template
from hub.sansio.names import check_pattern
from hub.sansio.options import Seconds, Size, option
from hub.sansio.policies import Payload, Policy, check_policy, check_relations
from hub.sansio.tiers import Tiers
from hub.sansio.views.catalogue import check_view

KB = 1024
MB = 1024 * KB
GB = 1024 * MB
SECOND = 1.0
MINUTE = 60.0
#: The shortest time that a peer can be expected to do anything in.
SHORTEST = 0.01


def check_address(address: str) -> None:
    """Raises ValueError unless ``address`` is HOST:PORT; IPv6 in brackets; port 0 means any free one."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:\[\]/]+):([0-9]{1,5})", address, re.ASCII)
    if match is None or int(match[2]) > 65535:
        raise ValueError(
            'expected host:port, such as "127.0.0.1:8080" or "[::]:8080"; port 0 is any free port'
        )


def _check_admin_address(address: str) -> None:
    if address:
        check_address(address)


def _check_key_hash(digest: str) -> None:
    if digest and not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("expected 64 hexadecimal digits, such as printf %s KEY | sha256sum prints")


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach ``address`` (HOST:PORT)."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_node(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9-]{1,16}", name):
        raise ValueError("expected 1 to 16 of a-z 0-9 -, because it is part of every connection's id")


def _check_origin(origin: str) -> None:
    if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#]+", origin):
        raise ValueError('expected an origin without a path, such as "https://app.example.com", or "*"')


def _check_network(network: str) -> None:
    try:
        ipaddress.ip_network(network)
    except ValueError as error:
        raise ValueError(f'expected a network such as "10.0.0.0/8" or an address: {error}') from None


def _check_market(market: str) -> None:
    if not re.fullmatch(r"[a-z0-9]+_[a-z0-9]+", market):
        raise ValueError("expected base_quote in lower case, such as btc_tl")


def _check_interval(interval: str) -> None:
    if not re.fullmatch(r"[0-9]+[a-z]+", interval):
        raise ValueError("expected a number and a unit, such as 15m")


def _check_namespace(policy: Policy) -> None:
    try:
        check_pattern(policy.pattern)
    except ValueError as error:
        raise ValueError(f'pattern "{policy.pattern}": {error}') from error
    check_policy(policy)
    check_view(policy)
    if policy.provider:
        try:
            check_template(policy.provider, pattern=policy.pattern, is_private=policy.private)
        except ValueError as error:
            raise ValueError(f"provider: {error}") from error


@attrs.frozen(kw_only=True)
class ServerSettings:
    """Ports and the life of a connection. Section ``[server]``."""

    bind: str = option(
        "127.0.0.1:8080",
        doc="public address for WebSocket and HTTP; port 0: any free one",
        check=check_address,
    )
    admin_bind: str = option(
        "127.0.0.1:8081",
        doc="operators' address (health, metrics, publish, admin); empty: off",
        check=_check_admin_address,
    )
    admin_key_hash: str = option(
        "",
        doc="SHA-256 in hex of the key that operators send as `Authorization: ApiKey <key>`; "
        "must be set where admin_bind is not a loopback address",
        check=_check_key_hash,
    )
    node: str = option(
        "n1",
        doc="name of this node, unique in the cluster: in connection ids, epochs and metrics",
        check=_check_node,
    )
    tls_certificate: str = option(
        "", doc="PEM file with the certificate chain; empty: no TLS on the public port"
    )
    tls_key: str = option("", doc="PEM file with the certificate's private key")
    request_head_size: Size = option(
        Size(16 * KB), doc="longest request line and headers; beyond: 431", at_least=1 * KB, at_most=1 * MB
    )
    request_head_timeout: Seconds = option(
        Seconds(5 * SECOND), doc="time for a request's head once it has begun; beyond: 408", at_least=SHORTEST
    )
    first_byte_timeout: Seconds = option(
        Seconds(10 * SECOND),
        doc="time for the first byte of a new connection; beyond: closed",
        at_least=SHORTEST,
    )
    keep_alive_timeout: Seconds = option(
        Seconds(75 * SECOND),
        doc="time an idle HTTP connection is kept for the next request",
        at_least=SHORTEST,
    )
    backlog: int = option(
        4096, doc="connections the kernel holds until they are accepted", at_least=1, at_most=65535
    )
    send_buffer: Size = option(
        Size(0), doc="kernel send buffer per connection (SO_SNDBUF); 0: the kernel decides"
    )
    not_sent_low_water: Size = option(
        Size(128 * KB),
        doc="bytes not yet sent beyond which a connection counts as full (TCP_NOTSENT_LOWAT); 0: off",
    )
    user_timeout: Seconds = option(
        Seconds(75 * SECOND),
        doc="time sent data may stay unacknowledged before the kernel gives the peer up (TCP_USER_TIMEOUT); 0: off",
    )
    drain_window: Seconds = option(
        Seconds(5 * SECOND),
        doc="on a drain retryAfterMs is spread over this, so that clients do not return as one",
    )
    drain_deadline: Seconds = option(
        Seconds(10 * SECOND), doc="time for clients to take their farewell on a drain; then they are cut"
    )
    cors_origins: tuple[str, ...] = option(
        (),
        doc='origins whose pages may read HTTP answers and open WebSockets, beside the hub\'s own; "*": any',
        check=_check_origin,
    )
    trusted_proxies: tuple[str, ...] = option(
        (),
        doc="networks whose Forwarded or X-Forwarded-For tells a client's address; from anyone else they are ignored",
        check=_check_network,
    )
    page: bool = option(True, doc="whether / serves the page with the live list of channels")
    publish_body_size: Size = option(
        Size(1 * MB), doc="longest body of POST /publish; beyond: 413", at_least=1 * KB, at_most=1 * GB
    )
    request_body_timeout: Seconds = option(
        Seconds(10 * SECOND), doc="time for a request's body", at_least=SHORTEST
    )
    idempotency_keys: int = option(
        100_000, doc="idempotency keys of POST /publish that are remembered; 0: none", unit="keys", at_least=0
    )
    idempotency_age: Seconds = option(Seconds(5 * MINUTE), doc="how long an idempotency key is remembered")

    def __attrs_post_init__(self) -> None:
        if bool(self.tls_certificate) != bool(self.tls_key):
            absent = "tls_key" if self.tls_certificate else "tls_certificate"
            raise ValueError(f"{absent} is empty: tls_certificate and tls_key are set both or not at all")
        if self.admin_bind and not is_loopback(self.admin_bind) and not self.admin_key_hash:
            raise ValueError("admin_key_hash is empty: others can reach admin_bind, so operators need a key")


@attrs.frozen(kw_only=True)
class LimitSettings:
    """What one client, one address and all together may use. Section ``[limits]``."""

    connections: int = option(20_000, doc="connections on this node; beyond: 503; 0: no limit", at_least=0)
    connections_per_ip: int = option(5, doc="anonymous connections from one address; 0: no limit", at_least=0)
    pending_per_ip: int = option(
        256, doc="connections from one address that have not sent a request yet; 0: no limit", at_least=0
    )
    requests_per_ip: float = option(
        100.0,
        doc="short HTTP requests per second from one address, twice as many at once; beyond: 429; 0: no limit",
        at_least=0.0,
    )
    failed_logins_per_ip: float = option(
        5.0,
        doc="requests per second from one address whose credentials are not valid, four times as many at once; "
        "more of those: 429; 0: no limit",
        at_least=0.0,
    )
    params: int = option(200, doc="channels named in one request; beyond: 40005", at_least=1)
    slow_warn_dropped: int = option(
        100,
        doc="more than this dropped within slow_warn_window: slow_consumer warning; 0: never",
        unit="events",
        at_least=0,
    )
    slow_warn_window: Seconds = option(Seconds(10 * SECOND), doc="see slow_warn_dropped", at_least=1.0)
    slow_close_dropped: int = option(
        1000,
        doc="more than this dropped within slow_close_window: closed with 4000; 0: never",
        unit="events",
        at_least=0,
    )
    slow_close_window: Seconds = option(Seconds(1 * MINUTE), doc="see slow_close_dropped", at_least=1.0)
    slow_close_deadline: Seconds = option(
        Seconds(20 * SECOND),
        doc="how long the socket of a slow consumer stays open so that it may still learn why",
    )
    write_deadline: Seconds = option(
        Seconds(1 * MINUTE),
        doc="time a full connection may take nothing at all before it is cut",
        at_least=SHORTEST,
    )
    idle_timeout: Seconds = option(
        Seconds(1 * MINUTE),
        doc="a WebSocket from which nothing came for this long is closed",
        at_least=SHORTEST,
    )
    books_total: Size = option(
        Size(1536 * MB),
        doc="memory of all order books together; beyond, those that nobody has subscribed are let go of",
        at_least=1 * MB,
    )
    buffers_total: Size = option(Size(1 * GB), doc="bytes of all channels' buffers together", at_least=1 * MB)
    channels_total: int = option(100_000, doc="channels that exist at a time", at_least=1)
    channel_idle: Seconds = option(
        Seconds(10 * MINUTE),
        doc="a channel without publications and subscribers for this long is forgotten",
        at_least=1.0,
    )
    cursor_size: Size = option(Size(2 * KB), doc="longest cursor", at_least=64, at_most=16 * KB)


@attrs.frozen(kw_only=True)
class ChannelSettings:
    """What the holes in namespaces' patterns may hold. Section ``[channels]``."""

    markets: tuple[str, ...] = option(
        ("btc_tl", "eth_tl", "btc_usdt", "eth_usdt", "avax_tl", "sol_usdt", "usdt_tl", "xrp_tl"),
        doc="what {market} stands for; any other market: 40002",
        check=_check_market,
    )
    intervals: tuple[str, ...] = option(
        ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d", "1w"),
        doc="what {interval} stands for",
        check=_check_interval,
    )
    depths: tuple[int, ...] = option((5, 10, 20), doc="what {depth} stands for", at_least=1, at_most=10_000)


@attrs.frozen(kw_only=True)
class LogSettings:
    """Section ``[logging]``."""

    level: str = option(
        "info", doc="least level that is logged", choices=("debug", "info", "warning", "error")
    )
    format: str = option(
        "json", doc="one JSON object a line, or text for a terminal", choices=("json", "text")
    )


def default_namespaces() -> Mapping[str, Policy]:
    """The table of channels.md. Private channels are never dropped in silence: their lag limit is the whole buffer,
    and beyond it they are told what they lost with the state, or close to resume where there is none."""

    def state(pattern: str, event: str, payload: Payload, **others: Any) -> Policy:
        return Policy(
            pattern=pattern, event=event, payload=payload, snapshot="last", on_lag="latest", **others
        )

    def private(pattern: str, event: str, payload: Payload, **others: Any) -> Policy:
        return Policy(pattern=pattern, private=True, event=event, payload=payload, lag_limit=0, **others)

    orders: Mapping[str, Any] = {"snapshot": "orders", "on_lag": "snapshot"}
    return {
        "ticker": state("ticker@{market}", "price_tick", "ticker", pace=Seconds(1.0)),
        "orderbook": Policy(
            pattern="orderbook@{market}",
            event="orderbook",
            payload="orderbook",
            snapshot="book",
            on_lag="snapshot",
            buffer_count=100_000,
        ),
        "orderbook_top": Policy(
            pattern="orderbook.{depth}@{market}",
            event="orderbook",
            snapshot="top",
            derived_from="orderbook@{market}",
            pace=Seconds(0.1),
            on_lag="latest",
        ),
        "trades": Policy(
            pattern="trades@{market}",
            event="trade",
            payload="trades",
            snapshot="trades",
            buffer_count=50_000,
        ),
        "kline": state("kline.{interval}@{market}", "candle_update", "kline", pace=Seconds(1.0)),
        "bbo": state("bbo@{market}", "bbo", "bbo", buffer_count=10_000),
        "orders": private("orders", "order", "order", parts="orders@{market}", **orders),
        "orders_market": private("orders@{market}", "order", "order", **orders),
        "fills": private("fills", "fill", "fill", parts="fills@{market}", on_lag="close"),
        "fills_market": private("fills@{market}", "fill", "fill", on_lag="close"),
        "balances": private(
            "balances", "balance", "balance", snapshot="balances", on_lag="snapshot", buffer_count=100
        ),
        "positions": Policy(pattern="positions", private=True, available=False, event="position"),
    }


@attrs.frozen(kw_only=True)
class Settings:
    """All that is configured. ``transports`` and ``sources`` hold the settings of those that are on, by name."""

    server: ServerSettings = option(factory=ServerSettings, doc="Ports and the life of a connection.")
    limits: LimitSettings = option(
        factory=LimitSettings, doc="What one client, one address and all together may use."
    )
    auth: AuthSettings = option(factory=AuthSettings, doc="Who clients are.")
    provider: ProviderSettings = option(
        factory=ProviderSettings,
        doc="How back ends are asked for first states; which, is said by a namespace's provider.",
    )
    tiers: Tiers = option(factory=Tiers, doc="What clients may use, by the tier in their credentials.")
    channels: ChannelSettings = option(
        factory=ChannelSettings, doc="What the holes in the namespaces' patterns may hold."
    )
    namespaces: Mapping[str, Policy] = option(
        factory=default_namespaces,
        doc="Which channels there are and how they are treated. The first pattern that fits a name wins. "
        "These are the defaults; a configuration that defines any namespace replaces them all.",
        check=_check_namespace,
    )
    transports: Mapping[str, Any] = option(
        factory=dict, doc="The ways in for clients. All that are installed are on, unless enabled = false."
    )
    sources: Mapping[str, Any] = option(
        factory=dict,
        doc="Where events come from. A source is on when its section is there, unless enabled = false.",
    )
    logging: LogSettings = option(factory=LogSettings, doc="JSON lines on stdout.")

    def __attrs_post_init__(self) -> None:
        check_relations(self.namespaces)
