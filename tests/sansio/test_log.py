"""The log against a naive model: all that was ever appended, and which of it is still there."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub.sansio.encodings import Bare, Encoding, WebSocketFrames
from hub.sansio.live import LiveEnvelope
from hub.sansio.log import PUBLICATION_OVERHEAD, Gap, Log, Resumption
from hub.sansio.publication import Position, Publication
from hub.sansio.stream_v2 import StreamV2Cbor, StreamV2Json

ENCODINGS = (
    Encoding(StreamV2Json(), WebSocketFrames(text=True)),
    Encoding(StreamV2Cbor(), WebSocketFrames(text=False)),
    Encoding(LiveEnvelope(), Bare()),
)
EPOCH = "e1"
# Eighths of a second add up exactly.
waits = st.integers(0, 40).map(lambda eighths: eighths / 8)


def publication(seq: int, size: int = 1, stored_at: float = 0.0) -> Publication:
    return Publication(seq, b"1" * size, ts=1_740_000_000_000, stored_at=stored_at, event="message")


@attrs.frozen
class Bounds:
    count: int
    size: int
    age: float


BOUNDS = st.builds(
    Bounds,
    count=st.sampled_from((1, 2, 7, 1000)),
    size=st.sampled_from((PUBLICATION_OVERHEAD, 3000, 1 << 30)),
    age=st.sampled_from((0.0, 4.0, math.inf)),
)


class LogAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.kept: list[Publication] = []

    @initialize(bounds=BOUNDS, start=st.sampled_from((0, 5, 2**53 - 200)))
    def begin(self, bounds: Bounds, start: int) -> None:
        self.bounds = bounds
        self.head = start
        self.log = Log(
            Position(EPOCH, start), max_count=bounds.count, max_bytes=bounds.size, max_age=bounds.age
        )

    # --- the model ----------------------------------------------------------------------------------------

    @property
    def first(self) -> int:
        return self.head - len(self.kept) + 1

    def cost(self) -> int:
        return sum(
            PUBLICATION_OVERHEAD + len(kept.data) + sum(len(wire) for wire in kept.wire.values())
            for kept in self.kept
        )

    def trim_model(self) -> None:
        while self.kept and (
            len(self.kept) > self.bounds.count
            or self.cost() > self.bounds.size
            or self.now - self.kept[0].stored_at > self.bounds.age
        ):
            self.kept.pop(0)

    # --- what can happen ----------------------------------------------------------------------------------

    @rule(size=st.integers(0, 400), wait=waits)
    def append(self, size: int, wait: float) -> None:
        self.now += wait
        item = publication(self.head + 1, size, self.now)
        self.log.append(item)
        self.head += 1
        self.kept.append(item)
        self.trim_model()

    @rule(count=st.integers(1, 30))
    def append_many(self, count: int) -> None:
        for _ in range(count):
            self.append(10, 0.0)

    @rule(step=st.sampled_from((-1, 0, 2, 100)))
    def append_out_of_order(self, step: int) -> None:
        with pytest.raises(ValueError):
            self.log.append(publication(self.head + step, stored_at=self.now))

    @rule(wait=waits)
    def trim(self, wait: float) -> None:
        self.now += wait
        self.log.trim(self.now)
        self.trim_model()

    @rule(count=st.integers(0, 12))
    def evict_oldest(self, count: int) -> None:
        self.log.evict_oldest(count)
        del self.kept[:count]

    @precondition(lambda self: self.kept)
    @rule(where=st.integers(0, 999), encoding=st.sampled_from(ENCODINGS))
    def encode(self, where: int, encoding: Encoding) -> None:
        item = self.kept[where % len(self.kept)]
        once = encoding.publication("trades@btc_tl", item, self.log, has_type=False)
        assert encoding.publication("trades@btc_tl", item, self.log, has_type=False) is once

    @rule(back=st.integers(0, 40), limit=st.integers(0, 50))
    def read(self, back: int, limit: int) -> None:
        after = max(self.head - back, self.first - 1)
        expected = [item for item in self.kept if item.seq > after][:limit]
        assert list(self.log.read(after, limit)) == expected

    @rule(distance=st.integers(-50, 5), epoch=st.sampled_from((None, EPOCH, "other")))
    def resume(self, distance: int, epoch: str | None) -> None:
        seq = max(0, self.head + distance)
        got = self.log.resume(seq, epoch)
        if epoch == "other":
            assert got == Resumption(self.head, Gap("epoch", seq + 1, None))
        elif seq > self.head:
            assert got == Resumption(self.head, Gap("ahead", seq + 1, None))
        else:
            # What is lost and what is replayed are together all that came after.
            lost = range(seq + 1, max(seq + 1, self.first))
            replayed = [item.seq for item in self.log.read(got.seq, 10_000)]
            assert [*lost, *replayed] == list(range(seq + 1, self.head + 1))
            assert got.gap == (Gap("evicted", lost[0], lost[-1]) if lost else None)

    # --- what always holds --------------------------------------------------------------------------------

    @invariant()
    def is_the_model(self) -> None:
        log = self.log
        assert list(log.read(self.first - 1, 10_000)) == self.kept
        assert [item.seq for item in self.kept] == list(range(log.first_seq, log.head_seq + 1))
        assert (log.first_seq, log.head_seq, len(log)) == (self.first, self.head, len(self.kept))
        assert log.position == Position(EPOCH, self.head)
        assert log.next_position == Position(EPOCH, self.head + 1)
        assert log.oldest is (self.kept[0] if self.kept else None)

    @invariant()
    def size_is_what_is_kept(self) -> None:
        assert self.log.size == self.cost()
        assert self.kept or self.log.size == 0


TestLogAgainstModel = LogAgainstModel.TestCase
TestLogAgainstModel.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


def test_each_way_to_come_back() -> None:
    log = Log(Position(EPOCH, 0), max_count=3, max_bytes=1 << 30, max_age=math.inf)
    for seq in range(1, 6):
        log.append(publication(seq))
    assert log.resume(4, EPOCH) == log.resume(4, None) == Resumption(4, None)
    assert log.resume(2, None) == Resumption(2, None)
    assert log.resume(1, EPOCH) == Resumption(2, Gap("evicted", 2, 2))
    assert log.resume(6, None) == Resumption(5, Gap("ahead", 7, None))
    assert log.resume(4, "other") == Resumption(5, Gap("epoch", 5, None))


def test_what_is_let_go_of_is_not_held_back_by_the_list() -> None:
    log = Log(Position(EPOCH, 0), max_count=1000, max_bytes=1 << 30, max_age=math.inf)
    for seq in range(1, 1001):
        log.append(publication(seq))
    log.evict_oldest(400)
    assert sum(slot is not None for slot in log._entries) == len(log) == 600
    log.evict_oldest(200)
    assert len(log._entries) == len(log) == 400


def test_a_publication_says_what_it_is() -> None:
    assert repr(publication(7)) == "Publication(seq=7, data=b'1')"
