"""Where partitions begin and go on, against a cluster that only pretends. Time is the mock clock's."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import attrs
import pytest
import trio
import trio.testing
from confluent_kafka import KafkaError, KafkaException

from hub.sansio.options import Seconds
from hub.sources.kafka import KafkaSettings, Topic
from hub.sources.kafka.connection import Connection
from hub.sources.kafka.discovery import Discovery
from hub.sources.kafka.inquiry import BEGINNING, END, Inquiry, TopicUnavailable
from hub.sources.kafka.progress import Place, Progress

T = TypeVar("T")
NOW = 1_740_000_000_000
A: Place = ("t", 0)
B: Place = ("t", 1)


@attrs.define
class Log:
    """A partition: the times of its records, the first of which has the offset ``beginning``."""

    times: list[int]
    beginning: int = 0
    has_leader: bool = True

    def find(self, when: int) -> int:
        if when in (BEGINNING, END):
            return self.beginning + (len(self.times) if when == END else 0)
        index = bisect_left(self.times, when)
        return self.beginning + index if index < len(self.times) else END


@attrs.define(eq=False)
class Cluster:
    """Answers as Kafka does."""

    logs: dict[Place, Log]
    is_away: bool = False
    timeouts: list[float] = attrs.field(factory=list)

    def find_partitions(self, topic: str, timeout: float) -> list[int]:
        self._answer(timeout)
        found = [partition for name, partition in self.logs if name == topic]
        if not found:
            raise TopicUnavailable("unknown topic")
        return found

    def find_offsets(
        self, places: Sequence[Place], when: int | Mapping[Place, int], timeout: float
    ) -> dict[Place, int]:
        self._answer(timeout)
        times = when if isinstance(when, Mapping) else dict.fromkeys(places, when)
        return {
            place: self.logs[place].find(times[place])
            for place in places
            if place in self.logs and self.logs[place].has_leader
        }

    def _answer(self, timeout: float) -> None:
        self.timeouts.append(timeout)
        if self.is_away:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


@attrs.define(eq=False)
class Bench:
    """A discovery at work on a cluster."""

    cluster: Cluster
    progress: Progress = attrs.field(factory=Progress)
    connection: Connection = attrs.field(factory=Connection)
    start: Literal["buffer", "earliest", "latest"] = "buffer"
    discovery: Discovery = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.connection.is_known = self.connection.has_broker = not self.cluster.is_away
        settings = KafkaSettings(
            bootstrap_servers="pretended:9092",
            start=self.start,
            buffer_age=Seconds(300.0),
            refresh=Seconds(10.0),
            topics={"t": Topic(channels=("{key}",))},
        )
        self.discovery = Discovery(
            settings,
            cast("Inquiry", self.cluster),
            self.connection,
            self.progress,
            self.ask,
            lambda: NOW,
        )

    async def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    def read(self, place: Place, count: int) -> None:
        """As if the reader had read the partition's next records."""
        for _ in range(count):
            offset = self.progress.offsets[place]
            log = self.cluster.logs[place]
            self.progress.advance(place, offset, log.times[offset - log.beginning])


def make_times(count: int, *, until: int = NOW, every: int = 60_000) -> list[int]:
    return [until - every * (count - 1 - index) for index in range(count)]


async def settle(seconds: float = 0.0) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("start, offset", [("buffer", 14), ("earliest", 0), ("latest", 20)])
async def test_where_a_partition_begins(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    start: Literal["buffer", "earliest", "latest"],
    offset: int,
) -> None:
    bench = Bench(Cluster({A: Log(make_times(20)), B: Log([])}), start=start)
    nursery.start_soon(bench.discovery.run)
    await settle()

    assert bench.discovery.assignments == {A: offset, B: 0}
    assert bench.discovery.has_looked
    assert bench.progress.is_caught_up is (start == "latest")


