"""Reads Server-Sent Events (WHATWG HTML, section 9.2.6, "Interpreting an event stream"), however they are cut."""

from __future__ import annotations

import attrs

#: An event larger than this is dropped: it is somebody's mistake, and it shall not cost our memory.
MAX_EVENT_SIZE = 64 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


@attrs.frozen
class ServerSentEvent:
    """One event. ``id`` is the last id that the stream gave, with this event or before; "" where it gave none."""

    data: str
    event: str = "message"
    id: str = ""


class SseParser:
    """Takes the bytes of a stream in pieces of any size and gives its events.

    ``last_id`` and ``retry_ms`` are what a client reconnects with ("" and None: the stream did not say).
    ``dropped`` counts events that were too large. An event whose blank line never came did not happen.
    """

    def __init__(self, *, max_event_size: int = MAX_EVENT_SIZE) -> None:
        self.last_id = ""
        self.retry_ms: int | None = None
        self.dropped = 0
        self._max_event_size = max_event_size
        self._head: bytes | None = b""  # until it is known whether the stream begins with a BOM
        self._is_after_cr = False
        self._line = bytearray()
        self._event = ""
        self._id = ""
        self._data: list[str] = []
        self._data_size = 0
        self._is_too_large = False

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that ``chunk`` completes."""
        text = self._without_bom(chunk)
        if not text:
            return []
        if self._is_after_cr:
            text = text.removeprefix(b"\n")
        # A CR ends its line at once: whether an LF follows may be known much later.
        self._is_after_cr = text.endswith(b"\r")
        *lines, rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        events = [event for line in lines if (event := self._end_line(line)) is not None]
        self._extend_line(rest)
        return events

    def _without_bom(self, chunk: bytes) -> bytes:
        if self._head is None:
            return chunk
        text = self._head + chunk
        if len(text) < len(_BOM) and _BOM.startswith(text):
            self._head = text
            return b""
        self._head = None
        return text.removeprefix(_BOM)

    def _extend_line(self, piece: bytes) -> None:
        self._line += piece
        if len(self._line) + self._data_size > self._max_event_size:
            self._is_too_large = True
            self._forget_data()
            self._line[:] = b":"  # as good as a comment, and as short

    def _end_line(self, end: bytes) -> ServerSentEvent | None:
        self._extend_line(end)
        line, self._line = self._line, bytearray()
        if not line:
            return self._dispatch()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        self._take_field(name, value.removeprefix(" "))
        return None

    def _take_field(self, name: str, value: str) -> None:
        """A comment is a field without a name."""
        if name == "data" and not self._is_too_large:
            self._data.append(value)
            self._data_size += len(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)

    def _dispatch(self) -> ServerSentEvent | None:
        self.last_id = self._id
        event = None
        if self._data:
            event = ServerSentEvent("\n".join(self._data), self._event or "message", self._id)
        self.dropped += self._is_too_large
        self._event, self._is_too_large = "", False
        self._forget_data()
        return event

    def _forget_data(self) -> None:
        self._data = []
        self._data_size = 0
