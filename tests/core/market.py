"""A small market: channels of every kind, with the rules of channels.md and buffers as small as a test needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from hub.core.broker import Broker, BrokerLimits
from hub.core.channel import Channel
from hub.core.contracts import Authenticator
from hub.core.first_states import FetchState
from hub.sansio.identity import Identity
from hub.sansio.names import Namespaces
from hub.sansio.options import Seconds
from hub.sansio.policies import Policy
from hub.sansio.tiers import AnonymousTier, Tier, Tiers

MARKETS = ("btc_tl", "eth_tl")
VALUES = {"market": MARKETS, "interval": ("1m",), "depth": ("2", "5")}

POLICIES = {
    "ticker": Policy(
        pattern="ticker@{market}", snapshot="last", payload="ticker", pace=Seconds(1.0), on_lag="latest"
    ),
    "book": Policy(pattern="orderbook@{market}", snapshot="book", payload="orderbook", on_lag="snapshot"),
    "top": Policy(
        pattern="orderbook.{depth}@{market}", snapshot="top", derived_from="orderbook@{market}",
        pace=Seconds(0.1), on_lag="latest",
    ),
    "trades": Policy(pattern="trades@{market}", snapshot="trades", payload="trades"),
    "kline": Policy(
        pattern="kline.{interval}@{market}", snapshot="last", payload="kline", pace=Seconds(1.0),
        on_lag="latest",
    ),
    "bbo": Policy(pattern="bbo@{market}", snapshot="last", payload="bbo", on_lag="latest"),
    "orders": Policy(
        pattern="orders", private=True, snapshot="orders", payload="order", parts="orders@{market}",
        on_lag="snapshot", lag_limit=0,
    ),
    "orders_market": Policy(
        pattern="orders@{market}", private=True, snapshot="orders", payload="order", on_lag="snapshot",
        lag_limit=0,
    ),
    "fills": Policy(
        pattern="fills", private=True, payload="fill", parts="fills@{market}", on_lag="close", lag_limit=0
    ),
    "fills_market": Policy(
        pattern="fills@{market}", private=True, payload="fill", on_lag="close", lag_limit=0
    ),
    "balances": Policy(
        pattern="balances", private=True, snapshot="balances", payload="balance", on_lag="snapshot",
        lag_limit=0,
    ),
}  # fmt: skip

#: No limit of any kind, for tests of something else.
UNLIMITED: dict[str, Any] = dict.fromkeys(
    (
        "channels_per_connection", "connections_per_user", "channels_per_user", "subscribes", "unsubscribes",
        "pings", "messages", "violations",
    ),
    0,
)  # fmt: skip
BOUNDLESS = Tiers(anonymous=AnonymousTier(**UNLIMITED), retail=Tier(**UNLIMITED))
ANNA, BERT = Identity("anna", "retail"), Identity("bert", "retail")


def policies(**changes: dict[str, Any]) -> tuple[Policy, ...]:
    """The market's policies, with ``changes`` by name."""
    changed = {name: attrs.evolve(policy, **changes.pop(name, {})) for name, policy in POLICIES.items()}
    assert not changes, f"no such policy: {changes}"
    return tuple(changed.values())


def make_broker(
    *extra: Policy,
    limits: BrokerLimits | None = None,
    tiers: Tiers = BOUNDLESS,
    fetch: FetchState | None = None,
    authenticator: Authenticator | None = None,
    now_ms: Callable[[], int] = lambda: 1_740_000_000_000,
    changes: Mapping[str, dict[str, Any]] | None = None,
    **more_changes: dict[str, Any],
) -> Broker:
    """A broker of the market, with ``changes`` of its policies by name; ``extra`` ones come after them."""
    return Broker(
        Namespaces((*policies(**(changes or {}), **more_changes), *extra), VALUES),
        limits=limits,
        tiers=tiers,
        authenticator=authenticator,
        fetch_state=fetch,
        now_ms=now_ms,
    )


def dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def book(*, bids: dict[str, str] | None = None, asks: dict[str, str] | None = None) -> bytes:
    """An order book's payload, by price."""
    return dump({"bids": list((bids or {}).items()), "asks": list((asks or {}).items())})


def order(number: int, market: str | None = "btc_tl", status: str = "new", **more: Any) -> dict[str, Any]:
    """An order event; ``market`` None: it does not say."""
    fields = {"orderId": number, "status": status, **more}
    return fields if market is None else {**fields, "market": market}


def fill(number: int, market: str = "btc_tl") -> dict[str, Any]:
    return {"tradeId": number, "market": market}


def candle(open_time: int, close: int, *, closed: bool = False) -> bytes:
    return dump({"openTime": open_time, "close": str(close), "closed": closed})


def channel_of(broker: Broker, name: str, user: str | None = None) -> Channel:
    channel = broker.registry.find(name, user)
    assert channel is not None
    return channel
