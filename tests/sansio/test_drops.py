"""Two sliding windows of drops against a list of all drops."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.drops import DropWindow, SlowRules

RULES = st.builds(
    SlowRules,
    warn_dropped=st.sampled_from((0, 1, 20)),
    warn_window=st.sampled_from((1.0, 3.0, 10.0)),
    close_dropped=st.sampled_from((0, 5, 60)),
    close_window=st.sampled_from((1.0, 5.0, 60.0)),
)
COUNTS = st.integers(1, 12)
EIGHTHS = st.integers(0, 24).map(lambda eighths: eighths / 8)  # they add up exactly
SECONDS = st.integers(0, 20).map(float)


class Model:
    def __init__(self, rules: SlowRules) -> None:
        self.rules = rules
        self.drops: list[tuple[float, int]] = []
        self.warned_at = -1e9

    def dropped(self, window: float, now: float) -> int:
        return sum(count for at, count in self.drops if at >= now - window)

    def add(self, count: int, now: float) -> str:
        self.drops.append((now, count))
        rules = self.rules
        if rules.close_dropped and self.dropped(rules.close_window, now) > rules.close_dropped:
            return "close"
        is_much = rules.warn_dropped and self.dropped(rules.warn_window, now) > rules.warn_dropped
        if not is_much or now - self.warned_at < rules.warn_window:
            return "ok"
        self.warned_at = now
        return "warn"


@given(rules=RULES, script=st.lists(st.tuples(SECONDS, COUNTS), max_size=60))
def test_at_whole_seconds_it_is_exact(rules: SlowRules, script: list[tuple[float, int]]) -> None:
    window, model, now = DropWindow(rules), Model(rules), 1000.0
    for wait, count in script:
        now += wait
        assert window.add(count, now) == model.add(count, now)
        for size in (rules.warn_window, rules.close_window):
            assert window.dropped(size, now) == model.dropped(size, now)


@given(rules=RULES, script=st.lists(st.tuples(EIGHTHS, COUNTS), max_size=80))
def test_in_between_it_forgets_at_most_a_second_early(
    rules: SlowRules, script: list[tuple[float, int]]
) -> None:
    window, model, now = DropWindow(rules), Model(rules), 1000.0
    for wait, count in script:
        now += wait
        window.add(count, now)
        model.add(count, now)
        for size in (rules.warn_window, rules.close_window):
            assert model.dropped(size - 1, now) <= window.dropped(size, now) <= model.dropped(size, now)


@given(rules=RULES)
def test_its_memory_is_constant(rules: SlowRules) -> None:
    window = DropWindow(rules)
    for tenth in range(2000):
        window.add(1, tenth / 10)
    assert len(window._drops) <= max(rules.warn_window, rules.close_window) + 2


def test_the_limits_of_the_specification() -> None:
    window = DropWindow(SlowRules())
    assert window.add(100, 0.0) == "ok"
    assert window.add(1, 1.0) == "warn"
    assert window.add(1, 2.0) == "ok", "once a window"
    assert window.add(898, 11.0) == "warn"
    assert window.add(1, 12.0) == "close"


def test_drops_that_are_far_apart_call_for_nothing() -> None:
    window = DropWindow(SlowRules())
    assert [window.add(100, at) for at in itertools.islice(itertools.count(0.0, 61.0), 20)] == ["ok"] * 20
