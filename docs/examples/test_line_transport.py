"""The transport of lines, put to the kit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing
from line_transport import Lines, LineSettings, LineTransport

from hub.core.contracts import Link
from hub.testing import LinkCatcher, check_transport


class LineClient:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream, self._input = stream, b""

    async def send(self, message: str | bytes) -> None:
        assert isinstance(message, str)
        await self._stream.send_all(message.encode() + b"\n")

    async def receive(self) -> bytes:
        line = b""
        while not line:  # the empty ones only keep the connection awake
            while b"\n" not in self._input:
                if not (received := await self._stream.receive_some()):
                    raise trio.EndOfChannel
                self._input += received
            line, _, self._input = self._input.partition(b"\n")
        return line

    async def aclose(self) -> None:
        await self._stream.send_eof()

    async def abort(self) -> None:
        await trio.aclose_forcefully(self._stream)


@asynccontextmanager
async def open_pair() -> AsyncIterator[tuple[Link, LineClient]]:
    catcher, transport = LinkCatcher(), LineTransport(LineSettings(port=0))
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(transport.serve, catcher, None)
        async with await trio.testing.open_stream_to_socket_listener(listeners[0]) as stream:
            yield await catcher.wait_link(), LineClient(stream)
        nursery.cancel_scope.cancel()


async def test_line_transport() -> None:
    await check_transport(open_pair, framing=Lines())
