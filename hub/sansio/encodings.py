"""An encoding is a protocol in a framing: the exact bytes that go to a client.

Sharing goes by identity: all sessions that hold the same Encoding share each publication's bytes. A
transport therefore makes its encodings once, not per client.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import ClassVar
from typing import Protocol as Interface

from hub.sansio.log import Log
from hub.sansio.permessage_deflate import Deflater
from hub.sansio.protocol import Protocol
from hub.sansio.publication import Publication


class Framing(Interface):
    """Makes messages self-delimiting, so that many may be written at once."""

    #: Whether each message carries the cursor of all the client's channels, which the client sends back.
    carries_cursor: bool

    def frame(self, message: bytes, cursor: str, *, is_first: bool = False) -> bytes:
        """``cursor`` is empty where the framing carries none; ``is_first``: nothing was sent before."""
        ...


class Encoding:
    """One protocol in one framing. ``bare`` is the protocol's own Encoding without any framing."""

    __slots__ = ("_bare", "carries_cursor", "framing", "protocol")

    def __init__(self, protocol: Protocol, framing: Framing, *, bare: Encoding | None = None) -> None:
        self.protocol = protocol
        self.framing = framing
        self.carries_cursor = framing.carries_cursor
        self._bare = bare

    def publication(self, channel: str, publication: Publication, log: Log, *, has_type: bool) -> bytes:
        """The framed bytes of a publication, made once and then kept with it. Not for framings with a cursor."""
        wire = publication.wire.get(self)
        if wire is None:
            message = self.protocol.publication(channel, log.epoch, publication, has_type=has_type)
            wire = self.framing.frame(message, "")
            publication.wire[self] = wire
            log.add_encoded(len(wire))
        return wire

    def publication_with_cursor(
        self, channel: str, publication: Publication, log: Log, *, has_type: bool, cursor: str
    ) -> bytes:
        """The same where each client's cursor differs: the message is shared, the frame is not."""
        bare = self if self._bare is None else self._bare
        return self.framing.frame(bare.publication(channel, publication, log, has_type=has_type), cursor)


class Bare:
    """No framing: a message as it is (elements of a long-poll answer, which delimits them itself)."""

    carries_cursor = False

    def frame(self, message: bytes, cursor: str, *, is_first: bool = False) -> bytes:
        return message


class WebSocketFrames:
    """One unfragmented, unmasked frame a message (RFC 6455, section 5.2): the same bytes for every client."""

    carries_cursor = False

    def __init__(self, *, text: bool) -> None:
        self._first = 0x81 if text else 0x82

    def frame(self, message: bytes, cursor: str, *, is_first: bool = False) -> bytes:
        return _frame(self._first, message)

    @staticmethod
    def close(code: int | None, reason: str) -> bytes:
        """A close frame; ``reason`` is at most 123 bytes, and none without a code."""
        payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
        return _frame(0x88, payload)

    @staticmethod
    def pong(payload: bytes) -> bytes:
        """The answer to a ping, whose ``payload`` has at most 125 bytes."""
        return _frame(0x8A, payload)


#: A WebSocket ping without payload.
WEBSOCKET_PING = b"\x89\x00"
#: Marks the first frame of a message that is deflated (RSV1; RFC 7692, section 6).
_DEFLATED = 0x40


class DeflatedFrames(WebSocketFrames):
    """The same, with messages of at least ``min_size`` bytes deflated, where that makes them smaller."""

    #: A state is framed for each client that subscribes, and is long: the last few such frames are kept. Shorter
    #: messages are deflated about as fast as they are found; of longer ones a few would be much.
    KEPT_SIZES: ClassVar[range] = range(1024, 64 * 1024)
    KEPT: ClassVar[int] = 32

    def __init__(self, *, text: bool, level: int, window: int, min_size: int) -> None:
        super().__init__(text=text)
        self._deflater = Deflater(level=level, window=window, keeps_context=False)
        self._min_size = min_size
        self._find_or_deflate = lru_cache(maxsize=self.KEPT)(self._deflate)

    def frame(self, message: bytes, cursor: str, *, is_first: bool = False) -> bytes:
        size = len(message)
        if size < self._min_size:
            return _frame(self._first, message)
        return self._find_or_deflate(message) if size in self.KEPT_SIZES else self._deflate(message)

    def _deflate(self, message: bytes) -> bytes:
        deflated = self._deflater.deflate(message)
        if len(deflated) < len(message):
            return _frame(self._first | _DEFLATED, deflated)
        return _frame(self._first, message)


def deflate_frames(frames: bytes, deflater: Deflater, min_size: int) -> Iterator[bytes]:
    """Whole frames, as WebSocketFrames makes them, one by one for a client that has a ``deflater`` of its own;
    control frames as they are."""
    begin = 0
    while begin < len(frames):
        first, size = frames[begin], frames[begin + 1]
        payload = begin + (2 if size < 126 else 4 if size == 126 else 10)
        if size >= 126:
            size = int.from_bytes(frames[begin + 2 : payload], "big")
        end = payload + size
        if first & 0x08 or size < min_size:
            yield frames[begin:end]
        else:
            yield _frame(first | _DEFLATED, deflater.deflate(frames[payload:end]))
        begin = end


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


class ServerSentEvents:
    """One event with an id a message, in a chunk of its own where the answer is chunked.

    The id is on every event, because parsers disagree about events without one, and there is no ``event:``
    field, so that ``EventSource.onmessage`` gets them all.
    """

    carries_cursor = True

    def __init__(self, *, chunked: bool, retry_ms: int) -> None:
        self._chunked = chunked
        self._retry_ms = retry_ms

    def frame(self, message: bytes, cursor: str, *, is_first: bool = False) -> bytes:
        # The first event also tells the pace of reconnecting. ``retry:`` is only ever sent in the same block as
        # data: alone, some parsers make an event of it.
        retry = b"retry: %d\n" % self._retry_ms if is_first else b""
        return self.chunk(b"%bid: %b\ndata: %b\n\n" % (retry, cursor.encode(), message))

    def comment(self) -> bytes:
        """What keeps proxies awake; parsers skip it. Without a blank line, of which httpx-sse 0.4.3 makes an event."""
        return self.chunk(b":\n")

    def chunk(self, block: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(block), block) if self._chunked else block
