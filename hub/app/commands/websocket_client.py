"""A WebSocket client: handshake, whole messages, close, used by one task at a time.

It keeps the protocol with wsproto alone. trio-websocket 0.12.2 as a client leaves the socket open when a
handshake fails, sits out its timeout when the peer leaves during one, hides why TLS failed, and wants a
nursery around all of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio
import trio.abc
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError

#: What stands for a close code where nobody gave one (RFC 6455, section 7.1.5).
ABNORMAL = 1006
TOO_BIG = 1009


class Rejected(Exception):
    """The server answered the handshake with something else; header names are lower case."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.headers = headers
        self.body = body


class Closed(Exception):
    """The connection is over: ``code`` as the server gave it, or ABNORMAL."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code = code
        self.reason = reason


class WebSocketClient:
    """Speaks on ``stream``, which stays the caller's to close. Everything may raise Closed."""

    def __init__(self, stream: trio.abc.Stream, *, message_size: int) -> None:
        self._stream = stream
        self._message_size = message_size
        self._protocol = WSConnection(ConnectionType.CLIENT)

    async def open(self, host: str, path: str, headers: Mapping[str, str]) -> None:
        """Shakes hands, with ``headers`` beside those that it takes. Raises Rejected."""
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send(Request(host=host, target=path, extra_headers=fields))
        event = await self._next_event()
        if isinstance(event, RejectConnection):
            headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in event.headers
            }
            raise Rejected(event.status_code, headers, await self._read_body() if event.has_body else b"")
        if not isinstance(event, AcceptConnection):
            raise Closed(ABNORMAL, "no handshake")

    async def send(self, message: str) -> None:
        await self._send(TextMessage(data=message))

    async def receive(self) -> bytes:
        """The next message, text as UTF-8; pings in between are answered."""
        parts: list[str | bytes] = []
        size = 0
        while True:
            event = await self._next_event()
            if isinstance(event, Message):
                parts.append(event.data)
                size += len(event.data)
                if size > self._message_size:
                    await self.aclose(TOO_BIG)
                    raise Closed(ABNORMAL, "a message that is too large")
                if event.message_finished:
                    return b"".join(part.encode() if isinstance(part, str) else part for part in parts)
            elif isinstance(event, Ping):
                await self._send(event.response())
            elif isinstance(event, CloseConnection):
                if self._protocol.state is ConnectionState.REMOTE_CLOSING:
                    await self._send(event.response())
                raise Closed(event.code, event.reason or "")

    async def aclose(self, code: int = 1000) -> None:
        """Says goodbye and waits for the server's. The caller holds the clock."""
        try:
            if self._protocol.state is ConnectionState.OPEN:
                await self._send(CloseConnection(code=code))
                while not isinstance(await self._next_event(), CloseConnection):
                    pass
        except Closed:
            pass

    async def _read_body(self) -> bytes:
        body = b""
        try:
            while isinstance(event := await self._next_event(), RejectData):
                body += event.data
                if event.body_finished:
                    break
        except Closed:  # it ends where the connection does
            pass
        return body

    async def _send(self, event: Event) -> None:
        try:
            await self._stream.send_all(self._protocol.send(event))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Closed(ABNORMAL, "") from None

    async def _next_event(self) -> Event:
        try:
            while (event := next(self._protocol.events(), None)) is None:
                data = bytes(await self._stream.receive_some())
                if not data:
                    raise Closed(ABNORMAL, "")
                self._protocol.receive_data(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Closed(ABNORMAL, "") from None
        except RemoteProtocolError as error:
            raise Closed(ABNORMAL, f"not the answer of a WebSocket server: {error}") from None
        return event
