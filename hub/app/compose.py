"""Puts a hub together from its settings, and keeps it running.

Lifetimes: sources stop first, then the ports stop accepting, then clients are sent away, and the operators'
port goes last, so that it can be watched.
"""

from __future__ import annotations

import logging
import resource
import signal
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import attrs
import trio

from hub.app.admin.pages import AdminPages
from hub.app.admin.publishing import PublishHandler, PublishSettings
from hub.app.front.port import Port, PortSettings
from hub.app.front.tickets import TicketHandler
from hub.app.metrics import HubCollector, make_registry
from hub.app.page import mount_page
from hub.app.settings import ConfigurationError, Settings
from hub.auth import AuthConfigurationError, HubAuthenticator, parse_networks
from hub.core.broker import Broker, BrokerLimits, ExpiryRules
from hub.core.contracts import Source, SourceStatistics, Transport
from hub.core.registry import RegistryLimits
from hub.providers import ChannelStates, HttpSnapshots
from hub.sansio.drops import SlowRules
from hub.sansio.names import Namespaces

logger = logging.getLogger(__name__)
#: What service managers and scripts wait for; logged at any level (``hub.app.logs``).
lifecycle = logging.getLogger("hub.lifecycle")


class PluginFailed(Exception):
    """A plugin ended unexpectedly; its failure is the cause and has been logged."""

    def __init__(self, plugin: str, error: Exception) -> None:
        super().__init__(f"{plugin} failed: {error}")
        self.__cause__ = error


@attrs.frozen
class Addresses:
    """Where a hub listens, as URLs; ``admin`` is None where that port is off."""

    public: str
    admin: str | None


