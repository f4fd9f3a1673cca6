"""A port: accepts connections, reads the first head of each, and hands the stream to who claims it.

WebSocket upgrades go to the transport that mounted the path; all else goes to hypercorn, whose requests end
in the handlers that were mounted. Every connection's failure ends here, in ``_serve_connection``.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import hmac
import logging
import ssl
from collections.abc import Iterable, Mapping

import attrs
import trio
from hypercorn.trio.worker_context import WorkerContext

from hub.app.front.admission import Admission
from hub.app.front.answers import refusal_response
from hub.app.front.asgi import make_config, serve_http
from hub.app.front.direct import serve_direct
from hub.app.front.guard import End, Head, Refused, RequestGuard
from hub.app.front.stream import PeerStream, PlainPeerStream
from hub.core.contracts import DirectHandler, HttpHandler, Request, StreamingExchange, UpgradeHandler
from hub.sansio.errors import ErrorCode

logger = logging.getLogger(__name__)

_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@attrs.frozen(kw_only=True)
class PortSettings:
    """Times in seconds, sizes in bytes; 0 connections means no bound."""

    head_size: int = 16 * 1024
    head_timeout: float = 5.0
    first_byte_timeout: float = 10.0
    keep_alive: float = 75.0
    connections: int = 20_000
    connections_per_address: int = 0
    pending_per_address: int = 0
    user_timeout: float = 75.0
    not_sent_low_water: int = 128 * 1024
    send_buffer: int = 0
    cors_origins: tuple[str, ...] = ()
    takes_commands_of_pages: bool = True
    #: SHA-256 of the key that every request must bring; empty: none.
    key_hash: str = ""
    tls: ssl.SSLContext | None = None


class Port:
    """One listening address with what is mounted on it (``hub.core.contracts.Mounts``)."""

    def __init__(self, name: str, settings: PortSettings) -> None:
        self.name = name
        self.is_draining = False
        self._settings = settings
        self._handlers: dict[str, dict[str, HttpHandler]] = {}
        self._direct: dict[tuple[str, str], DirectHandler] = {}
        self._upgrades: dict[str, UpgradeHandler] = {}
        self._admission = Admission(total=settings.connections, per_address=settings.connections_per_address)
        self._fallbacks = Admission(total=settings.connections, per_address=settings.connections_per_address)
        self._pending = Admission(total=0, per_address=settings.pending_per_address)
        self._config = make_config(keep_alive=settings.keep_alive, head_size=settings.head_size)
        self._context = WorkerContext(None)
        self._open: set[trio.SocketStream] = set()
        self._complained_at = -60.0

    # --- mounting -----------------------------------------------------------------------------------------

    def mount_http(
        self,
        method: str,
        path: str,
        handler: HttpHandler,
        *,
        is_stream: bool = False,
        is_fallback: bool = False,
    ) -> None:
        """See ``hub.core.contracts.Mounts``."""
        if is_stream:
            handler = self._admitting(handler, self._fallbacks if is_fallback else self._admission)
        self._handlers.setdefault(path, {})[method] = handler

    def mount_direct(self, method: str, path: str, handler: DirectHandler) -> None:
        """For short requests that come by the thousand (``hub.app.front.direct``)."""
        self._direct[method, path] = handler
        self.mount_http(method, path, handler)

    def mount_upgrade(self, path: str, handler: UpgradeHandler) -> None:
        self._upgrades[path] = handler

    def _admitting(self, handler: HttpHandler, admission: Admission) -> HttpHandler:
        async def admitted(exchange: StreamingExchange) -> None:
            self._check_not_draining()
            with admission.admit(exchange.request.peer):
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
                nursery.start_soon(self._accept, listener, nursery)
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
        await self._context.terminated.set()

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        while True:  # noqa: ASYNC913  # accept() is the checkpoint, in an `await` that the linter cannot see through
            try:
                stream = await listener.accept()
            except trio.ClosedResourceError:
                return
            except OSError as error:
                if error.errno not in _OUT_OF_DESCRIPTORS:
                    raise
                # trio 0.35's serve_listeners logs a traceback for each try, ten times a second.
                self._complain("cannot accept connections", error)
                await trio.sleep(0.1)
            else:
                nursery.start_soon(self._serve_connection, stream)

    def _complain(self, text: str, error: OSError) -> None:
        now = trio.current_time()
        if now - self._complained_at >= 10.0:
            self._complained_at = now
            logger.error(text, extra={"port": self.name, "error": str(error)})

    async def _serve_connection(self, raw: trio.SocketStream) -> None:
        try:
            peer = raw.socket.getpeername()[0]
            self._set_options(raw)
        except OSError:  # gone already
            await trio.aclose_forcefully(raw)
            return
        self._open.add(raw)
        try:
            if (stream := await self._open_stream(raw)) is not None:
                await self._serve_stream(stream, peer)
        finally:
            self._open.discard(raw)

    async def _serve_stream(self, stream: PeerStream, peer: str) -> None:
        try:
            await self._dispatch(stream, peer)
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

    async def _dispatch(self, stream: PeerStream, peer: str) -> None:
        settings = self._settings
        guard = RequestGuard(peer=peer, max_head=settings.head_size)
        try:
            with self._pending.admit(peer):
                head = await self._read_head(stream, guard, settings.first_byte_timeout)
            while head is not None and (direct := self._direct.get((head.request.method, head.request.path))):
                self._check_caller(head.request)
                if not await serve_direct(stream, guard, head.request, direct) or self.is_draining:
                    return
                head = await self._read_head(stream, guard, settings.keep_alive)
            if head is None:
                return
            if (upgrade := self._find_upgrade(head.request)) is not None:
                with self._admission.admit(peer):
                    stream.unread(guard.pending)
                    await upgrade(head.request, stream)
                return
        except Refused as refused:
            await stream.send_all(refusal_response(refused))
            return
        await serve_http(
            stream,
            guard,
            head,
            self._find_handler,
            config=self._config,
            context=self._context,
            head_timeout=settings.head_timeout,
            response_headers=self._response_headers,
        )

    async def _read_head(self, stream: PeerStream, guard: RequestGuard, patience: float) -> Head | None:
        """The next head, whose first byte comes within ``patience`` seconds; None where there is none."""
        if (head := _next_head(guard)) is not None:
            return head
        if not guard.is_waiting_for_head:
            with trio.move_on_after(patience) as silence:
                guard.feed(await stream.receive_some())
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

    # --- routing ------------------------------------------------------------------------------------------

    def _find_upgrade(self, request: Request) -> UpgradeHandler | None:
        handler = self._upgrades.get(request.path)
        if handler is None:
            if _is_websocket(request):
                self._find_handler(request)
                raise Refused(400, "no WebSocket here")
            return None
        _check_upgrade(request)
        self._check_not_draining()
        return handler

    def _check_not_draining(self) -> None:
        if self.is_draining:
            raise Refused(503, "going away", code=ErrorCode.UNAVAILABLE, headers={"retry-after": "1"})

    def _check_caller(self, request: Request) -> None:
        """On the operators' port: who may call at all. Raises Refused."""
        if self._settings.key_hash and not _has_key(request, self._settings.key_hash):
            headers = {"www-authenticate": "ApiKey"}
            raise Refused(401, "needs an API key", code=ErrorCode.UNAUTHENTICATED, headers=headers)
        # A page of any site can have the browser post to a port on this machine, and says so by an Origin.
        if (
            not self._settings.takes_commands_of_pages
            and request.method == "POST"
            and "origin" in request.headers
        ):
            raise Refused(403, "not for web pages", code=ErrorCode.FORBIDDEN)

    def _find_handler(self, request: Request) -> HttpHandler:
        self._check_caller(request)
        if request.path in self._upgrades:  # on a connection that is kept alive
            _check_upgrade(request)
        methods = self._handlers.get(request.path) or self._handlers.get(_parent(request.path))
        if methods is None:
            raise Refused(404, "no such path")
        handler = methods.get(request.method)
        if handler is None and request.method == "OPTIONS" and self._settings.cors_origins:
            return _preflight(sorted(methods))
        if handler is None:
            allow = ", ".join(sorted(methods))
            raise Refused(405, f"use {allow}", code=ErrorCode.INVALID_METHOD, headers={"allow": allow})
        return handler

    def _response_headers(self, request: Request) -> Mapping[str, str]:
        origins = self._settings.cors_origins
        origin = request.headers.get("origin")
        if not origins:
            return {}
        if origin is None or ("*" not in origins and origin not in origins):
            return {"vary": "origin"}
        return {
            "vary": "origin",
            "access-control-allow-origin": origin,
            "access-control-expose-headers": "etag, retry-after, link",
        }


