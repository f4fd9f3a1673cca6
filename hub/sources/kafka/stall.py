"""Finds partitions that have records to read and yet do not advance."""

from __future__ import annotations

from collections.abc import Mapping

from hub.sources.kafka.progress import Place

#: Seconds that a partition must stand still, at first, and after many vain attempts to help. librdkafka itself
#: waits up to a second before it asks again for a partition that had an error.
_PATIENCE = (3.0, 120.0)


class StallWatch:
    """Compares how far the partitions were at one look with how far they are at the next.

    Why this is needed, with librdkafka 2.16: while a broker starts, its answer to a fetch may name no leader
    for some partitions. These are counted but not filled in, and what the memory held before is taken for
    leaders and leader epochs. A partition that gets an epoch far in the future is never fetched again, without
    any error; only a new client helps. (Its issue 5593 has another way to the same end.)
    """

    def __init__(self) -> None:
        #: The offset at which each stands, and since when.
        self._suspects: dict[Place, tuple[int, float]] = {}
        self._patience = _PATIENCE[0]

    def find_stalled(
        self, offsets: Mapping[Place, int], ends: Mapping[Place, int], now: float, *, had_time: bool
    ) -> list[Place]:
        """The partitions that stand still at ``now`` (monotonic seconds). ``had_time``: since the last look the
        reader had nothing to do for a while, so it would have read what there was."""
        suspects = {place: (offsets[place], now) for place, end in ends.items() if offsets[place] < end}
        for place, (offset, since) in self._suspects.items():
            if had_time and suspects.get(place) == (offset, now):
                suspects[place] = (offset, since)
        self._suspects = suspects
        if not suspects:
            self._patience = _PATIENCE[0]
        return [place for place, (_, since) in suspects.items() if now - since >= self._patience]

    def start_over(self) -> None:
        """Something was done about it. If that does not help, the next attempt shall not come as soon."""
        self._suspects = {}
        self._patience = min(_PATIENCE[1], self._patience * 2)
