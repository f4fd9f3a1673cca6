"""A channel: its log, the view that folds it into a state, and who wants to hear of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

import trio

from hub.sansio.access import is_open_to_anyone
from hub.sansio.encodings import Encoding
from hub.sansio.log import Log
from hub.sansio.names import Match, channel_type
from hub.sansio.publication import Position, Publication
from hub.sansio.views.book import Book
from hub.sansio.views.catalogue import make_view

if TYPE_CHECKING:
    from hub.core.derivation import Derivation
    from hub.core.draft import Draft
    from hub.core.subscription import Passenger, Subscription

#: How much of a backlog is written at once: enough that the system call's cost is small beside it, and little
#: enough that one client's replay does not make the others wait.
SLICE_COUNT = 512
SLICE_BYTES = 64 * 1024
#: Until the next publication the last few slices are kept: most subscribers stand at one of few places.
MEMOIZED_SLICES = 8
#: Views whose state is more than the newest publication, or a few.
_FOLDED = ("book", "orders", "balances")


class Slice:
    """Publications of one channel in one encoding, ready to write; shared by all who stand at the same place.

    ``frames`` are those of ``after + 1`` to ``last``; ``data`` is all of them in one piece. ``passengers`` (empty,
    or one for each frame) are subscriptions that a frame takes along, and where to: see ``hub.core.relations``.
    """

    __slots__ = ("after", "channel", "data", "frames", "last", "passengers", "size")

    def __init__(
        self, channel: Channel, after: int, frames: list[bytes], passengers: Sequence[Passenger | None] = ()
    ) -> None:
        self.passengers = passengers
        self.channel = channel
        self.after = after
        self.last = after + len(frames)
        self.frames = frames
        self.data = frames[0] if len(frames) == 1 else b"".join(frames)
        self.size = len(self.data)

    def before(self, seq: int) -> Slice:
        """The part of it up to and including ``seq``."""
        count = seq - self.after
        return Slice(self.channel, self.after, self.frames[:count], self.passengers[:count])


class Channel:
    """One named stream. ``user`` owns it where the namespace is private."""

    __slots__ = (
        "_slices",
        "_snapshots",
        "_state",
        "created_ms",
        "derivation",
        "derived",
        "due_at",
        "has_snapshots",
        "holes",
        "is_asked_for",
        "is_dirty",
        "is_forgotten",
        "is_related",
        "is_whole",
        "last",
        "last_update_id",
        "log",
        "name",
        "paced_at",
        "pending",
        "policy",
        "subscriptions",
        "type",
        "used_at",
        "user",
        "view",
        "waiters",
        "whole",
    )

    def __init__(
        self, name: str, user: str | None, match: Match, start: Position, now: float, now_ms: int
    ) -> None:
        policy = match.policy
        self.name = name
        self.user = user
        self.type = channel_type(name)
        self.policy = policy
        self.holes = match.holes
        self.has_snapshots = policy.snapshot != "none"
        #: Whether its publications are also those of other channels, its parts; or the channel whose part it is.
        self.is_whole = bool(policy.parts)
        self.whole: str | None = None
        self.is_related = self.is_whole
        self.log = Log(
            start, max_count=policy.buffer_count, max_bytes=policy.buffer_bytes, max_age=policy.buffer_age
        )
        self.view = make_view(policy)
        #: The newest publication; it outlives the buffer.
        self.last: Publication | None = None
        self.last_update_id: int | None = None
        self.subscriptions: dict[Subscription, None] = {}
        #: Long-polls that wait for anything new.
        self.waiters: set[trio.Event] = set()
        self.is_dirty = False
        self.used_at = now
        self.created_ms = now_ms
        #: What waits for its time, where the namespace has a pace; when that is, and when the last one went out.
        self.pending: Draft | None = None
        self.due_at: float | None = None
        self.paced_at = -float("inf")
        #: How this one follows from another channel, and those that follow from this one.
        self.derivation: Derivation | None = None
        self.derived: list[Channel] = []
        self.is_forgotten = False
        #: Its first state is on its way.
        self.is_asked_for = False
        self._state: Publication | None = None
        self._slices: dict[Hashable, Slice] = {}
        self._snapshots: dict[Encoding, tuple[int, bytes]] = {}

    def be_part_of(self, whole: str | None) -> None:
        """``whole`` is the name of the channel that this one is a part of, if it is."""
        self.whole = whole
        self.is_related = self.is_whole or whole is not None

    @property
    def is_wanted(self) -> bool:
        return bool(
            self.subscriptions
            or self.waiters
            or self.is_asked_for
            or (self.derived and any(channel.is_wanted for channel in self.derived))
        )

    @property
    def is_open_to_anyone(self) -> bool:
        """Whether clients without credentials may have it."""
        return is_open_to_anyone(Match(self.policy, self.holes))

    @property
    def is_keeping_state(self) -> bool:
        """Whether it knows what its newest publication alone would not tell."""
        return self.log.head_seq > 0 and self.policy.snapshot in _FOLDED and self.view.is_known

    @property
    def book_size(self) -> int:
        """Bytes of memory that its order book takes, roughly; 0 where it is none."""
        return self.view.size if isinstance(self.view, Book) else 0

    @property
    def levels_cut(self) -> int:
        """Levels of its order book that were too far from the best to be kept."""
        return self.view.cut if isinstance(self.view, Book) else 0

    def is_idle_since(self, then: float) -> bool:
        """Whether nobody will miss it. A folded state is missed: it could not be made again."""
        return self.used_at < then and not self.is_wanted and not self.is_keeping_state

    @property
    def has_state(self) -> bool:
        """Whether there is a state, which costs less to know than to see."""
        return self.has_snapshots and self.view.is_known

    @property
    def state(self) -> Publication | None:
        """What a newcomer gets first: the state as of the newest publication. None where it is unknown, or the
        namespace has no snapshots."""
        if not self.has_state:
            return None
        if self._state is None:
            self._state = self._render()
        return self._state

    def _render(self) -> Publication | None:
        last, data = self.last, self.view.render()
        if data is None or (last is not None and last.data is data):
            return last
        return Publication(
            self.log.head_seq,
            data,
            ts=self.created_ms if last is None else last.ts,
            stored_at=self.used_at,
            event=self.policy.event,
            kind="snapshot",
            last_update_id=self.last_update_id,
        )

    def append(self, publication: Publication, parsed: object) -> None:
        """Takes the next publication, and with it ``parsed``, what the view made of its payload."""
        if self._slices:
            self._slices.clear()
        if self._snapshots:
            self._snapshots.clear()
        self._state = None
        self.log.append(publication)
        self.view.fold(parsed)
        self.last = publication
        if publication.last_update_id is not None:
            self.last_update_id = publication.last_update_id
        self.used_at = publication.stored_at

    def seed(self, data: bytes) -> None:
        """Takes the first state from outside. Raises BadPayload."""
        self.view.seed(data)
        self._state = None
        self._snapshots.clear()
        for derived in self.derived:
            assert derived.derivation is not None
            derived.derivation.is_stale = True

    def forget_state(self) -> None:
        """The state is unknown from now on, until a snapshot is published."""
        self.view.forget()
        self._state = None
        self._snapshots.clear()
        if self.derivation is not None:
            self.derivation.forget()
        for derived in self.derived:
            derived.forget_state()

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
            cursor = "" if cursor_at is None else cursor_at(publication.seq)
            frame = self.frame(encoding, publication, cursor)
            frames.append(frame)
            size += len(frame)
            if size >= SLICE_BYTES:
                break
        return frames

    def frame(self, encoding: Encoding, publication: Publication, cursor: str) -> bytes:
        """A publication, framed, with the cursor where the framing carries one."""
        if not encoding.carries_cursor:
            return encoding.publication(self.name, publication, self.log, has_type=self.has_snapshots)
        return encoding.publication_with_cursor(
            self.name, publication, self.log, has_type=self.has_snapshots, cursor=cursor
        )

    def messages(
        self,
        encoding: Encoding,
        after: int,
        limit: int,
        *,
        max_bytes: int,
    ) -> tuple[list[bytes], int]:
        """At most ``limit`` messages that follow seq ``after`` (at least one, if there is any), and the seq of
        the last."""
        messages: list[bytes] = []
        size = 0
        for publication in self.log.read(after, limit):
            message = self.frame(encoding, publication, "")
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
