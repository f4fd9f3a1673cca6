"""Token buckets: never more than the rate and the burst allow, and never less for who waits as long as told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.rates import Buckets, TokenBucket

RATES = st.sampled_from((0.2, 1.0, 5.0, 100.0, 1e6))
BURSTS = st.integers(1, 50)
WAITS = st.floats(0, 20, allow_nan=False)
STARTS = st.sampled_from((0.0, 1.5, 1e6, 1.8e9))
#: (seconds since the last one, tokens)
SCRIPTS = st.lists(st.tuples(WAITS, st.integers(0, 4)), max_size=60)


@given(rate=RATES, burst=BURSTS, start=STARTS, script=SCRIPTS)
def test_in_no_span_more_than_burst_and_rate(
    rate: float, burst: int, start: float, script: list[tuple[float, int]]
) -> None:
    bucket, now, taken = TokenBucket(rate, burst), start, [(start, 0)]
    for wait, count in script:
        now += wait
        if bucket.take(now, count):
            taken.append((now, count))
    for index, (since, _) in enumerate(taken):
        total = 0
        for at, count in taken[index:]:
            total += count
            assert total <= burst + (at - since) * rate + 1e-3


@given(rate=RATES, burst=BURSTS, start=STARTS, script=SCRIPTS)
def test_who_waits_as_long_as_told_gets_one_and_not_much_sooner(
    rate: float, burst: int, start: float, script: list[tuple[float, int]]
) -> None:
    bucket, now = TokenBucket(rate, burst), start
    for wait, count in script:
        now += wait
        bucket.take(now, count)
        told = bucket.wait(now)
        assert 0 <= told <= 1 / rate
        if told > 1e-3:
            assert not bucket.take(now) and not bucket.take(now + told * 0.9)
        assert bucket.take(now + told + 1e-5)
        now += told + 1e-5


@given(rate=RATES, burst=BURSTS, start=STARTS, script=SCRIPTS)
def test_what_is_refused_costs_nothing(
    rate: float, burst: int, start: float, script: list[tuple[float, int]]
) -> None:
    asked, spared, now = TokenBucket(rate, burst), TokenBucket(rate, burst), start
    for wait, count in script:
        now += wait
        assert not asked.take(now, burst + 1)  # never there
        assert asked.take(now, count) == spared.take(now, count)


@given(rate=RATES, burst=BURSTS, start=STARTS)
def test_it_starts_full_and_gets_full_again(rate: float, burst: int, start: float) -> None:
    bucket = TokenBucket(rate, burst)
    for now in (start, start + burst / rate + 1):
        assert bucket.is_full(now) and bucket.wait(now) == 0
        assert bucket.take(now, burst)
        assert not bucket.is_full(now)


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1, 2)
    assert bucket.take(10) and bucket.take(10)
    assert not bucket.take(10) and not bucket.take(5)
    assert bucket.wait(5) == pytest.approx(1)
    assert not bucket.take(10.5)
    assert bucket.take(11)


def test_rate_0_is_no_limit() -> None:
    bucket, buckets = TokenBucket(0, 1), Buckets(0, 1, 10)
    for _ in range(100):
        assert bucket.take(1, 1000) and bucket.wait(1) == 0 and bucket.is_full(1)
        assert buckets.take("a", 1, 1000) and buckets.wait("a", 1) == 0
    assert len(buckets) == 0


@pytest.mark.parametrize("rate, burst", [(-1, 1), (1, 0), (1, 0.5)])
def test_what_is_no_rate(rate: float, burst: float) -> None:
    with pytest.raises(ValueError):
        TokenBucket(rate, burst)
    with pytest.raises(ValueError):
        Buckets(rate, burst, 10)


# --- by key ---------------------------------------------------------------------------------------------------

KEYS = st.sampled_from("abcde")


@given(
    rate=RATES,
    burst=BURSTS,
    script=st.lists(st.tuples(WAITS, KEYS, st.integers(1, 4)), max_size=80),
)
def test_each_key_has_a_bucket_of_its_own(
    rate: float, burst: int, script: list[tuple[float, str, int]]
) -> None:
    """As if each key's bucket were kept for ever: a forgotten one was as good as new."""
    buckets = Buckets(rate, burst, max_keys=100)
    models = {key: TokenBucket(rate, burst) for key in "abcde"}
    now = 0.0
    for wait, key, count in script:
        now += wait
        assert buckets.wait(key, now) == pytest.approx(models[key].wait(now), abs=1e-6)
        assert buckets.take(key, now, count) == models[key].take(now, count)


@given(rate=RATES, burst=BURSTS, keys=st.lists(st.integers(0, 10_000), max_size=200))
def test_the_number_of_keys_is_bounded(rate: float, burst: int, keys: list[int]) -> None:
    buckets = Buckets(rate, burst, max_keys=8)
    for key in keys:
        buckets.take(key, 1.0)
        assert len(buckets) <= 8


def test_among_too_many_the_one_idle_longest_is_forgotten() -> None:
    buckets = Buckets(1, 1, max_keys=3)
    for key in "abc":
        assert buckets.take(key, 1)
    assert not buckets.take("a", 1)  # in use again
    assert buckets.take("d", 1)
    assert [buckets.wait(key, 1) > 0 for key in "abcd"] == [True, False, True, True]


def test_the_idle_are_forgotten_little_by_little() -> None:
    buckets = Buckets(1, 2, max_keys=1000)
    for key in range(100):
        buckets.take(key, 1)
    assert len(buckets) == 100
    for count in range(1, 50):
        buckets.take("busy", 10)
        assert len(buckets) == max(1, 101 - 2 * count)
    buckets.take("busy", 10)
    assert len(buckets) == 1


@given(rate=RATES, burst=BURSTS, wait=WAITS, taken=st.integers(1, 60))
def test_a_new_rate_gives_nothing_back(rate: float, burst: int, wait: float, taken: int) -> None:
    bucket = TokenBucket(1.0, 40)
    used = sum(bucket.take(0.0) for _ in range(taken))
    bucket.change(rate, burst)
    left = 0
    while bucket.take(0.0):
        left += 1
    assert left == min(40 - used, burst)
    later = sum(bucket.take(wait) for _ in range(60))
    assert later <= min(burst, wait * rate) + 1e-3


def test_a_rate_that_becomes_no_limit_and_one_that_was_none() -> None:
    bucket = TokenBucket(0, 1)
    assert all(bucket.take(0.0) for _ in range(9))
    bucket.change(1.0, 3)
    assert bucket.take(0.0)
    bucket.change(0, 1)
    assert all(bucket.take(0.0) for _ in range(9))