async def test_when_all_records_are_too_old_it_begins_at_the_end(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(Cluster({A: Log(make_times(20, until=NOW - 3_600_000), beginning=5)}))
    nursery.start_soon(bench.discovery.run)
    await settle()

    assert bench.discovery.assignments == {A: 25}
    assert bench.progress.is_caught_up


async def test_what_appears_later_is_read_from_its_first_record(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(Cluster({}), start="latest")
    nursery.start_soon(bench.discovery.run)
    await settle()
    assert bench.discovery.has_looked
    assert bench.progress.is_caught_up
    assert bench.discovery.unavailable == {"t": "unknown topic"}
    assert [record.message for record in caplog.records] == ["Kafka topic not available"]

    bench.cluster.logs[A] = Log(make_times(3))
    await settle(11.0)
    bench.cluster.logs[B] = Log(make_times(5), beginning=7)
    await settle(11.0)

    assert bench.discovery.assignments == {A: 0, B: 7}
    assert bench.discovery.unavailable == {}


async def test_a_partition_without_a_leader_is_waited_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(Cluster({A: Log(make_times(3)), B: Log(make_times(3), has_leader=False)}), start="latest")
    nursery.start_soon(bench.discovery.run)
    await settle()
    assert bench.discovery.assignments == {A: 3}
    assert not bench.progress.is_caught_up
    bench.cluster.logs[B].has_leader = True
    await settle(3.0)

    assert bench.discovery.assignments == {A: 3, B: 3}  # it was there at the start, so its end counts
    assert bench.progress.is_caught_up


async def test_a_cluster_that_is_away_is_asked_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(Cluster({A: Log([])}, is_away=True))
    nursery.start_soon(bench.discovery.run)
    await settle(60.0)
    assert not bench.discovery.has_looked
    assert 10 < len(bench.cluster.timeouts) < 60  # with pauses between
    assert set(bench.cluster.timeouts) == {0.5}
    bench.cluster.is_away = False
    await settle(3.0)

    assert bench.discovery.assignments == {A: 0}


async def test_a_cluster_that_is_slow_gets_more_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(Cluster({A: Log([])}, is_away=True))
    bench.connection.has_broker = True
    nursery.start_soon(bench.discovery.run)
    await settle(60.0)

    assert bench.cluster.timeouts[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


async def test_what_retention_took_is_told_exactly(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(Cluster({A: Log(make_times(100))}), start="earliest")
    nursery.start_soon(bench.discovery.run)
    await settle()
    bench.read(A, 10)
    del bench.cluster.logs[A].times[:60]
    bench.cluster.logs[A].beginning = 60
    bench.discovery.displace(A)
    await settle()

    assert bench.discovery.moves == {A: 60}
    assert bench.progress.offsets[A] == 60
    (line,) = caplog.records
    lost = {key: line.__dict__[key] for key in ("topic", "partition", "lostFrom", "lostTo", "lost")}
    assert lost == {"topic": "t", "partition": 0, "lostFrom": 10, "lostTo": 59, "lost": 50}


async def test_a_log_that_became_shorter_goes_on_with_what_is_new(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(Cluster({A: Log(make_times(100))}), start="earliest")
    nursery.start_soon(bench.discovery.run)
    await settle()
    bench.read(A, 100)
    # The last thirty went with a broker, and five new ones came since.
    bench.cluster.logs[A].times[70:] = [NOW + second for second in range(1, 6)]
    bench.discovery.displace(A)
    await settle()

    assert bench.discovery.moves == {A: 70}
    assert [record.message for record in caplog.records] == ["Kafka partition begins anew"]


async def test_a_topic_that_was_made_again_is_read_from_its_first_record(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(Cluster({A: Log(make_times(10))}), start="earliest")
    nursery.start_soon(bench.discovery.run)
    await settle()
    bench.read(A, 10)
    log = bench.cluster.logs.pop(A)
    await settle(21.0)
    assert bench.discovery.unavailable
    log.times = [NOW + second for second in range(1, 50)]  # already longer than the old one
    bench.cluster.logs[A] = log
    await settle(11.0)

    assert bench.discovery.moves == {A: 0}


async def test_a_partition_that_is_whole_goes_on_where_it_was(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(Cluster({A: Log(make_times(10))}), start="earliest")
    nursery.start_soon(bench.discovery.run)
    await settle()
    bench.read(A, 4)
    bench.discovery.displace(A)
    await settle()

    assert bench.discovery.moves == {A: 4}
    assert not caplog.records


async def test_a_topic_that_goes_before_it_was_read_is_not_waited_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(Cluster({A: Log(make_times(10))}), start="earliest")
    nursery.start_soon(bench.discovery.run)
    await settle()
    assert not bench.progress.is_caught_up
    bench.cluster.logs.clear()
    await settle(11.0)

    assert bench.progress.is_caught_up


async def test_a_topic_that_is_missing_for_a_moment_is_still_the_same(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(Cluster({A: Log(make_times(10))}), start="earliest")
    nursery.start_soon(bench.discovery.run)
    await settle()
    bench.read(A, 4)
    log = bench.cluster.logs.pop(A)
    await settle(11.0)
    bench.cluster.logs[A] = log
    await settle(11.0)

    assert bench.discovery.moves == {}


async def test_a_partition_that_stands_still_is_noticed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(Cluster({A: Log(make_times(10)), B: Log(make_times(10))}), start="earliest")
    nursery.start_soon(bench.discovery.run)
    await settle()
    bench.read(B, 10)
    assert not bench.discovery.stalled
    bench.discovery.was_idle = True
    await settle(10.0)
    assert bench.discovery.stalled == [A]
    bench.discovery.start_over()

    assert (bench.discovery.stalled, bench.discovery.assignments) == ([], {})
