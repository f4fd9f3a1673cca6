"""Where hypercorn meets the handlers: one exchange per ASGI call. hypercorn is known to this folder alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

from hub.app.front import compression
from hub.app.front.answers import answer, answer_headers, merged, refusal_response
from hub.app.front.guard import Body, End, Head, Refused, RequestGuard
from hub.app.front.stream import PeerStream
from hub.core.contracts import BodyTooLarge, HttpHandler, Request


def make_config(*, keep_alive: float, head_size: int) -> Config:
    """hypercorn's configuration: HTTP/1.1 only, silent, patient with handlers."""
    config = Config()
    config.alpn_protocols = ["http/1.1"]
    config.include_server_header = False
    config.keep_alive_timeout = keep_alive
    # Our guard has measured the head already; what it writes anew may be a little longer.
    config.h11_max_incomplete_size = head_size * 2
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


class GuardedStream:
    """What hypercorn reads: only what the guard let pass, and no request before the one before it is answered.
    A refusal ends the input; it is answered at the end. So does a request that is not hypercorn's, a WebSocket's on
    a connection that was kept alive: it is ``left_over``, and the stream lives on.

    It has the few methods that hypercorn 0.18 calls of a Trio stream.
    """

    def __init__(
        self,
        stream: PeerStream,
        guard: RequestGuard,
        head: Head,
        is_for_others: Callable[[Request], bool],
        *,
        head_timeout: float,
    ) -> None:
        self._stream = stream
        self._guard = guard
        self._is_for_others = is_for_others
        self._head_timeout = head_timeout
        self.left_over: Head | None = None
        self._head_due = math.inf
        self._clean = bytearray()
        self._held: Head | None = None
        self._refused: Refused | None = None
        self._is_chunked = False
        self._is_busy = False
        self._is_closed = False
        self._idle = trio.lowlevel.ParkingLot()
        self.request = head.request
        self.socket = stream.socket
        self._pass(head)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        try:
            while not self._clean and self._refused is None:
                event = self._held or self._guard.next_event()
                if isinstance(event, Head) and self._is_busy:
                    self._held = event
                    await self._wait_idle()
                    if self._is_closed:
                        return b""
                elif isinstance(event, Head) and self._is_for_others(event.request):
                    self.left_over = event
                    return b""
                elif event is not None:
                    self._held = None
                    self._pass(event)
                elif data := await self._receive_in_time(max_bytes):
                    self._guard.feed(data)
                else:
                    return b""
        except Refused as refused:
            self._refused = refused
        if self._refused is not None and not self._clean:
            # Requests before the one that is refused are answered first, unless their answer never ends.
            with trio.move_on_after(self._head_timeout):
                await self._wait_idle()
        clean, self._clean = bytes(self._clean), bytearray()
        return clean

    def note_idle(self) -> None:
        """hypercorn has answered a request and is ready for the next."""
        self._is_busy = False
        self._idle.unpark_all()

    async def _wait_idle(self) -> None:
        while self._is_busy and not self._is_closed:
            await self._idle.park()

    def _pass(self, event: Head | Body | End) -> None:
        match event:
            case Head():
                self._clean += event.clean
                self._is_chunked, self._is_busy = event.is_chunked, True
                self.request = event.request
            case Body(data=data):
                self._clean += b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data
            case End() if self._is_chunked:
                self._clean += b"0\r\n\r\n"

    async def _receive_in_time(self, max_bytes: int | None) -> bytes:
        if not self._guard.is_waiting_for_head:
            self._head_due = math.inf
            return await self._stream.receive_some(max_bytes)
        self._head_due = min(self._head_due, trio.current_time() + self._head_timeout)
        with trio.move_on_at(self._head_due):
            return await self._stream.receive_some(max_bytes)
        raise Refused(408, "the request's head took too long")

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._idle.unpark_all()
            if self._refused is not None and not self._is_busy:
                try:
                    await self._stream.send_all(refusal_response(self._refused))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
            if self.left_over is None:
                await self._stream.aclose()
        await trio.lowlevel.checkpoint()


