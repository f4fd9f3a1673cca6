"""Which partitions there are, and from where each is read."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

import attrs
import trio
from confluent_kafka import KafkaError, KafkaException

from hub.sources.kafka.connection import Connection
from hub.sources.kafka.inquiry import BEGINNING, END, UNANSWERED, Inquiry, TopicUnavailable
from hub.sources.kafka.progress import Place, Progress
from hub.sources.kafka.settings import KafkaSettings
from hub.sources.kafka.stall import StallWatch

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that an answer may take at first; a cluster that is there but slower than that gets more, up to the
#: second number. They also bound how long a shutdown waits for a question that nobody answers.
_PATIENCE = (0.5, 8.0)
#: Seconds until a question is asked again that had no answer: at first, and at most.
_PAUSE = (0.25, 2.0)
#: Looks in a row that a topic must be missing from before it is taken for another one when it is back: a broker
#: that has just started may not know all topics.
_ABSENCES = 2
#: After trouble with a broker: so many looks at least, with no more than so many seconds between.
_WORRIED_LOOKS = 10
_WORRIED_PAUSE = 1.0


class Ask(Protocol):
    """Calls a blocking function in a thread."""

    def __call__(self, function: Callable[..., T], /, *arguments: Any) -> Awaitable[T]: ...


@attrs.define(eq=False)
class Discovery:
    """Finds the partitions of the topics and where to read each, and sees when one is lost or stands still.

    Partitions that are there at the first look begin where the settings say; those that appear later begin
    with their first record. What it finds goes into ``progress``, and into ``assignments`` and ``moves``, from
    where the reader's task takes it.
    """

    _settings: KafkaSettings
    _inquiry: Inquiry
    _connection: Connection
    _progress: Progress
    _ask: Ask
    _now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    #: topic -> why it is not read
    unavailable: dict[str, str] = attrs.field(init=False, factory=dict)
    #: Set once all topics have been looked for.
    has_looked: bool = attrs.field(init=False, default=False)
    #: What the reader has yet to do: offsets to begin at, and to go on from.
    assignments: dict[Place, int] = attrs.field(init=False, factory=dict)
    moves: dict[Place, int] = attrs.field(init=False, factory=dict)
    #: Partitions that only a new reader will read on.
    stalled: list[Place] = attrs.field(init=False, factory=list)
    #: Set by the reader's task when there was nothing to read for a moment.
    was_idle: bool = attrs.field(init=False, default=False)
    _late: set[Place] = attrs.field(init=False, factory=set)
    _waiting: set[Place] = attrs.field(init=False, factory=set)
    _displaced: set[Place] = attrs.field(init=False, factory=set)
    _absences: Counter[str] = attrs.field(init=False, factory=Counter)
    _reborn: set[Place] = attrs.field(init=False, factory=set)
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)
    _patience: float = attrs.field(init=False, default=_PATIENCE[0])
    _pause: float = attrs.field(init=False, default=_PAUSE[0])
    _watch: StallWatch = attrs.field(init=False, factory=StallWatch)
    _troubles: int = attrs.field(init=False, default=0)
    _worried: int = attrs.field(init=False, default=0)

    async def run(self) -> None:
        """Looks at once, then regularly, and when `displace` says so."""
        while True:
            self._news = trio.Event()
            with trio.move_on_after(await self._look()):
                await self._news.wait()

    def displace(self, place: Place) -> None:
        """The partition stands still, because its next offset is not in the log."""
        if place in self._progress.offsets:
            self._displaced.add(place)
            self._news.set()

    # --- looking ------------------------------------------------------------------------------------------

    async def _look(self) -> float:
        """One round; returns the seconds until the next one."""
        try:
            for topic in self._settings.topics:
                await self._find_partitions(topic)
            self.has_looked = True
            await self._begin()
            await self._put_right()
            await self._find_stalled()
        except KafkaException as error:
            return self._be_patient(error.args[0])
        if self._waiting or self._displaced:  # no leader at the moment
            return self._next_pause()
        self._pause = _PAUSE[0]
        self._worried = max(0, self._worried - 1)
        return min(_WORRIED_PAUSE, self._settings.refresh) if self._worried else self._settings.refresh

    def _be_patient(self, error: KafkaError) -> float:
        logger.debug("no answer from Kafka", extra={"error": error.str()})
        if self._connection.has_broker and error.code() in UNANSWERED:
            self._patience = min(_PATIENCE[1], self._patience * 2)
        return self._next_pause()

    def _next_pause(self) -> float:
        pause, self._pause = self._pause, min(_PAUSE[1], self._pause * 2)
        return pause

    async def _find_partitions(self, topic: str) -> None:
        try:
            partitions = await self._ask(self._inquiry.find_partitions, topic, self._patience)
        except TopicUnavailable as problem:
            self._note_unavailable(topic, problem)
            return
        if self.unavailable.pop(topic, None) is not None:
            logger.info("Kafka topic found", extra={"topic": topic, "partitions": len(partitions)})
        if self._absences.pop(topic, 0) >= _ABSENCES:
            self._reborn.update(place for place in self._progress.offsets if place[0] == topic)
        for place in ((topic, partition) for partition in partitions):
            if place not in self._progress.offsets and place not in self._waiting:
                self._add(place)

    def _add(self, place: Place) -> None:
        self._waiting.add(place)
        if self.has_looked:
            self._late.add(place)
        else:
            self._progress.expect(place)

    def _note_unavailable(self, topic: str, problem: TopicUnavailable) -> None:
        """A topic that is not there is waited for, but nothing waits for it."""
        if self.unavailable.get(topic) != str(problem):
            logger.warning("Kafka topic not available", extra={"topic": topic, "error": str(problem)})
        self.unavailable[topic] = str(problem)
        self._absences[topic] += 1
        self._waiting = {place for place in self._waiting if place[0] != topic}
        self._progress.excuse(topic)

    # --- new partitions -----------------------------------------------------------------------------------

    async def _begin(self) -> None:
        if not self._waiting:
            return
        # The ends first: what is written after this question is after the end, and comes for sure.
        ends = await self._find_offsets(self._waiting, END)
        starts = await self._find_starts(ends)
        for place, offset in starts.items():
            self._progress.begin(place, offset, ends[place])
        self._waiting -= starts.keys()
        self._late -= starts.keys()
        self.assignments |= starts

    async def _find_starts(self, ends: Mapping[Place, int]) -> dict[Place, int]:
        start = self._settings.start
        late = {place for place in ends if place in self._late or start == "earliest"}
        punctual = ends.keys() - late
        starts = await self._find_offsets(late, BEGINNING)
        if start == "latest":
            return starts | {place: ends[place] for place in punctual}
        since = self._now_ms() - int(self._settings.buffer_age * 1000)
        return starts | _or_end(await self._find_offsets(punctual, since), ends)

    # --- lost partitions ----------------------------------------------------------------------------------

    async def _put_right(self) -> None:
        """Goes on with partitions whose log is not the one that was read so far."""
        lost = self._displaced | self._reborn
        if not lost:
            return
        ends = await self._find_offsets(lost, END)
        beginnings = await self._find_offsets(ends, BEGINNING)
        renewed = {
            place
            for place in beginnings
            if place in self._reborn or self._progress.offsets[place] > ends[place]
        }
        offsets = await self._find_after_last(renewed, ends)
        for place in beginnings.keys() - renewed:
            offsets[place] = max(self._progress.offsets[place], beginnings[place])
        for place, offset in offsets.items():
            self._tell(place, offset, beginnings[place], ends[place])
            self._progress.begin(place, offset, ends[place])
        self._displaced -= offsets.keys()
        self._reborn -= offsets.keys()
        self.moves |= offsets

    async def _find_after_last(self, places: Iterable[Place], ends: Mapping[Place, int]) -> dict[Place, int]:
        """Where a log goes on that counts anew, because its topic was deleted and made again, or because it lost
        its end with a broker: after the time of the last record that was read."""
        times = {place: -1 if (last := self._progress.last_time(place)) is None else last for place in places}
        found = await self._find_offsets(times, {place: last + 1 for place, last in times.items()})
        return _or_end(found, ends)

    def _tell(self, place: Place, offset: int, beginning: int, end: int) -> None:
        expected = self._progress.offsets[place]
        fields = {"topic": place[0], "partition": place[1], "offset": offset}
        if expected < beginning:
            lost = {"lostFrom": expected, "lostTo": beginning - 1, "lost": beginning - expected}
            logger.warning("Kafka records lost to retention", extra={**fields, **lost})
        elif offset != expected:
            logger.warning("Kafka partition begins anew", extra={**fields, "expected": expected, "end": end})

    # --- partitions that stand still ----------------------------------------------------------------------

    async def _find_stalled(self) -> None:
        if self._connection.status != "ok" or self._connection.troubles != self._troubles:
            # It is what comes after this that may go wrong, so look closely then.
            self._worried, self._troubles = _WORRIED_LOOKS, self._connection.troubles
        had_time, self.was_idle = self.was_idle, False
        places = [place for place in self._progress.offsets if place[0] not in self.unavailable]
        ends = await self._find_offsets(places, END)
        self._progress.note_ends(ends)
        now = trio.current_time()
        self.stalled = self._watch.find_stalled(self._progress.offsets, ends, now, had_time=had_time)

    def start_over(self) -> None:
        """A new reader reads all partitions from where they were."""
        self._watch.start_over()
        self.stalled = []
        self.assignments, self.moves = {}, {}

    async def _find_offsets(
        self, places: Iterable[Place], when: int | Mapping[Place, int]
    ) -> dict[Place, int]:
        return await self._ask(self._inquiry.find_offsets, sorted(places), when, self._patience)


def _or_end(found: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[Place, int]:
    """Offsets that were found by time; the end where no record is that young."""
    return {place: ends[place] if offset == END else offset for place, offset in found.items()}
