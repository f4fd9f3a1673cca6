"""Records that were refused: counted each, told of at most once a minute per topic (channels.md)."""

from __future__ import annotations

import attrs

#: Seconds between two lines about one topic.
PAUSE = 60.0


@attrs.frozen(kw_only=True)
class Refusal:
    """The newest refused record of a topic, and how many there were since the last time that it was told."""

    topic: str
    partition: int
    offset: int
    reason: str
    trace: str | None
    count: int = 1


class Refusals:
    """What was refused, by topic. Times are monotonic seconds."""

    def __init__(self) -> None:
        #: topic -> records since the start
        self.counts: dict[str, int] = {}
        self._untold: dict[str, Refusal] = {}
        self._told: dict[str, float] = {}

    def add(self, refusal: Refusal) -> None:
        topic = refusal.topic
        self.counts[topic] = self.counts.get(topic, 0) + 1
        before = self._untold.get(topic)
        self._untold[topic] = refusal if before is None else attrs.evolve(refusal, count=before.count + 1)

    def take_due(self, now: float) -> list[Refusal]:
        """What may be told now; it is taken as told."""
        if not self._untold:
            return []
        due = [topic for topic in self._untold if now - self._told.get(topic, -PAUSE) >= PAUSE]
        self._told.update(dict.fromkeys(due, now))
        return [self._untold.pop(topic) for topic in due]

    def take_all(self) -> list[Refusal]:
        """What has not been told, at the end."""
        untold, self._untold = list(self._untold.values()), {}
        return untold
