"""The demo source on Trio: its pace, its start, its manners. Time is the mock clock's."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing

from hub.sansio.errors import ErrorCode, PublishRefused
from hub.sansio.publication import Position
from hub.sources.demo import DemoSettings, DemoSource

START = 1_740_000_000_000


def mock_ms() -> int:
    """A wall clock that runs with Trio's mock clock."""
    return START + round(trio.current_time() * 1000)


@attrs.define
class Recorder:
    """A ``publish`` that notes when, in which step of the scheduler, and what."""

    refuses: Callable[[str], bool] = lambda channel: False
    calls: list[tuple[float, str, bytes, int | None, str | None, str | None]] = attrs.field(factory=list)

    def __call__(
        self,
        channel: str,
        data: bytes,
        *,
        ts: int | None = None,
        event: str | None = None,
        kind: str | None = None,
        user: str | None = None,
        last_update_id: int | None = None,
    ) -> Position:
        if self.refuses(channel):
            raise PublishRefused(ErrorCode.INVALID_CHANNEL, "no such namespace")
        self.calls.append((trio.current_time(), channel, data, ts, event, user))
        return Position("e", len(self.calls))

    @property
    def channels(self) -> set[str]:
        return {call[1] for call in self.calls}


def make_source(rate: float = 200.0, *, seed: int = 1, showcase: bool = False) -> DemoSource:
    return DemoSource(DemoSettings(rate=rate, seed=seed, showcase=showcase), now_ms=mock_ms)


async def run_for(source: DemoSource, recorder: Recorder, seconds: float) -> int:
    """Runs the source for a while; returns how many publications came after ``started()``."""
    async with trio.open_nursery() as nursery:
        await nursery.start(source.run, recorder)
        opening = len(recorder.calls)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return len(recorder.calls) - opening


@pytest.mark.parametrize("rate", [0.0, 50.0, 200.0, 3_000.0, 10_000.0])
async def test_the_rate_is_kept(rate: float, autojump_clock: trio.testing.MockClock) -> None:
    seconds = 2.5 if rate > 1_000 else 20.0
    count = await run_for(make_source(rate), Recorder(), seconds)
    # What follows the clock may run ahead by one round of it; order flow then waits.
    assert abs(count - rate * seconds) <= 45


async def test_events_come_in_small_batches(autojump_clock: trio.testing.MockClock) -> None:
    recorder = Recorder()
    await run_for(make_source(1_000), recorder, 2.0)
    times = sorted({call[0] for call in recorder.calls})
    assert max(after - before for before, after in itertools.pairwise(times)) < 0.06


async def test_started_comes_after_the_first_books(autojump_clock: trio.testing.MockClock) -> None:
    source, recorder = make_source(), Recorder()
    assert source.statistics().status == "starting"
    async with trio.open_nursery() as nursery:
        await nursery.start(source.run, recorder)
        markets = DemoSettings().markets
        kinds = ("ticker", "orderbook", "trades", "bbo", "kline.1m", "kline.5m", "kline.1h")
        public = {f"{kind}@{market}" for kind in kinds for market in markets}
        assert recorder.channels == public | {"orders", "balances"}
        assert {call[5] for call in recorder.calls if "@" not in call[1]} == {*DemoSettings().users}
        assert source.statistics().status == "ok"
        nursery.cancel_scope.cancel()


async def test_a_stall_is_not_made_up_for(mock_clock: trio.testing.MockClock) -> None:
    source, recorder = make_source(10_000), Recorder()
    async with trio.open_nursery() as nursery:
        await nursery.start(source.run, recorder)
        await trio.testing.wait_all_tasks_blocked()
        before = len(recorder.calls)
        mock_clock.jump(30.0)
        await trio.testing.wait_all_tasks_blocked(0.0)
        assert 1_000 <= len(recorder.calls) - before <= 1_050
        assert source.statistics().detail["skipped"] == 299_000
        nursery.cancel_scope.cancel()


async def test_others_run_while_it_catches_up(mock_clock: trio.testing.MockClock) -> None:
    recorder, seen, enough = Recorder(), [0], trio.Event()

    async def watch() -> None:
        while seen[-1] < 1_000:
            seen.append(len(recorder.calls))
            await trio.lowlevel.checkpoint()
        enough.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(make_source(10_000).run, recorder)
        nursery.start_soon(watch)
        mock_clock.jump(1.0)
        await enough.wait()
        nursery.cancel_scope.cancel()
    steps = [after - before for before, after in itertools.pairwise(seen[1:])]
    assert max(steps) <= 110


def test_the_same_seed_and_clock_are_the_same_events() -> None:
    def record(seed: int) -> list[tuple[str, bytes, str | None]]:
        recorder = Recorder()
        # A run and a clock for each, so that both begin at the same time.
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(run_for, make_source(500, seed=seed, showcase=True), recorder, 1.005, clock=clock)
        return [(channel, data, user) for _, channel, data, _, _, user in recorder.calls]

    first = record(1)
    assert record(1) == first
    assert record(2) != first


async def test_timestamps_are_the_clocks(autojump_clock: trio.testing.MockClock) -> None:
    recorder = Recorder()
    await run_for(make_source(), recorder, 1.0)
    assert all(ts == START + round(time * 1000) for time, _, _, ts, _, _ in recorder.calls)


async def test_candles_close_without_trades(autojump_clock: trio.testing.MockClock) -> None:
    recorder = Recorder()
    settings = DemoSettings(markets=("btc_tl",), rate=0, showcase=False)
    await run_for(DemoSource(settings, now_ms=mock_ms), recorder, 180.0)
    closed = [
        data
        for _, channel, data, _, _, _ in recorder.calls
        if channel == "kline.1m@btc_tl" and b'"closed":true' in data
    ]
    assert len(closed) == 3


async def test_a_refused_channel_is_left_out_and_told(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_source(showcase=True)
    recorder = Recorder(refuses=lambda channel: channel.startswith(("job:", "bbo@btc_tl")))
    await run_for(source, recorder, 5.0)
    assert "bbo@eth_tl" in recorder.channels
    assert "copilot:demo" in recorder.channels
    assert sorted(record.__dict__["channel"] for record in caplog.records) == [
        "bbo@btc_tl",
        "job:backtest_demo",
    ]
    statistics = source.statistics()
    assert statistics.status == "degraded"
    assert statistics.detail["refusedChannels"] == ["bbo@btc_tl", "job:backtest_demo"]
    assert statistics.detail["published"] == len(recorder.calls)


def test_a_random_seed_can_be_read_back() -> None:
    seeds = {DemoSource(DemoSettings()).statistics().detail["seed"] for _ in range(3)}
    assert len(seeds) == 3 and min(seeds) >= 0


def test_settings_that_cannot_work_are_refused() -> None:
    for wrong in (
        {"markets": ()},
        {"markets": ("btc_tl", "btc_tl")},
        {"intervals": ("1m", "1m")},
        {"users": ("a", "a")},
        {"users": ("",)},
    ):
        with pytest.raises(ValueError):
            DemoSettings(**wrong)
