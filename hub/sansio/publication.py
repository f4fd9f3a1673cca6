"""What a channel is made of: publications, and positions among them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from hub.sansio.encodings import Encoding

#: Sequence numbers stay below 2^53, so that a JavaScript number holds each of them exactly (stream-v2.md).
MAX_SEQ = 2**53 - 1
#: Matching engines count in 64 bits; a longer number is more than some client's parser takes.
MAX_UPDATE_ID = 2**63 - 1


_EVENT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def check_event_name(name: str) -> None:
    """Raises ValueError unless ``name`` can stand in an envelope as it is."""
    if not _EVENT_NAME.fullmatch(name):
        raise ValueError("an event name is 1 to 64 of A-Z a-z 0-9 _ . -")


@attrs.frozen
class Position:
    """A place in a channel's history: the publication ``seq`` of the history named ``epoch``."""

    epoch: str
    seq: int


class Publication:
    """One item of a channel.

    ``data`` is compact JSON; ``ts`` is Unix milliseconds, as the source gave it; ``stored_at`` is the
    hub's monotonic time in seconds, by which buffers age. ``wire`` keeps the bytes of each encoding that
    somebody asked for, so that an event is encoded once however many subscribers there are. ``part`` is where
    the same event is on a part of this channel, ``whole`` where it is on the channel that this one is a part of.
    """

    __slots__ = ("data", "event", "kind", "last_update_id", "part", "seq", "stored_at", "ts", "whole", "wire")

    def __init__(
        self,
        seq: int,
        data: bytes,
        *,
        ts: int,
        stored_at: float,
        event: str,
        kind: str | None = None,
        last_update_id: int | None = None,
        part: tuple[str, Position] | None = None,
        whole: Position | None = None,
    ) -> None:
        self.seq = seq
        self.data = data
        self.ts = ts
        self.stored_at = stored_at
        self.event = event
        self.kind = kind
        self.last_update_id = last_update_id
        self.part = part
        self.whole = whole
        self.wire: dict[Encoding, bytes] = {}

    def __repr__(self) -> str:
        return f"Publication(seq={self.seq}, data={self.data!r})"
