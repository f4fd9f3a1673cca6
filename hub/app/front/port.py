"""A port: accepts connections, reads the first head of each, and hands the stream to who claims it.

WebSocket upgrades go to the transport that mounted the path; all else goes to hypercorn, whose requests end
in the handlers that were mounted. Every connection's failure ends here, in ``_serve_connection``.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TypeVar

import attrs
import trio
from hypercorn.trio.worker_context import WorkerContext

from hub.app.front.accepting import accept_connections
from hub.app.front.admission import Admission
from hub.app.front.answers import refusal_response
from hub.app.front.asgi import make_config, serve_http
from hub.app.front.callers import Callers
from hub.app.front.direct import serve_direct
from hub.app.front.forwarded import Network
from hub.app.front.guard import End, Head, Refused, RequestGuard
from hub.app.front.origins import Origins
from hub.app.front.peers import Peer, make_peer
from hub.app.front.rates import AddressRates
from hub.app.front.refusals import Refusals
from hub.app.front.routes import Routes
from hub.app.front.stream import PeerStream, PlainPeerStream
from hub.core.contracts import (
    Authenticator,
    DirectHandler,
    Exchange,
    HttpHandler,
    Request,
    StreamingExchange,
    UpgradeHandler,
)
from hub.sansio.errors import ErrorCode

logger = logging.getLogger(__name__)

E = TypeVar("E", bound=Exchange)


@attrs.frozen(kw_only=True)
class PortSettings:
    """Times in seconds, sizes in bytes, rates per second; 0 connections means no bound, a rate of 0 no limit."""

    head_size: int = 16 * 1024
    head_timeout: float = 5.0
    first_byte_timeout: float = 10.0
    keep_alive: float = 75.0
    connections: int = 20_000
    connections_per_address: int = 0
    pending_per_address: int = 0
    requests_per_address: float = 0.0
    failed_logins_per_address: float = 5.0
    #: Whose Forwarded or X-Forwarded-For says who a client is.
    trusted_proxies: tuple[Network, ...] = ()
    #: Whose X-User-Id and X-User-Tier are handed on.
    gateway_networks: tuple[Network, ...] = ()
    #: None: everybody is anonymous.
    authenticator: Authenticator | None = None
    identify_timeout: float = 10.0
    user_timeout: float = 75.0
    not_sent_low_water: int = 128 * 1024
    send_buffer: int = 0
    cors_origins: tuple[str, ...] = ()
    takes_commands_of_pages: bool = True
    #: SHA-256 of the key that every request must bring; empty: none.
    key_hash: str = ""
    tls: ssl.SSLContext | None = None


@attrs.frozen
class PortStatistics:
    """``refused`` counts by the limit that was reached: requests_per_ip, logins_per_ip, connections_per_ip,
    connections, pending_per_ip."""

    refused: Mapping[str, int]


class Port:
    """One listening address with what is mounted on it (``hub.core.contracts.Mounts``)."""

    def __init__(self, name: str, settings: PortSettings) -> None:
        self.name = name
        self.is_draining = False
        self._settings = settings
        self._refusals = refusals = Refusals(name)
        total, per_address = settings.connections, settings.connections_per_address
        self._admission = Admission(refusals, total=total, per_address=per_address)
        self._fallbacks = Admission(refusals, total=total, per_address=per_address)
        self._pending = Admission(
            refusals, total=0, per_address=settings.pending_per_address, limit="pending"
        )
        self._rates = AddressRates(
            refusals,
            requests=settings.requests_per_address,
            failed_logins=settings.failed_logins_per_address,
        )
        self._callers = _make_callers(settings, self._rates)
        self._origins = Origins(settings.cors_origins)
        self._routes = Routes(
            self._origins,
            key_hash=settings.key_hash,
            takes_commands_of_pages=settings.takes_commands_of_pages,
        )
        self._config = make_config(keep_alive=settings.keep_alive, head_size=settings.head_size)
        self._context = WorkerContext(None)
        self._open: set[trio.SocketStream] = set()
        self._silent: set[trio.CancelScope] = set()

    def statistics(self) -> PortStatistics:
        return PortStatistics(self._refusals.counts)

    # --- mounting -----------------------------------------------------------------------------------------

    def mount_http(
        self,
        method: str,
        path: str,
        handler: HttpHandler,
        *,
        is_stream: bool = False,
        is_fallback: bool = False,
        is_open: bool = False,
    ) -> None:
        """See ``hub.core.contracts.Mounts``. ``is_open``: it is the same for everybody, so that credentials are not
        looked at."""
        if is_stream:
            handler = self._admitting(handler, self._fallbacks if is_fallback else self._admission)
        if self._callers is not None and not is_open:
            handler = _identifying(handler, self._callers)
        self._routes.add(method, path, handler)

    def mount_direct(self, method: str, path: str, handler: DirectHandler) -> None:
        """For short requests that come by the thousand (``hub.app.front.direct``)."""
        self.mount_http(method, path, handler)
        self._routes.add_direct(
            method, path, handler if self._callers is None else _identifying(handler, self._callers)
        )

    def mount_upgrade(self, path: str, handler: UpgradeHandler) -> None:
        """See ``hub.core.contracts.Mounts``."""
        self._routes.add_upgrade(path, handler)

    def _admitting(self, handler: HttpHandler, admission: Admission) -> HttpHandler:
        async def admitted(exchange: StreamingExchange) -> None:
            self._check_not_draining()
            with _place(admission, exchange.request):
                await handler(exchange)

        return admitted

    # --- serving ------------------------------------------------------------------------------------------

    async def serve(
        self,
        listeners: Iterable[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serves connections until cancelled. The listeners are the caller's to close; closing them ends
        accepting, not serving."""
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(accept_connections, listener, nursery, self._serve_connection, self.name)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                # hypercorn 0.18 shields its writes without a deadline: a client that does not read would keep
                # us here. Closing its socket ends the wait.
                for raw in self._open:
                    raw.socket.close()

    async def drain(self) -> None:
        """Idle connections end now, the others after their answer."""
        self.is_draining = True
        for scope in self._silent:
            scope.cancel()
        await self._context.terminated.set()

    async def _serve_connection(self, raw: trio.SocketStream) -> None:
        try:
            address = raw.socket.getpeername()[0]
            self._set_options(raw)
        except OSError:  # gone already
            await trio.aclose_forcefully(raw)
            return
        settings = self._settings
        peer = make_peer(address, proxies=settings.trusted_proxies, gateways=settings.gateway_networks)
        self._open.add(raw)
        try:
            with ExitStack() as pending:
                await self._serve_peer(raw, peer, pending)
        finally:
            self._open.discard(raw)
            raw.socket.close()

    async def _serve_peer(self, raw: trio.SocketStream, peer: Peer, pending: ExitStack) -> None:
        """``pending`` holds the place of a connection that has not asked for anything yet, from its TLS handshake
        on."""
        try:
            if not peer.is_proxy:
                pending.enter_context(self._pending.admit(peer.address))
        except Refused as refused:
            if self._settings.tls is None:  # else a word about it would cost the handshake
                await self._serve_stream(PlainPeerStream(raw), partial(_refuse, refused=refused))
            return
        if (stream := await self._open_stream(raw)) is not None:
            await self._serve_stream(stream, partial(self._dispatch, peer=peer, pending=pending))

    async def _serve_stream(self, stream: PeerStream, serve: Callable[[PeerStream], Awaitable[None]]) -> None:
        try:
            await serve(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel):
            pass
        except* Exception:
            logger.exception("connection failed", extra={"port": self.name})
        finally:
            await stream.close_for_good()  # noqa: ASYNC102  # shielded, with a deadline of its own

    def _set_options(self, raw: trio.SocketStream) -> None:
        settings, tcp = self._settings, trio.socket.IPPROTO_TCP
        if settings.user_timeout and hasattr(trio.socket, "TCP_USER_TIMEOUT"):
            # Ends connections whose peer is gone without a word, also where a library waits to send.
            raw.setsockopt(tcp, trio.socket.TCP_USER_TIMEOUT, int(settings.user_timeout * 1000))
        if settings.not_sent_low_water and hasattr(trio.socket, "TCP_NOTSENT_LOWAT"):
            # What waits in the kernel can be dropped no more, so let little wait there.
            raw.setsockopt(tcp, trio.socket.TCP_NOTSENT_LOWAT, settings.not_sent_low_water)
        if settings.send_buffer:
            raw.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, settings.send_buffer)

    async def _open_stream(self, raw: trio.SocketStream) -> PeerStream | None:
        if self._settings.tls is None:
            return PlainPeerStream(raw)
        stream = trio.SSLStream(raw, self._settings.tls, server_side=True)
        with trio.move_on_after(self._settings.first_byte_timeout):
            try:
                await stream.do_handshake()
                return PeerStream(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        await trio.aclose_forcefully(raw)
        return None

    async def _dispatch(self, stream: PeerStream, *, peer: Peer, pending: ExitStack) -> None:
        settings = self._settings
        guard = RequestGuard(peer=peer, max_head=settings.head_size)
        try:
            head = await self._read_head(stream, guard, settings.first_byte_timeout)
            while head is not None:
                direct = self._find_direct(head.request)
                if direct is None:
                    head = await self._serve_head(stream, guard, head, pending)
                    continue
                pending.close()
                is_kept_alive = await serve_direct(stream, guard, head.request, direct, self._origins.headers)
                if not is_kept_alive or self.is_draining:
                    return
                head = await self._read_head(stream, guard, settings.keep_alive, is_idle=True)
        except Refused as refused:
            await _refuse(stream, refused)

    def _find_direct(self, request: Request) -> DirectHandler | None:
        """Who answers at once, if anybody. Here requests are counted; those that hypercorn reads, in ``_serve_head``."""
        try:
            self._rates.check_request(request)
        except Refused as refused:
            return _refusing(refused)
        return self._routes.find_direct(request)

    async def _serve_head(
        self, stream: PeerStream, guard: RequestGuard, head: Head, pending: ExitStack
    ) -> Head | None:
        """Serves a request, and as many after it as are for the same server; the first that is not, if any."""
        request = head.request
        if (upgrade := self._routes.find_upgrade(request)) is not None:
            await self._serve_upgrade(stream, guard, request, upgrade, pending)
            return None
        pending.close()

        async def handle(exchange: StreamingExchange) -> None:
            if exchange.request is not request:  # which was counted before
                self._rates.check_request(exchange.request)
            await self._routes.find_handler(exchange.request)(exchange)

        return await serve_http(
            stream,
            guard,
            head,
            handle,
            is_for_others=self._routes.is_upgrade,
            config=self._config,
            context=self._context,
            head_timeout=self._settings.head_timeout,
            response_headers=self._origins.headers,
        )

    async def _serve_upgrade(
        self,
        stream: PeerStream,
        guard: RequestGuard,
        request: Request,
        handler: UpgradeHandler,
        pending: ExitStack,
    ) -> None:
        if self._callers is not None:
            request = await self._callers.introduce(request)
        pending.close()
        self._check_not_draining()
        with _place(self._admission, request):
            stream.unread(guard.pending)
            await handler(request, stream)

    async def _read_head(
        self, stream: PeerStream, guard: RequestGuard, patience: float, *, is_idle: bool = False
    ) -> Head | None:
        """The next head, whose first byte comes within ``patience`` seconds; None where there is none. A connection
        that ``is_idle`` need not wait for it when the port is drained."""
        if (head := _next_head(guard)) is not None:
            return head
        if not guard.is_waiting_for_head:
            with trio.move_on_after(patience) as silence:
                if is_idle:
                    self._silent.add(silence)
                try:
                    guard.feed(await stream.receive_some())
                finally:
                    self._silent.discard(silence)
            if silence.cancelled_caught:
                return None
        with trio.move_on_after(self._settings.head_timeout):
            while (head := _next_head(guard)) is None:
                data = await stream.receive_some()
                if not data:
                    return None
                guard.feed(data)
            return head
        raise Refused(408, "the request's head took too long")

    def _check_not_draining(self) -> None:
        if self.is_draining:
            raise Refused(503, "going away", code=ErrorCode.UNAVAILABLE, headers={"retry-after": "1"})


def _make_callers(settings: PortSettings, rates: AddressRates) -> Callers | None:
    if settings.authenticator is None:
        return None
    return Callers(settings.authenticator, rates, patience=settings.identify_timeout)


def _identifying(handler: Callable[[E], Awaitable[None]], callers: Callers) -> Callable[[E], Awaitable[None]]:
    async def identified(exchange: E) -> None:
        exchange.request = await callers.identify(exchange.request)
        await handler(exchange)

    return identified


def _place(admission: Admission, request: Request) -> AbstractContextManager[None]:
    """Only the anonymous are counted by their address; of users the broker knows more (stream-v2.md, "Limits")."""
    return admission.admit(request.peer, counts_by_address=request.identity.user is None)


async def _refuse(stream: PeerStream, refused: Refused) -> None:
    await stream.send_all(refusal_response(refused))


def _refusing(refused: Refused) -> DirectHandler:
    async def refuse(exchange: Exchange) -> None:
        await trio.lowlevel.checkpoint()
        raise refused

    return refuse


def _next_head(guard: RequestGuard) -> Head | None:
    """The next head, if it is there; what is left of the request before it is passed over."""
    while (event := guard.next_event()) is not None:
        if isinstance(event, Head):
            return event
        assert isinstance(event, End)
    return None
