"""Where hypercorn meets the handlers: one exchange per ASGI call. hypercorn is known to this folder alone."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

from hub.app.front.answers import answer, answer_headers, refusal_response
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
    """What hypercorn reads: only what the guard let pass. A refusal ends the input; it is answered at the end.

    It has the few methods that hypercorn 0.18 calls of a Trio stream.
    """

    def __init__(self, stream: PeerStream, guard: RequestGuard, head: Head, *, head_timeout: float) -> None:
        self._stream = stream
        self._guard = guard
        self._head_timeout = head_timeout
        self._clean = bytearray()
        self._is_chunked = False
        self._refused: Refused | None = None
        self._is_closed = False
        self._unanswered = 0
        self._answered = trio.lowlevel.ParkingLot()
        self.socket = stream.socket
        self._pass(head)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            while not self._judge() and self._refused is None:
                data = await self._receive_in_time(max_bytes)
                if not data:
                    return b""
                self._guard.feed(data)
        except Refused as refused:
            self._refused = refused
        if self._refused is not None and not self._clean:
            # Requests before the one that is refused are answered first, unless their answer never ends.
            with trio.move_on_after(self._head_timeout):
                await self._wait_answered()
        await trio.lowlevel.checkpoint()
        clean, self._clean = bytes(self._clean), bytearray()
        return clean

    @contextmanager
    def answering(self) -> Iterator[None]:
        """A request is being answered for as long as the block runs."""
        self._unanswered += 1
        try:
            yield
        finally:
            self._unanswered -= 1
            self._answered.unpark_all()

    async def _wait_answered(self) -> None:
        while self._unanswered:
            await self._answered.park()

    def _judge(self) -> bool:
        """Lets the guard look at what came in; says whether any of it may be handed on."""
        while (event := self._guard.next_event()) is not None:
            self._pass(event)
        return bool(self._clean)

    def _pass(self, event: Head | Body | End) -> None:
        match event:
            case Head(clean=clean, is_chunked=is_chunked):
                self._clean += clean
                self._is_chunked = is_chunked
            case Body(data=data):
                self._clean += b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data
            case End() if self._is_chunked:
                self._clean += b"0\r\n\r\n"

    async def _receive_in_time(self, max_bytes: int | None) -> bytes:
        if not self._guard.is_waiting_for_head:
            return await self._stream.receive_some(max_bytes)
        with trio.move_on_after(self._head_timeout):
            return await self._stream.receive_some(max_bytes)
        raise Refused(408, "the request's head took too long")

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            if self._refused is not None and not self._unanswered:
                try:
                    await self._stream.send_all(refusal_response(self._refused))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
            await self._stream.aclose()
        await trio.lowlevel.checkpoint()


async def serve_http(
    stream: PeerStream,
    guard: RequestGuard,
    head: Head,
    find_handler: Callable[[Request], HttpHandler],
    *,
    config: Config,
    context: WorkerContext,
    head_timeout: float,
    response_headers: Callable[[Request], Mapping[str, str]],
) -> None:
    """Serves the requests of one connection, the first of which has ``head``."""
    guarded = GuardedStream(stream, guard, head, head_timeout=head_timeout)
    peer = head.request.peer

    async def app(scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
        if scope["type"] != "http":  # hypercorn 0.18 takes WebSockets too; those never come here
            return
        with guarded.answering():
            await answer(AsgiExchange(scope, receive, send, stream, peer, response_headers), find_handler)

    server: Any = _Server(app, config, context, {}, guarded)  # type: ignore[arg-type]
    await server.run()


class _Server(TCPServer):
    """hypercorn 0.18 keeps a connection whose input has ended until its keep-alive timeout; here it ends."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()


class AsgiExchange:
    """``hub.core.contracts.Exchange`` on an ASGI call."""

    def __init__(
        self,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        stream: PeerStream,
        peer: str,
        response_headers: Callable[[Request], Mapping[str, str]],
    ) -> None:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        self.request = Request(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            peer=peer,
            http_version=scope["http_version"],
        )
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
        await self._start(status, answer_headers(status, body, headers))
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

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
        all_headers = {**headers, **self._response_headers(self.request)}
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
        await self._exchange.end_stream()
