"""WebSocket: ``/v2`` (JSON or CBOR by subprotocol) and ``/live``.

trio-websocket keeps the protocol: handshake, reading, answering pings, the closing handshake. Data frames go
to the stream beside it, since the same bytes serve every client. It is known to this file alone.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import trio
import trio.abc
import wsproto.events
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState

from hub.core.broker import Broker
from hub.core.contracts import Mounts, Request
from hub.sansio.encodings import WEBSOCKET_PING, Encoding, WebSocketFrames
from hub.sansio.errors import CloseCode, ProtocolViolated
from hub.sansio.live import LiveEnvelope
from hub.sansio.options import Seconds, Size, option
from hub.sansio.stream_v2 import StreamV2Cbor, StreamV2Json
from hub.sansio.websocket_guard import FrameGuard

#: trio-websocket 0.12 reads ahead by this many messages, then stops reading. 0 would stop it from answering
#: pings while a command is being served.
MESSAGE_QUEUE = 1
#: After a close frame to a client that broke the protocol we do not wait for its answer.
HANDSHAKE_TIMEOUT = 5.0


@attrs.frozen(kw_only=True)
class WebSocketSettings:
    message_size: Size = option(
        Size(4096), doc="largest message a client may send, all fragments together", at_least=128
    )
    ping_interval: Seconds = option(
        Seconds(30.0),
        doc="how often the hub pings; a client that is silent for limits.idle_timeout is closed",
        at_least=1.0,
    )


class WebSocketTransport:
    """Mounts the two paths on the public port."""

    name: ClassVar[str] = "websocket"
    Settings: ClassVar[type] = WebSocketSettings

    def __init__(self, settings: WebSocketSettings) -> None:
        self._settings = settings
        self._v2 = Encoding(StreamV2Json(), WebSocketFrames(text=True))
        self._cbor = Encoding(StreamV2Cbor(), WebSocketFrames(text=False))
        self._live = Encoding(LiveEnvelope(), WebSocketFrames(text=True))
        self._subprotocols = {"/v2": {"hub.v2.json": self._v2, "hub.v2.cbor": self._cbor}, "/live": {}}
        self._default = {"/v2": self._v2, "/live": self._live}

    async def serve(
        self, broker: Broker, mounts: Mounts, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async def handle(request: Request, stream: trio.abc.Stream) -> None:
            await self._serve_peer(broker, request, stream)

        for path in self._default:
            mounts.mount_upgrade(path, handle)
        task_status.started()
        await trio.sleep_forever()

    async def _serve_peer(self, broker: Broker, request: Request, stream: trio.abc.Stream) -> None:
        offered = self._subprotocols[request.path]
        proposed = (name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(","))
        subprotocol = next((name for name in proposed if name in offered), None)
        encoding = self._default[request.path] if subprotocol is None else offered[subprotocol]
        async with trio.open_nursery() as nursery:
            link = await accept(
                nursery,
                stream,
                request,
                subprotocol=subprotocol,
                message_size=self._settings.message_size,
                ping_interval=self._settings.ping_interval,
            )
            if link is not None:
                await broker.serve_session(link, encoding, transport="websocket")
            nursery.cancel_scope.cancel()


async def accept(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    request: Request,
    *,
    subprotocol: str | None,
    message_size: int,
    ping_interval: float,
) -> WebSocketLink | None:
    """Answers the handshake ``request``; None where the peer leaves before that. ``stream`` goes on after it.

    The library's reading task runs in ``nursery``, which the caller cancels when the link is of no more use.
    """
    guarded = _GuardedStream(stream, _handshake(request, subprotocol), message_size)
    connection = _Connection(
        guarded,
        WSConnection(ConnectionType.SERVER),
        message_queue_size=MESSAGE_QUEUE,
        max_message_size=message_size,
    )
    with trio.move_on_after(HANDSHAKE_TIMEOUT):
        # As trio_websocket.wrap_server_stream does (0.12.2), which has no way to pass our connection class.
        nursery.start_soon(connection._reader_task)
        proposal = await connection._get_request()
        try:
            await proposal.accept(subprotocol=subprotocol)
        except ConnectionClosed:
            return None
        guarded.accepted.set()
        return WebSocketLink(connection, guarded, ping_interval)
    return None


def _handshake(request: Request, subprotocol: str | None) -> bytes:
    """The handshake as the library is to see it: nothing that it could stumble over (wsproto 1.3.2 raises
    UnicodeDecodeError for some headers), and nothing that the port has not checked."""
    key = request.headers["sec-websocket-key"]
    protocol = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return (
        "GET / HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{protocol}\r\n"
    ).encode("ascii")


class WebSocketLink:
    """A link over a trio-websocket connection. Writes bypass it: frames are ready made."""

    keepalive_is_enough = False

    def __init__(self, connection: WebSocketConnection, stream: _GuardedStream, ping_interval: float) -> None:
        self.keepalive = (WEBSOCKET_PING, ping_interval)
        self._connection = connection
        self._stream = stream
        inner: Any = stream.inner
        if hasattr(inner, "try_send"):  # not where the stream is TLS
            self.try_send = inner.try_send
            self.wait_writable = inner.wait_writable
        self._send = getattr(inner, "send", inner.send_all)

    @property
    def last_heard(self) -> float:
        return self._stream.last_heard

    async def send(self, data: bytes) -> None:
        await self._send(data)

    async def receive(self) -> str | bytes:
        if self._stream.violation is None:
            with trio.CancelScope() as self._stream.receiving:
                try:
                    return await self._connection.get_message()
                except ConnectionClosed as closed:
                    if closed.reason is not None and closed.reason.code == CloseCode.ABNORMAL:
                        raise trio.BrokenResourceError("the peer vanished") from None
                    raise trio.EndOfChannel from None
        assert self._stream.violation is not None
        raise self._stream.violation

    async def aclose(self, code: int, reason: str) -> None:
        # A close frame's reason is at most 123 bytes (RFC 6455, section 5.5).
        payload = reason.encode()[:123].decode(errors="ignore")
        if self._stream.violation is None:
            await self._connection.aclose(int(code), payload)
        else:  # the peer is not heard any more, so its answer cannot be waited for
            await self.send(WebSocketFrames.close(int(code), payload))
            await self._stream.aclose()


class _GuardedStream(trio.abc.Stream):
    """What trio-websocket reads: frames that were measured. After a violation it reads on, but hears nothing."""

    def __init__(self, inner: trio.abc.Stream, head: bytes, message_size: int) -> None:
        self.inner = inner
        self.violation: ProtocolViolated | None = None
        self.receiving = trio.CancelScope()
        self.last_heard = trio.current_time()
        self._guard = FrameGuard(message_size)
        self.accepted = trio.Event()
        self._head = head

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            await trio.lowlevel.checkpoint()
            return head
        # wsproto 1.3.2 takes frames that come before our answer for a part of the handshake.
        await self.accepted.wait()
        while True:
            data = bytes(await self.inner.receive_some(max_bytes))
            self.last_heard = trio.current_time()
            if not data:
                return data
            try:
                if self.violation is None:
                    self._guard.feed(data)
                    return data
            except ProtocolViolated as violation:
                self.violation = violation
                self.receiving.cancel()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.inner.aclose()


class _Connection(WebSocketConnection):
    """Tells a peer that broke the protocol by which code (1002, 1007). trio-websocket 0.12.2 drops TCP without
    a word, because wsproto reports a parse failure as if the peer had closed."""

    async def _handle_close_connection_event(self, event: wsproto.events.CloseConnection) -> None:
        if self._wsproto.state is ConnectionState.OPEN:
            await self._send(wsproto.events.CloseConnection(code=event.code, reason=event.reason))
        await super()._handle_close_connection_event(event)