class Hub:
    """One node. ``run`` is its whole life."""

    def __init__(
        self, settings: Settings, transports: Mapping[str, type], sources: Mapping[str, type]
    ) -> None:
        self._settings = settings
        server = settings.server
        self._authenticator = _authenticator(settings)
        asks = any(policy.provider for policy in settings.namespaces.values())
        self._provider = HttpSnapshots(settings.provider) if asks else None
        self.broker = Broker(
            _namespaces(settings),
            node=server.node,
            limits=_broker_limits(settings),
            tiers=settings.tiers,
            authenticator=self._authenticator,
            fetch_state=None if self._provider is None else ChannelStates(self._provider).fetch,
        )
        self._transports: list[Transport] = [
            transports[name](section) for name, section in settings.transports.items()
        ]
        self._sources: dict[str, Source] = {
            name: sources[name](section) for name, section in settings.sources.items()
        }
        self._public = Port("public", _public_port(settings, self._authenticator))
        self._admin = Port("admin", _admin_port(settings))
        self._caught_up: set[str] = set()
        self._leave = trio.Event()
        self._maintenance: float | None = None
        self._failure: tuple[str, Exception] | None = None
        self._mount()

    @property
    def is_ready(self) -> bool:
        """Whether all sources have caught up and clients are welcome."""
        return self._caught_up == set(self._sources) and not self._leave.is_set()

    def statistics(self) -> dict[str, SourceStatistics]:
        return {name: source.statistics() for name, source in self._sources.items()}

    def start_drain(self, maintenance: float | None = None) -> None:
        """The node leaves: see ``run``. ``maintenance``: clients are told to stay away for so many seconds."""
        self._maintenance = maintenance
        self._leave.set()

    async def run(self, *, task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until ``start_drain`` or a signal; then stops sources, sends clients away, and returns.

        Reports its addresses when it listens; logs ``ready`` when the sources have caught up. A plugin's
        unexpected failure ends it, after the drain, with that failure.
        """
        _raise_descriptor_limit()
        server = self._settings.server
        async with AsyncExitStack() as resources:
            public = await _listen(resources, server.bind, server.backlog)
            admin = await _listen(resources, server.admin_bind, server.backlog) if server.admin_bind else []
            if self._provider is not None:
                await resources.enter_async_context(self._provider)
            addresses = Addresses(
                _url(public[0], is_tls=bool(server.tls_certificate)),
                _url(admin[0], is_tls=False) if admin else None,
            )
            async with trio.open_nursery() as nursery:
                await self._start(nursery, public, admin)
                task_status.started(addresses)
                fields = {"public": addresses.public, "admin": addresses.admin, "node": self.broker.node}
                lifecycle.info("listening", extra=fields)
                await self._run_sources(fields)
                for listener in public:
                    await listener.aclose()
                await self._drain()
                nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise PluginFailed(*self._failure)

    async def _start(
        self,
        nursery: trio.Nursery,
        public: list[trio.SocketListener],
        admin: list[trio.SocketListener],
    ) -> None:
        """Starts all but the sources, from the core outwards."""
        nursery.start_soon(self._obey_signals, nursery.cancel_scope)
        await nursery.start(self._authenticator.run)
        await nursery.start(self.broker.run)
        for transport in self._transports:
            serve = partial(transport.serve, self.broker, self._public)
            await nursery.start(self._watch, f"transport {transport.name}", serve)
        await nursery.start(self._public.serve, public)
        if admin:
            await nursery.start(self._admin.serve, admin)

    async def _drain(self) -> None:
        server = self._settings.server
        await self._public.drain()
        await self.broker.drain(
            window=server.drain_window, deadline=server.drain_deadline, maintenance=self._maintenance
        )
        lifecycle.info("drained", extra={"node": self.broker.node})

    async def _run_sources(self, fields: Mapping[str, Any]) -> None:
        """Runs the sources until it is time to leave."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._start_sources, nursery, fields)
            await self._leave.wait()
            lifecycle.info("draining", extra={"node": self.broker.node})
            nursery.cancel_scope.cancel()

    async def _start_sources(self, nursery: trio.Nursery, fields: Mapping[str, Any]) -> None:
        async def start(name: str, source: Source) -> None:
            await nursery.start(self._watch, f"source {name}", partial(source.run, self.broker.publish))
            self._caught_up.add(name)

        async with trio.open_nursery() as starting:
            for name, source in self._sources.items():
                starting.start_soon(start, name, source)
        if self.is_ready:
            lifecycle.info("ready", extra={**fields, "sources": sorted(self._sources)})

    async def _watch(
        self,
        plugin: str,
        run: Callable[..., Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Runs a plugin. Its unexpected failure makes the node leave, politely, and then fail."""
        is_started = False

        class Status:
            def started(self, value: None = None) -> None:
                nonlocal is_started
                is_started = True
                task_status.started(value)

        try:
            await run(task_status=Status())
        except Exception as error:
            logger.exception("plugin failed", extra={"plugin": plugin})
            self._failure = plugin, error
            self._leave.set()
        if not is_started:
            task_status.started()

    async def _obey_signals(self, life: trio.CancelScope) -> None:
        """The first signal makes the node leave, if it does not do so already; the second ends it at once."""
        is_told = False
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                lifecycle.info("signal", extra={"signal": signal.Signals(number).name})
                if number == signal.SIGHUP:  # there is nothing that could be reloaded, and no reason to end
                    continue
                if is_told:
                    life.cancel()
                is_told = True
                self._leave.set()

    def _mount(self) -> None:
        server = self._settings.server
        collector = HubCollector(
            server.node,
            self.broker.statistics,
            self.statistics,
            self._public.statistics,
            self._authenticator.statistics,
            lambda: None if self._provider is None else self._provider.statistics(),
            [transport.name for transport in self._transports],
        )
        pages = AdminPages(
            self.broker,
            self.statistics,
            lambda: self.is_ready,
            self._leave,
            self.start_drain,
            make_registry(collector),
            lambda text, fields: logger.warning(text, extra=dict(fields)),
        )
        pages.mount(self._admin)
        publishing = PublishSettings(
            body_size=server.publish_body_size,
            body_timeout=server.request_body_timeout,
            idempotency_keys=server.idempotency_keys,
            idempotency_age=server.idempotency_age,
        )
        handler = PublishHandler(self.broker.publish, publishing, trio.current_time)
        self._admin.mount_direct("POST", "/publish", handler.handle)
        tickets = TicketHandler(self._authenticator.issue_ticket)
        self._public.mount_http("POST", "/ticket", tickets.handle)
        if server.page:
            mount_page(self._public, self.broker)


def _namespaces(settings: Settings) -> Namespaces:
    channels = settings.channels
    values = {
        "market": channels.markets,
        "interval": channels.intervals,
        "depth": [str(depth) for depth in channels.depths],
    }
    return Namespaces(
        settings.namespaces.values(), {hole: allowed for hole, allowed in values.items() if allowed}
    )


def _broker_limits(settings: Settings) -> BrokerLimits:
    limits = settings.limits
    return BrokerLimits(
        params=limits.params,
        cursor_size=limits.cursor_size,
        write_deadline=limits.write_deadline,
        idle_timeout=limits.idle_timeout,
        first_state_timeout=settings.provider.timeout,
        expiry=ExpiryRules(
            warning=settings.auth.expiry_warning,
            grace=settings.auth.expiry_grace,
            closes=settings.auth.on_expiry == "close",
        ),
        slow=SlowRules(
            warn_dropped=limits.slow_warn_dropped,
            warn_window=limits.slow_warn_window,
            close_dropped=limits.slow_close_dropped,
            close_window=limits.slow_close_window,
            close_deadline=limits.slow_close_deadline,
        ),
        registry=RegistryLimits(
            channels=limits.channels_total,
            buffered_bytes=limits.buffers_total,
            book_bytes=limits.books_total,
            idle=limits.channel_idle,
        ),
    )


def _public_port(settings: Settings, authenticator: HubAuthenticator) -> PortSettings:
    server, limits = settings.server, settings.limits
    return attrs.evolve(
        _port(settings),
        pending_per_address=limits.pending_per_ip,
        connections_per_address=limits.connections_per_ip,
        requests_per_address=limits.requests_per_ip,
        failed_logins_per_address=limits.failed_logins_per_ip,
        trusted_proxies=parse_networks(server.trusted_proxies),
        gateway_networks=parse_networks(settings.auth.gateway_networks),
        authenticator=authenticator,
        cors_origins=server.cors_origins,
        tls=_tls(settings),
    )


def _admin_port(settings: Settings) -> PortSettings:
    return attrs.evolve(
        _port(settings), takes_commands_of_pages=False, key_hash=settings.server.admin_key_hash
    )


def _port(settings: Settings) -> PortSettings:
    """What both ports have in common."""
    server = settings.server
    return PortSettings(
        head_size=server.request_head_size,
        head_timeout=server.request_head_timeout,
        first_byte_timeout=server.first_byte_timeout,
        keep_alive=server.keep_alive_timeout,
        connections=settings.limits.connections,
        user_timeout=server.user_timeout,
        not_sent_low_water=server.not_sent_low_water,
        send_buffer=server.send_buffer,
    )


def _authenticator(settings: Settings) -> HubAuthenticator:
    try:
        return HubAuthenticator(settings.auth)
    except AuthConfigurationError as error:
        raise ConfigurationError([str(error)]) from None


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 and later, authenticated encryption only (operations.md, "Deployment")."""
    server = settings.server
    if not server.tls_certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(server.tls_certificate, server.tls_key)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            [f'server.tls_certificate = "{server.tls_certificate}", tls_key = "{server.tls_key}": {error}']
        ) from None
    return context


async def _listen(resources: AsyncExitStack, address: str, backlog: int) -> list[trio.SocketListener]:
    """Listeners that ``resources`` close at the end."""
    host, _, port = address.rpartition(":")
    try:
        listeners = await trio.open_tcp_listeners(int(port), host=host.strip("[]"), backlog=backlog)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror or error}") from None
    for listener in listeners:
        await resources.enter_async_context(listener)
    return listeners


def _url(listener: trio.SocketListener, *, is_tls: bool) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"{'https' if is_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _raise_descriptor_limit() -> None:
    """As many descriptors as the system allows: each client is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