def _next_head(guard: RequestGuard) -> Head | None:
    """The next head, if it is there; what is left of the request before it is passed over."""
    while (event := guard.next_event()) is not None:
        if isinstance(event, Head):
            return event
        assert isinstance(event, End)
    return None


def _has_key(request: Request, key_hash: str) -> bool:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    digest = hashlib.sha256(key.strip().encode("latin-1")).hexdigest()
    return scheme.lower() == "apikey" and hmac.compare_digest(digest, key_hash)


def _parent(path: str) -> str:
    """``/history/a`` is found at ``/history/*``."""
    return path[: path.find("/", 1) + 1] + "*" if path.count("/") > 1 else ""


def _preflight(methods: list[str]) -> HttpHandler:
    async def answer(exchange: StreamingExchange) -> None:
        headers = {
            "access-control-allow-methods": ", ".join(methods),
            "access-control-allow-headers": "authorization, content-type, last-event-id",
            "access-control-max-age": "600",
        }
        await exchange.respond(204, b"", headers)

    return answer


def _is_websocket(request: Request) -> bool:
    tokens = request.headers.get("connection", "").lower().split(",")
    return request.headers.get("upgrade", "").strip().lower() == "websocket" and "upgrade" in map(
        str.strip, tokens
    )


def _check_upgrade(request: Request) -> None:
    """Raises Refused unless the request is a WebSocket handshake of RFC 6455, section 4.2.1."""
    upgrade = {"upgrade": "websocket", "connection": "upgrade, close"}
    if request.method != "GET":
        raise Refused(405, "use GET", code=ErrorCode.INVALID_METHOD, headers={"allow": "GET"})
    if not _is_websocket(request) or request.http_version != "1.1":
        raise Refused(426, "this path is a WebSocket", headers=upgrade)
    if request.headers.get("sec-websocket-version") != "13":
        raise Refused(426, "only WebSocket version 13", headers={**upgrade, "sec-websocket-version": "13"})
    try:
        key = base64.b64decode(request.headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        raise Refused(400, "a WebSocket handshake has no body")
    if len(key) != 16:
        raise Refused(400, "Sec-WebSocket-Key must be 16 bytes in base64")
