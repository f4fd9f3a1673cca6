"""A channel: its log, its state, and who wants to hear of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import trio

from hub.sansio.encodings import Encoding
from hub.sansio.log import Log
from hub.sansio.names import channel_type
from hub.sansio.policies import Policy
from hub.sansio.publication import Position, Publication

if TYPE_CHECKING:
    from hub.core.subscription import Subscription

#: How much of a backlog is written at once: enough that the system call's cost is small beside it, and little
#: enough that one client's replay does not make the others wait.
SLICE_COUNT = 512
SLICE_BYTES = 64 * 1024
#: Until the next publication the last few slices are kept: most subscribers stand at one of few places.
MEMOIZED_SLICES = 8


class Slice:
    """Publications of one channel in one encoding, ready to write; shared by all who stand at the same place.

    ``frames`` are those of ``after + 1`` to ``last``; ``data`` is all of them in one piece.
    """

    __slots__ = ("after", "channel", "data", "frames", "last", "size")

    def __init__(self, channel: Channel, after: int, frames: list[bytes]) -> None:
        self.channel = channel
        self.after = after
        self.last = after + len(frames)
        self.frames = frames
        self.data = frames[0] if len(frames) == 1 else b"".join(frames)
        self.size = len(self.data)


class Channel:
    """One named stream. ``user`` owns it where the namespace is private."""

    __slots__ = (
        "_slices",
        "_snapshots",
        "has_snapshots",
        "is_dirty",
        "last",
        "log",
        "name",
        "policy",
        "subscriptions",
        "type",
        "used_at",
        "user",
        "waiters",
    )

    def __init__(self, name: str, user: str | None, policy: Policy, start: Position, now: float) -> None:
        self.name = name
        self.user = user
        self.type = channel_type(name)
        self.policy = policy
        self.has_snapshots = policy.snapshot != "none"
        self.log = Log(
            start, max_count=policy.buffer_count, max_bytes=policy.buffer_bytes, max_age=policy.buffer_age
        )
        #: The newest publication, which is the state where the namespace says so; it outlives the buffer.
        self.last: Publication | None = None
        self.subscriptions: dict[Subscription, None] = {}
        #: Long-polls that wait for anything new.
        self.waiters: set[trio.Event] = set()
        self.is_dirty = False
        self.used_at = now
        self._slices: dict[Hashable, Slice] = {}
        self._snapshots: dict[Encoding, tuple[int, bytes]] = {}

    @property
    def is_wanted(self) -> bool:
        return bool(self.subscriptions or self.waiters)

    @property
    def state(self) -> Publication | None:
        """What a newcomer gets first; None where there is nothing or the namespace has no snapshots. A change
        is no state, whatever the namespace says."""
        if not self.has_snapshots or self.last is None or self.last.kind == "delta":
            return None
        return self.last

    def append(self, publication: Publication) -> None:
        if self._slices:
            self._slices.clear()
        self.log.append(publication)
        self.last = publication
        self.used_at = publication.stored_at

    def slice(
        self, shape: Hashable, encoding: Encoding, after: int, cursor_at: Callable[[int], str] | None = None
    ) -> Slice:
        """What follows seq ``after``, which must be buffered: up to the head, or as much as is written at once.

        Sessions of the same ``shape`` get the same object. ``cursor_at`` gives the cursor that goes with a seq,
        where the framing carries one.
        """
        if (slice_ := self._slices.get(shape)) is None:
            slice_ = Slice(self, after, self._frames(encoding, after, cursor_at))
            if len(self._slices) < MEMOIZED_SLICES:
                self._slices[shape] = slice_
        return slice_

    def _frames(self, encoding: Encoding, after: int, cursor_at: Callable[[int], str] | None) -> list[bytes]:
        frames: list[bytes] = []
        size = 0
        for publication in self.log.read(after, SLICE_COUNT):
            frame = self._frame(encoding, publication, cursor_at)
            frames.append(frame)
            size += len(frame)
            if size >= SLICE_BYTES:
                break
        return frames

    def _frame(
        self, encoding: Encoding, publication: Publication, cursor_at: Callable[[int], str] | None
    ) -> bytes:
        if cursor_at is None:
            return encoding.publication(self.name, publication, self.log, has_type=self.has_snapshots)
        cursor = cursor_at(publication.seq)
        return encoding.publication_with_cursor(
            self.name, publication, self.log, has_type=self.has_snapshots, cursor=cursor
        )

    def messages(
        self, encoding: Encoding, after: int, limit: int, *, max_bytes: int
    ) -> tuple[list[bytes], int]:
        """At most ``limit`` messages that follow seq ``after`` (at least one, if there is any), and the seq of
        the last."""
        messages: list[bytes] = []
        size = 0
        for publication in self.log.read(after, limit):
            message = encoding.publication(self.name, publication, self.log, has_type=self.has_snapshots)
            size += len(message)
            if messages and size > max_bytes:
                break
            messages.append(message)
        return messages, after + len(messages)

    def snapshot(self, encoding: Encoding, state: Publication) -> bytes:
        """The message that gives ``state``, unframed; the latest is kept, since many ask for the same."""
        seq, message = self._snapshots.get(encoding, (None, b""))
        if seq != state.seq:
            message = encoding.protocol.snapshot(self.name, self.log.epoch, state)
            self._snapshots[encoding] = (state.seq, message)
        return message
