"""A back end that answers what a test tells it, over real sockets, in the test's own time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

#: Writes an answer to a stream; the connection is kept when it returns.
Answer = Callable[[trio.SocketStream], Awaitable[None]]


def text(status: str, body: bytes = b"", *fields: str) -> Answer:
    """A whole answer."""

    async def write(stream: trio.SocketStream) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", *fields])
        length = b"" if status.startswith("204") else b"\r\ncontent-length: %d" % len(body)
        await stream.send_all(b"%b%b\r\n\r\n%b" % (head.encode(), length, body))

    return write


def ok(body: bytes = b'[{"orderId":"1"}]', *fields: str) -> Answer:
    return text("200 OK", body, *fields)


async def cut(stream: trio.SocketStream) -> None:
    """Leaves without a word."""
    await stream.aclose()


async def cut_short(stream: trio.SocketStream) -> None:
    """Leaves in the middle of the body."""
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[1,")
    await stream.aclose()


async def gibberish(stream: trio.SocketStream) -> None:
    await stream.send_all(b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n")
    await stream.aclose()


async def endless(stream: trio.SocketStream) -> None:
    """A chunked answer that does not end, for as long as somebody reads it."""
    await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    try:
        while True:
            await stream.send_all(b"1000\r\n%b\r\n" % (b" " * 0x1000))
    except trio.BrokenResourceError:
        await stream.aclose()


def late(seconds: float, answer: Answer) -> Answer:
    async def write(stream: trio.SocketStream) -> None:
        await trio.sleep(seconds)
        await answer(stream)

    return write


class BackEnd:
    """Answers requests with ``script``, one after another, and all the others with its last."""

    def __init__(self, *script: Answer) -> None:
        self.requests: list[bytes] = []
        self.times: list[float] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.url = ""
        self._last = script[-1]
        self._script: Iterator[Answer] = iter(script)

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            while (head := await _read_head(stream)) is not None:
                self.requests.append(head)
                self.times.append(trio.current_time())
                await next(self._script, self._last)(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has had enough, or we have
        finally:
            self.open -= 1

    def targets(self) -> list[bytes]:
        return [head.split(b" ")[1] for head in self.requests]


async def _read_head(stream: trio.SocketStream) -> bytes | None:
    head = b""
    while b"\r\n\r\n" not in head:
        if not (some := await stream.receive_some()):
            return None
        head += some
    return head


@asynccontextmanager
async def open_backend(*script: Answer) -> AsyncIterator[BackEnd]:
    """A back end that listens on loopback."""
    backend = BackEnd(*script)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, backend.serve, [listener])
        backend.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        yield backend
        nursery.cancel_scope.cancel()


def patient_clock() -> MockClock:
    """Jumps only when nothing is on its way between two sockets either."""
    return MockClock(autojump_threshold=0.02)
