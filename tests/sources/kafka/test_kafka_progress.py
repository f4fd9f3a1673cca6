from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from hub.sources.kafka.pacing import Quiet, Reminder
from hub.sources.kafka.progress import Place, Progress
from hub.sources.kafka.refusals import PAUSE, Refusal, Refusals
from hub.sources.kafka.stall import StallWatch

A: Place = ("ws.trades", 0)
B: Place = ("ws.trades", 1)


def test_caught_up_when_every_expected_partition_has_reached_its_end() -> None:
    progress = Progress()
    progress.expect(A)
    progress.expect(B)
    assert not progress.is_caught_up  # not even known where they begin
    progress.begin(A, 0, end=2)
    progress.begin(B, 5, end=5)  # nothing to read
    assert not progress.is_caught_up
    assert progress.advance(A, 0, None)
    assert not progress.is_caught_up
    assert progress.advance(A, 1, None)

    assert progress.is_caught_up


def test_what_appears_later_does_not_undo_it() -> None:
    progress = Progress()
    progress.begin(A, 0, end=1_000)

    assert progress.is_caught_up


def test_the_end_counts_where_the_last_entries_are_no_records() -> None:
    progress = Progress()
    progress.expect(A)
    progress.begin(A, 0, end=3)
    progress.advance(A, 0, None)
    progress.reach_end(A, 3)  # a transaction's marks

    assert progress.is_caught_up
    assert progress.offsets == {A: 3}


def test_a_topic_that_has_gone_is_not_waited_for() -> None:
    progress = Progress()
    progress.expect(A)
    progress.excuse("other")
    assert not progress.is_caught_up
    progress.excuse("ws.trades")

    assert progress.is_caught_up


def test_a_partition_that_nobody_asked_for_is_not_read() -> None:
    assert not Progress().advance(A, 0, 1)


def test_lag_is_what_is_known_to_be_left() -> None:
    progress = Progress()
    progress.begin(A, 2, end=10)
    progress.begin(B, 4, end=4)

    assert progress.lag({}) == {A: 8, B: 0}
    assert progress.lag({A: 12, B: 3, ("other", 0): 9}) == {A: 10, B: 0}
    progress.note_ends({B: 5})
    assert progress.lag({}) == {A: 8, B: 1}


def test_the_time_of_the_last_record_is_remembered() -> None:
    progress = Progress()
    progress.begin(A, 0, end=0)
    progress.advance(A, 0, 1740000000000)
    progress.advance(A, 1, None)

    assert progress.last_time(A) == 1740000000000
    assert progress.last_time(B) is None


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 8)), max_size=60))
def test_no_offset_is_read_twice_and_none_backwards(messages: list[tuple[Place, int]]) -> None:
    progress = Progress()
    for place in (A, B):
        progress.begin(place, 0, end=0)
    read: defaultdict[Place, list[int]] = defaultdict(list)
    for place, offset in messages:
        if progress.advance(place, offset, None):
            read[place].append(offset)

    for offsets in read.values():
        assert offsets == sorted(set(offsets))


# --- partitions that stand still -------------------------------------------------------------------------


def look(watch: StallWatch, now: float, offset: int, end: int = 10, *, had_time: bool = True) -> list[Place]:
    return watch.find_stalled({A: offset, B: 5}, {A: end, B: 5}, now, had_time=had_time)


def test_a_partition_is_stalled_when_it_does_not_advance_though_there_was_time() -> None:
    watch = StallWatch()

    assert [look(watch, now, 7) for now in (0.0, 1.0, 2.9, 3.0)] == [[], [], [], [A]]


def test_a_partition_that_advances_or_has_nothing_to_read_is_not_stalled() -> None:
    watch = StallWatch()

    assert not any(look(watch, float(offset), offset, end=100) for offset in range(50))
    assert not any(look(watch, float(now), 100, end=100) for now in range(50, 100))


def test_a_reader_that_has_much_to_do_is_not_blamed() -> None:
    watch = StallWatch()

    assert not any(look(watch, float(now), 7, had_time=False) for now in range(50))


def test_vain_attempts_become_rare() -> None:
    watch, attempts = StallWatch(), []
    for now in range(1_000):
        if look(watch, float(now), 7):
            attempts.append(now)
            watch.start_over()

    assert attempts == [3, 10, 23, 48, 97, 194, 315, 436, 557, 678, 799, 920]


# --- how often a thing is said ---------------------------------------------------------------------------


def test_one_line_of_each_kind_then_silence() -> None:
    quiet = Quiet(60.0)

    assert quiet.admit("a", 100.0) == 0
    assert quiet.admit("b", 100.0) == 0
    assert [quiet.admit("a", 100.0 + second) for second in (1, 59)] == [None, None]
    assert quiet.admit("a", 160.0) == 2
    assert quiet.admit("a", 161.0) is None


def test_a_reminder_comes_at_longer_and_longer_intervals() -> None:
    reminder = Reminder(first=5.0, longest=300.0)
    times = [now for now in range(2_000) if reminder.is_due(float(now))]

    assert times == [0, 5, 15, 35, 75, 155, 315, 615, 915, 1215, 1515, 1815]
    reminder.reset()
    assert reminder.is_due(2_001.0)


# --- refused records -------------------------------------------------------------------------------------


def make_refusal(topic: str, offset: int) -> Refusal:
    return Refusal(topic=topic, partition=3, offset=offset, reason="no value", trace=None)


def test_refusals_are_told_at_once_and_then_once_a_minute_per_topic() -> None:
    refusals = Refusals()
    refusals.add(make_refusal("a", 1))
    assert [told.offset for told in refusals.take_due(0.0)] == [1]
    for offset in (2, 3, 4):
        refusals.add(make_refusal("a", offset))
    refusals.add(make_refusal("b", 9))

    assert [(told.topic, told.offset, told.count) for told in refusals.take_due(1.0)] == [("b", 9, 1)]
    assert refusals.take_due(PAUSE - 1) == []
    assert [(told.topic, told.offset, told.count) for told in refusals.take_due(PAUSE)] == [("a", 4, 3)]
    assert refusals.counts == {"a": 4, "b": 1}


def test_what_was_not_told_is_told_at_the_end() -> None:
    refusals = Refusals()
    refusals.add(make_refusal("a", 1))
    refusals.take_due(0.0)
    refusals.add(make_refusal("a", 2))

    assert [told.offset for told in refusals.take_all()] == [2]
    assert refusals.take_all() == []
