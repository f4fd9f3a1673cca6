"""The protocol of /v2 as lines of JSON over TCP: a whole transport plugin."""

from typing import Any, ClassVar

import attrs
import trio

from hub.core.broker import Broker
from hub.core.contracts import Mounts
from hub.sansio.encodings import Encoding
from hub.sansio.errors import CloseCode, ProtocolViolated
from hub.sansio.options import option
from hub.sansio.stream_v2 import StreamV2Json


class Lines:
    carries_cursor = False

    def frame(self, message: bytes, cursor: str, *, is_first: bool = False) -> bytes:
        return message + b"\n"  # compact JSON has no newline of its own


class LineLink:
    keepalive = (b"\n", 30.0)  # an empty line, which clients skip
    keepalive_is_enough = True

    def __init__(self, stream: trio.SocketStream, line_size: int) -> None:
        self._stream, self._line_size, self._input = stream, line_size, b""

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> str:
        while b"\n" not in self._input and len(self._input) <= self._line_size:
            if not (received := await self._stream.receive_some()):
                raise trio.EndOfChannel
            self._input += received
        line, _, self._input = self._input.partition(b"\n")
        if len(line) > self._line_size:
            raise ProtocolViolated(CloseCode.TOO_BIG, f"a line is at most {self._line_size} bytes")
        return line.decode(errors="replace")

    async def aclose(self, code: int, reason: str) -> None:
        await self._stream.send_eof()
        while await self._stream.receive_some():  # closed with input unread, TCP takes back our last words
            pass


@attrs.frozen(kw_only=True)
class LineSettings:
    host: str = option("127.0.0.1", doc="address to listen on")
    port: int = option(8082, doc="port to listen on", at_least=0, at_most=65535)
    line_size: int = option(4096, doc="longest line that a client may send", unit="bytes", at_least=128)


class LineTransport:
    name: ClassVar[str] = "lines"
    Settings: ClassVar[type] = LineSettings

    def __init__(self, settings: LineSettings) -> None:
        self._settings = settings
        self._encoding = Encoding(StreamV2Json(), Lines())  # one for all clients, who share its bytes

    async def serve(
        self, broker: Broker, mounts: Mounts, *, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        async def serve_peer(stream: trio.SocketStream) -> None:
            link = LineLink(stream, self._settings.line_size)
            await broker.serve_session(link, self._encoding, transport=self.name)

        settings = self._settings
        await trio.serve_tcp(serve_peer, settings.port, host=settings.host, task_status=task_status)
