"""The log of a channel: a bounded, contiguous run of publications.

Everything a hub does for late, slow or returning clients is a read in this log; see
``docs/architecture.rst``. All operations are O(1), or O(what they return).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from hub.sansio.publication import Position, Publication

#: What a publication costs beside its payload: two objects, a list slot, the encodings' dictionary.
PUBLICATION_OVERHEAD = 512

GapReason = Literal["evicted", "epoch", "ahead"]


@attrs.frozen
class Gap:
    """What a returning client cannot be given: ``from_seq`` to ``to_seq``, both included.

    ``to_seq`` is None where another epoch, or a number from the future, makes it unknowable.
    """

    reason: GapReason
    from_seq: int
    to_seq: int | None


@attrs.frozen
class Resumption:
    """Where a returning client goes on: after ``seq``, once ``gap`` has been told."""

    seq: int
    gap: Gap | None


class Log:
    """Publications ``first_seq`` to ``head_seq``, bounded by count, bytes and age.

    ``start`` is the position before the first publication. A log that holds nothing has
    ``first_seq == head_seq + 1``.
    """

    __slots__ = (
        "_begin",
        "_entries",
        "epoch",
        "first_seq",
        "head_seq",
        "max_age",
        "max_bytes",
        "max_count",
        "size",
    )

    def __init__(self, start: Position, *, max_count: int, max_bytes: int, max_age: float) -> None:
        self.epoch = start.epoch
        self.head_seq = start.seq
        self.first_seq = start.seq + 1
        self.max_count = max_count
        self.max_bytes = max_bytes
        self.max_age = max_age
        self.size = 0
        self._entries: list[Publication] = []
        self._begin = 0  # entries before this index are gone; the list is compacted now and then

    def __len__(self) -> int:
        return len(self._entries) - self._begin

    @property
    def position(self) -> Position:
        """The position of the newest publication."""
        return Position(self.epoch, self.head_seq)

    @property
    def next_position(self) -> Position:
        """The position of the publication that will be next."""
        return Position(self.epoch, self.head_seq + 1)

    @property
    def oldest(self) -> Publication | None:
        return self._entries[self._begin] if len(self) else None

    def append(self, publication: Publication) -> None:
        """Takes the publication that follows the head; lets go of what is then too much or too old."""
        if publication.seq != self.head_seq + 1:
            raise ValueError(f"seq {publication.seq} does not follow {self.head_seq}")
        self._entries.append(publication)
        self.head_seq = publication.seq
        self.size += len(publication.data) + PUBLICATION_OVERHEAD
        self.trim(publication.stored_at)

    def trim(self, now: float) -> None:
        """Lets go of the oldest while there are too many, too many bytes, or they are too old."""
        entries, begin, end = self._entries, self._begin, len(self._entries)
        oldest_allowed = now - self.max_age
        while begin < end and (
            end - begin > self.max_count
            or self.size > self.max_bytes
            or entries[begin].stored_at < oldest_allowed
        ):
            self.size -= _size(entries[begin])
            begin += 1
        self._forget_before(begin)

    def evict_oldest(self, count: int) -> None:
        """Lets go of the ``count`` oldest whatever the bounds say (a global limit was reached)."""
        begin = min(self._begin + count, len(self._entries))
        self.size -= sum(_size(entry) for entry in self._entries[self._begin : begin])
        self._forget_before(begin)

    def _forget_before(self, begin: int) -> None:
        self.first_seq += begin - self._begin
        # Deleting at the front of a list moves all the rest, so it is done once per half of the list; the
        # dead slots hold no publication meanwhile.
        for index in range(self._begin, begin):
            self._entries[index] = None  # type: ignore[call-overload]
        self._begin = begin
        if begin * 2 >= len(self._entries) and begin:
            del self._entries[:begin]
            self._begin = 0

    def read(self, after: int, limit: int) -> Sequence[Publication]:
        """At most ``limit`` publications that follow seq ``after``; ``after + 1`` must be buffered."""
        begin = len(self._entries) - (self.head_seq - after)
        return self._entries[begin : begin + limit]

    def add_encoded(self, size: int) -> None:
        """Counts bytes that an encoding added to a publication of this log."""
        self.size += size

    def resume(self, seq: int, epoch: str | None) -> Resumption:
        """Where a client goes on that has seen ``seq`` of ``epoch`` (None: of whatever is current).

        What is still buffered is always given, so the gap is as small as it can be; a number that belongs
        to another history says nothing about this one, so the client goes on from the head.
        """
        if epoch is not None and epoch != self.epoch:
            return Resumption(self.head_seq, Gap("epoch", seq + 1, None))
        if seq > self.head_seq:
            return Resumption(self.head_seq, Gap("ahead", seq + 1, None))
        if seq < self.first_seq - 1:
            return Resumption(self.first_seq - 1, Gap("evicted", seq + 1, self.first_seq - 1))
        return Resumption(seq, None)


def _size(publication: Publication) -> int:
    return len(publication.data) + PUBLICATION_OVERHEAD + sum(map(len, publication.wire.values()))
