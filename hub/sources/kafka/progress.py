"""How far each partition has been read, and whether that is far enough to say: caught up."""

from __future__ import annotations

from collections.abc import Mapping

#: A partition: topic and number.
Place = tuple[str, int]


class Progress:
    """The next offset of each partition that is read.

    A partition that was ``expect``-ed must reach its target, the end that it had at the start, before all
    ``is_caught_up``.
    """

    def __init__(self) -> None:
        self._next: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self._times: dict[Place, int] = {}
        self._targets: dict[Place, int | None] = {}

    @property
    def is_caught_up(self) -> bool:
        return not self._targets

    @property
    def offsets(self) -> Mapping[Place, int]:
        """Where each partition goes on."""
        return self._next

    def expect(self, place: Place) -> None:
        """Nothing is caught up before this partition, whose end is not known yet."""
        self._targets[place] = None

    def excuse(self, topic: str) -> None:
        """The topic has gone: there is nothing to catch up with."""
        for place in [place for place in self._targets if place[0] == topic]:
            del self._targets[place]

    def begin(self, place: Place, offset: int, end: int) -> None:
        """The partition is read from ``offset``, maybe not for the first time; ``end`` is the offset after its
        last record now."""
        self._next[place] = offset
        self._ends[place] = end
        if place in self._targets:
            self._targets[place] = end
            self._check_target(place, offset)

    def advance(self, place: Place, offset: int, timestamp: int | None) -> bool:
        """Whether this record is the partition's next one, rather than one that was read before."""
        expected = self._next.get(place)
        if expected is None or offset < expected:
            return False
        self._next[place] = offset + 1
        if timestamp is not None:
            self._times[place] = timestamp
        if self._targets:
            self._check_target(place, offset + 1)
        return True

    def reach_end(self, place: Place, offset: int) -> None:
        """Nothing is left before ``offset``: also where the last entries of the log are no records."""
        if self._next.get(place, offset) < offset:
            self._next[place] = offset
        self._check_target(place, offset)

    def note_ends(self, ends: Mapping[Place, int]) -> None:
        """The ends of partitions, as they are known now."""
        self._ends.update(ends)

    def last_time(self, place: Place) -> int | None:
        """The timestamp of the newest record, in Unix milliseconds."""
        return self._times.get(place)

    def lag(self, ends: Mapping[Place, int]) -> dict[Place, int]:
        """Records still to read, by partition. ``ends``: what else is known of the ends; the greater one counts."""
        return {
            place: max(0, max(ends.get(place, 0), self._ends[place]) - offset)
            for place, offset in self._next.items()
        }

    def _check_target(self, place: Place, offset: int) -> None:
        target = self._targets.get(place)
        if target is not None and offset >= target:
            del self._targets[place]
