"""Measures a WebSocket client's frames by their headers, before a library buffers what they announce.

Only the sizes of messages are judged here, as they come (RFC 6455, section 5.2 has the layout): what a compressed
one becomes is bounded where it is inflated. Form, and with it what a control frame may hold and which reserved bits
mean something, is the library's affair.
"""

from __future__ import annotations

from hub.sansio.errors import CloseCode, ProtocolViolated

#: Empty fragments cost the sender two bytes and us a dispatch each; nobody needs many of them.
MAX_EMPTY_FRAGMENTS = 64
_CONTROL = 0x8


class FrameGuard:
    """Follows the frames in a byte stream, however it is cut. ``limit`` is the largest message in bytes."""

    __slots__ = ("_empty", "_header", "_limit", "_message", "_skip")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._header = bytearray()
        self._skip = 0  # bytes of the current frame's payload still to come
        self._message = 0  # bytes of the current message so far, all fragments together
        self._empty = 0

    def feed(self, data: bytes) -> None:
        """Raises ProtocolViolated (1009) at the header of a frame that makes its message too large."""
        begin = 0
        while begin < len(data):
            if self._skip:
                step = min(self._skip, len(data) - begin)
                self._skip -= step
            else:
                step = min(self._missing(), len(data) - begin)
                self._header += data[begin : begin + step]
                if not self._missing():
                    self._begin_frame()
            begin += step

    def _missing(self) -> int:
        """How many bytes the header still needs, as far as is known."""
        header = self._header
        if len(header) < 2:
            return 2 - len(header)
        size = 2 + {126: 2, 127: 8}.get(header[1] & 0x7F, 0) + (4 if header[1] & 0x80 else 0)
        return size - len(header)

    def _begin_frame(self) -> None:
        header = self._header
        length = header[1] & 0x7F
        if length >= 126:
            length = int.from_bytes(header[2 : 4 if length == 126 else 10], "big")
        self._skip = length
        if not header[0] & _CONTROL:
            self._measure(length, is_last=bool(header[0] & 0x80))
        header.clear()

    def _measure(self, length: int, *, is_last: bool) -> None:
        self._message += length
        self._empty += not length
        if self._message > self._limit:
            raise ProtocolViolated(CloseCode.TOO_BIG, f"a message is at most {self._limit} bytes")
        if self._empty > MAX_EMPTY_FRAGMENTS:
            raise ProtocolViolated(
                CloseCode.TOO_BIG, f"a message has at most {MAX_EMPTY_FRAGMENTS} empty fragments"
            )
        if is_last:
            self._message = self._empty = 0
