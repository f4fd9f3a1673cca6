"""What the kit sends: messages at the edges of framings, each different from all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from hub.sansio.encodings import Bare, Encoding, Framing
from hub.sansio.stream_v2 import StreamV2Json

#: Edges of WebSocket's length fields, of buffers, and of nothing.
SIZES = (8, 125, 126, 127, 1000, 4095, 4096, 65_535, 65_536, 200_000)
_PATTERN = 'ğ😀 {"a":[1,null]} \\n\\" data: id: ,\x7f '


@attrs.frozen
class Speech:
    """The protocol and framing that the kit speaks over the link; ``is_text``: messages are JSON, else CBOR."""

    protocol: StreamV2Json
    framing: Framing

    @property
    def is_text(self) -> bool:
        return self.protocol.is_text

    def encoding(self) -> Encoding:
        bare = Encoding(self.protocol, Bare()) if self.framing.carries_cursor else None
        return Encoding(self.protocol, self.framing, bare=bare)

    def message(self, number: int, size: int) -> bytes:
        """A message of ``size`` bytes: text without line breaks, or any bytes."""
        if not self.is_text:
            return (b"%d " % number + bytes(range(256)) * (size // 256 + 1))[:size]
        text = f"{number} {_PATTERN * (size // 50)}".encode()[:size]
        return text.decode(errors="ignore").encode().ljust(size, b"x")

    def messages(self, sizes: Sequence[int] = SIZES) -> list[bytes]:
        return [self.message(number, size) for number, size in enumerate(sizes)]

    def endless(self) -> Iterator[bytes]:
        """Messages of many sizes, most of them some 10 KB."""
        number = 0
        while True:
            number += 1
            yield self.message(number, (20, 9_000, 300, 30_000, 1, 70_000)[number % 6] + 20)

    def frame(self, message: bytes, *, is_first: bool = False) -> bytes:
        cursor = "kit" if self.framing.carries_cursor else ""
        return self.framing.frame(message, cursor, is_first=is_first)

    def received(self, message: bytes) -> str | bytes:
        """A client's message as the link is to give it."""
        return message.decode() if self.is_text else message