async def serve_http(
    stream: PeerStream,
    guard: RequestGuard,
    head: Head,
    handle: HttpHandler,
    *,
    is_for_others: Callable[[Request], bool],
    config: Config,
    context: WorkerContext,
    head_timeout: float,
    response_headers: Callable[[Request], Mapping[str, str]],
) -> Head | None:
    """Serves the requests of one connection, the first of which has ``head``; up to the first that is
    ``is_for_others``, which is returned."""
    guarded = GuardedStream(stream, guard, head, is_for_others, head_timeout=head_timeout)

    async def app(scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
        if scope["type"] != "http":  # hypercorn 0.18 takes WebSockets too; those never come here
            return
        await answer(AsgiExchange(guarded.request, receive, send, stream, response_headers), handle)

    server: Any = _Server(app, config, context, {}, guarded)  # type: ignore[arg-type]
    await server.run()
    return guarded.left_over


class _Server(TCPServer):
    """hypercorn 0.18 keeps a connection whose input has ended until its keep-alive timeout; here it ends. And it
    gets into disorder over pipelined requests, so it gets them one by one."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        await super().protocol_send(event)
        if isinstance(event, Updated) and event.idle:
            guarded: Any = self.stream
            guarded.note_idle()


class AsgiExchange:
    """``hub.core.contracts.Exchange`` on an ASGI call."""

    def __init__(
        self,
        request: Request,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        stream: PeerStream,
        response_headers: Callable[[Request], Mapping[str, str]],
    ) -> None:
        self.request = request
        self.is_answered = False
        self._receive = receive
        self._send = send
        self._stream = stream
        self._response_headers = response_headers

    @property
    def is_chunked(self) -> bool:
        return self.request.http_version == "1.1"

    async def read_body(self, limit: int) -> bytes:
        length = self.request.headers.get("content-length", "0")
        if int(length) > limit:
            raise BodyTooLarge(f"a body is at most {limit} bytes")
        body = bytearray()
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise trio.EndOfChannel
            body += event["body"]
            if len(body) > limit:
                raise BodyTooLarge(f"a body is at most {limit} bytes")
            if not event["more_body"]:
                return bytes(body)

    async def respond(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        fields = answer_headers(status, body, headers)
        if compression.is_compressible(status, len(body), fields):
            body, fields = await self._compressed(body, fields)
        await self._start(status, fields)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _compressed(self, body: bytes, fields: dict[str, str]) -> tuple[bytes, dict[str, str]]:
        """The answer as the client takes it; caches are told that others may take it otherwise."""
        fields = dict(merged(fields, {"vary": "accept-encoding"}))
        is_accepted = compression.accepts_gzip(self.request.headers.get("accept-encoding", ""))
        packed = await compression.compress(body) if is_accepted else None
        return (
            (body, fields) if packed is None else (packed, compression.encoded_headers(fields, len(packed)))
        )

    async def open_stream(
        self, headers: Mapping[str, str], *, keepalive: tuple[bytes, float]
    ) -> StreamingLink:
        await self._start(200, headers)
        return StreamingLink(self, self._stream, keepalive)

    async def end_stream(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def wait_disconnected(self) -> None:
        # hypercorn 0.18: after the peer has left, sending goes on succeeding; only this tells.
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.is_answered = True
        all_headers = merged(headers, self._response_headers(self.request))
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in all_headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": fields})


class StreamingLink:
    """The link of an endless HTTP answer. It writes to the peer's stream itself: one ASGI send costs about ten
    times a raw write. hypercorn has sent the head, and sends the last chunk."""

    keepalive_is_enough = True

    def __init__(self, exchange: AsgiExchange, stream: PeerStream, keepalive: tuple[bytes, float]) -> None:
        self._exchange = exchange
        self._stream = stream
        self.keepalive = keepalive
        for name in ("try_send", "wait_writable"):  # a fast path where the stream has one
            if hasattr(stream, name):
                setattr(self, name, getattr(stream, name))

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def receive(self) -> str | bytes:
        await self._exchange.wait_disconnected()
        raise trio.EndOfChannel

    async def aclose(self, code: int, reason: str) -> None:
        # hypercorn 0.18 shields the last chunk without a deadline, so it is sent only when there is room for it.
        await self._stream.wait_send_all_might_not_block()
        await self._exchange.end_stream()
