"""A link over a WebSocket. What is sent is framed already; what comes in goes through an Inbound.

There is no task that reads: who waits for a message reads, and answers pings meanwhile. So a client costs one
task, and one that floods us with messages waits for us to read.
"""

from __future__ import annotations

from typing import Any

import trio
import trio.abc

from hub.sansio.encodings import WEBSOCKET_PING, WebSocketFrames, deflate_frames
from hub.sansio.errors import ProtocolViolated
from hub.sansio.permessage_deflate import Deflater
from transports.websocket.inbound import Inbound, PeerClose, PeerPing
from transports.websocket.settings import WebSocketSettings

#: How much is read at once, at least and at most: clients' messages are short.
LEAST_READ, LARGEST_READ = 4 * 1024, 64 * 1024
#: A client with a compressor of its own is written to in pieces of about so many bytes.
PIECE = 16 * 1024


class WebSocketLink:
    """Without a fast path. Answers are sent by tasks of ``nursery``."""

    keepalive_is_enough = False

    __slots__ = (
        "_has_violated",
        "_inbound",
        "_nursery",
        "_peer_close",
        "_read_size",
        "_send",
        "_stream",
        "keepalive",
        "last_heard",
    )

    def __init__(
        self,
        nursery: trio.Nursery,
        stream: trio.abc.Stream,
        settings: WebSocketSettings,
        *,
        may_be_deflated: bool = False,
    ) -> None:
        self.keepalive: tuple[bytes, float] = (WEBSOCKET_PING, settings.ping_interval)
        self.last_heard = trio.current_time()
        self._stream: Any = stream
        self._send = getattr(stream, "send", stream.send_all)
        self._nursery = nursery
        self._inbound = Inbound(settings.message_size, may_be_deflated=may_be_deflated)
        self._read_size = min(max(settings.message_size, LEAST_READ), LARGEST_READ)
        self._peer_close: PeerClose | None = None
        self._has_violated = False

    async def send(self, data: bytes) -> None:
        await self._send(data)

    async def receive(self) -> str | bytes:
        while True:
            event = await self._next_event()
            if isinstance(event, PeerPing):
                await self._answer(WebSocketFrames.pong(event.payload))
            elif isinstance(event, PeerClose):
                raise trio.EndOfChannel
            else:
                return event

    async def answer_close(self) -> None:
        """Says the same as the peer; where it has vanished there is nobody to say it to."""
        if self._peer_close is not None:
            close = WebSocketFrames.close(self._peer_close.code, self._peer_close.reason)
            await self._stream.send_all(close)

    async def aclose(self, code: int, reason: str) -> None:
        # A close frame's reason is at most 123 bytes (RFC 6455, section 5.5).
        payload = reason.encode()[:123].decode(errors="ignore")
        await self._stream.send_all(WebSocketFrames.close(int(code), payload))
        await self._wait_peer_close()
        await self._stream.aclose()

    async def _wait_peer_close(self) -> None:
        """Unless it came already. A peer that broke the protocol is not heard any more, so nothing is waited for."""
        try:
            while not self._has_violated and self._peer_close is None:
                await self._next_event()
        except (ProtocolViolated, trio.BrokenResourceError):
            pass

    async def _next_event(self) -> str | bytes | PeerPing | PeerClose:
        """Raises ProtocolViolated, and BrokenResourceError where the stream ends without a close frame."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            event = self._inbound.next_event()
            if event is not None:  # which must not get lost
                await trio.lowlevel.cancel_shielded_checkpoint()
            while event is None:
                data = await self._stream.receive_some(self._read_size)
                if not data:
                    raise trio.BrokenResourceError("the peer vanished")
                self.last_heard = trio.current_time()
                self._inbound.feed(data)
                event = self._inbound.next_event()
        except ProtocolViolated:
            self._has_violated = True
            raise
        if isinstance(event, PeerClose):
            self._peer_close = event
        return event

    async def _answer(self, frame: bytes) -> None:
        """Sends a frame and waits for it, in a task apart: this one may be cancelled, and nothing can be sent
        after half a frame."""
        await trio.lowlevel.checkpoint_if_cancelled()  # when all ends, the nursery may have ended before us
        is_over = trio.Event()
        self._nursery.start_soon(self._send_apart, frame, is_over)
        await is_over.wait()

    async def _send_apart(self, frame: bytes, is_over: trio.Event) -> None:
        try:
            await self._stream.send_all(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        is_over.set()


class FastLink(WebSocketLink):
    """With the fast path that ``stream`` has."""

    __slots__ = ("try_send", "wait_writable")

    def __init__(
        self,
        nursery: trio.Nursery,
        stream: trio.abc.Stream,
        settings: WebSocketSettings,
        *,
        may_be_deflated: bool,
    ) -> None:
        super().__init__(nursery, stream, settings, may_be_deflated=may_be_deflated)
        self.try_send = self._stream.try_send
        self.wait_writable = self._stream.wait_writable


class DeflatingLink(WebSocketLink):
    """Compresses for this client alone, with what it was sent before as context, so there is no fast path.

    It is given plain frames, whole ones: only a fast path cuts.
    """

    __slots__ = ("_deflater", "_min_size")

    def __init__(
        self,
        nursery: trio.Nursery,
        stream: trio.abc.Stream,
        settings: WebSocketSettings,
        *,
        window: int,
    ) -> None:
        super().__init__(nursery, stream, settings, may_be_deflated=True)
        self._deflater = Deflater(level=settings.deflate_level, window=window, keeps_context=True)
        self._min_size = settings.deflate_min_size

    async def send(self, data: bytes) -> None:
        # Piece by piece, so that others have their turn meanwhile.
        piece: list[bytes] = []
        size = 0
        for frame in deflate_frames(data, self._deflater, self._min_size):
            piece.append(frame)
            size += len(frame)
            if size >= PIECE:
                await self._send(b"".join(piece))
                piece.clear()
                size = 0
        if piece:
            await self._send(b"".join(piece))
