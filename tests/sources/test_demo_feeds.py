"""The demo's small parts: decimals, pace, allowance, candles, ticker, generic channels."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sources.demo.drafts import Allowance, Draft, Pace
from hub.sources.demo.instruments import decimal_text, find_instrument
from hub.sources.demo.showcase import open_showcases
from hub.sources.demo.trade_feeds import INTERVALS, CandleFeed, TickerFeed

SOL = find_instrument("sol_usdt")  # 3 decimals in prices, 3 in amounts
MINUTE = 60_000
DAY = 1440 * MINUTE
START = 29_000_000 * MINUTE


def decode(drafts: list[Draft]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(draft.data) for draft in drafts]


@given(st.integers(-(10**20), 10**20), st.integers(0, 12))
def test_decimals_are_exact(value: int, decimals: int) -> None:
    text = decimal_text(value, decimals)
    assert Decimal(text) == Decimal(value).scaleb(-decimals)
    assert len(text.partition(".")[2]) == decimals


@pytest.mark.parametrize("name", ["BTC_TL", "btc", "btc_tl_x", "", "btc-tl"])
def test_a_market_has_two_parts(name: str) -> None:
    with pytest.raises(ValueError, match="btc_tl"):
        find_instrument(name)


def test_a_pace_that_a_clock_set_back_does_not_silence() -> None:
    pace = Pace(100)
    assert pace.is_due(0)
    pace.mark(1_000)
    assert not pace.is_due(1_099)
    assert pace.is_due(1_100)
    assert pace.is_due(999)


@given(
    st.floats(0, 10_000),
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 300)), max_size=50),
)
def test_an_allowance_never_bursts(rate: float, steps: list[tuple[float, int]]) -> None:
    allowance, now = Allowance(rate, window=0.1, now=0.0), 0.0
    for elapsed, count in steps:
        now += elapsed
        allowance.earn(now)
        assert 0 <= allowance.available <= max(1.0, rate * 0.1)
        allowance.spend(count)


def test_an_allowance_remembers_a_debt_and_forgets_a_stall() -> None:
    allowance = Allowance(100, window=0.1, now=0.0)
    allowance.spend(5)
    allowance.earn(0.05)
    assert allowance.available == 0
    allowance.earn(0.0625)
    assert allowance.available == 1
    allowance.earn(10.0625)
    assert allowance.available == 10
    assert allowance.forgotten == pytest.approx(991.25)


def test_a_candle_closes_once_and_the_next_is_flat_at_its_close() -> None:
    feed = CandleFeed(SOL, "1m", START, 160_000)
    assert [candle["closed"] for candle in decode([*feed.publish_due(START)])] == [False]
    feed.add(161_000, 500)
    assert not [*feed.publish_due(START + 499)], "not with every trade"
    closing, opening = decode([*feed.publish_due(START + MINUTE)])
    assert closing == {
        "openTime": START,
        "closeTime": START + MINUTE - 1,
        "open": "161.000",
        "high": "161.000",
        "low": "161.000",
        "close": "161.000",
        "vol": "0.500",
        "quoteVol": "80.500000",
        "tradeCount": 1,
        "closed": True,
    }
    assert opening["closed"] is False and opening["tradeCount"] == 0
    assert opening["open"] == opening["high"] == opening["low"] == opening["close"] == "161.000"
    assert not [*feed.publish_due(START + MINUTE)]


def test_a_candle_is_its_trades() -> None:
    feed = CandleFeed(SOL, "1m", START, 999_999)
    for price in (160_000, 159_000, 163_000, 162_000):
        feed.add(price, 1)
    (candle,) = decode([*feed.publish_due(START)])
    prices = [candle[name] for name in ("open", "high", "low", "close")]
    assert prices == ["160.000", "163.000", "159.000", "162.000"]


def test_the_closing_candle_and_the_next_do_not_wait_for_the_pace() -> None:
    feed = CandleFeed(SOL, "1m", START, 160_000)
    end = START + MINUTE
    assert len([*feed.publish_due(end - 1)]) == 1
    assert [candle["closed"] for candle in decode([*feed.publish_due(end)])] == [True, False]
    feed.add(160_001, 1)
    assert not [*feed.publish_due(end + 499)]
    assert [candle["closed"] for candle in decode([*feed.publish_due(end + 500)])] == [False]


def test_a_candle_outlives_a_clock_that_is_set_back_and_one_that_jumps() -> None:
    feed = CandleFeed(SOL, "1m", START, 160_000)
    list(feed.publish_due(START))
    feed.add(160_001, 1)
    (back,) = decode([*feed.publish_due(START - 3 * MINUTE)])
    assert (back["openTime"], back["closed"]) == (START, False)
    closing, opening = decode([*feed.publish_due(START + 10 * MINUTE + 5)])
    assert (closing["openTime"], closing["closed"]) == (START, True)
    assert (opening["openTime"], opening["closed"]) == (START + 10 * MINUTE, False)


@pytest.mark.parametrize("interval", INTERVALS)
def test_candles_lie_on_their_grid(interval: str) -> None:
    (candle,) = decode([*CandleFeed(SOL, interval, START + 12_345, 1).publish_due(START + 12_345)])
    assert candle["closeTime"] - candle["openTime"] + 1 == INTERVALS[interval]
    assert candle["openTime"] <= START + 12_345 <= candle["closeTime"]
    if interval == "1w":
        assert (candle["openTime"] // DAY + 3) % 7 == 0, "weeks open on Monday"
    else:
        assert candle["openTime"] % INTERVALS[interval] == 0


def test_a_ticker_is_of_the_last_day() -> None:
    feed = TickerFeed(SOL, 160_000)
    feed.add(150_000, 1_000, START)
    feed.add(170_000, 2_000, START + DAY // 2)
    (whole,) = decode([*feed.publish_due(START + DAY // 2, 169_999, 170_001)])
    assert (whole["openPrice"], whole["low"], whole["vol"], whole["tradeCount"]) == (
        "150.000",
        "150.000",
        "3.000",
        2,
    )
    assert (whole["change"], whole["bid"], whole["ask"]) == ("20.000", "169.999", "170.001")
    (half,) = decode([*feed.publish_due(START + DAY, 1, 2)])
    assert (half["openPrice"], half["low"], half["vol"], half["tradeCount"]) == (
        "170.000",
        "170.000",
        "2.000",
        1,
    )
    (none,) = decode([*feed.publish_due(START + 2 * DAY, 1, 3)])
    assert (none["last"], none["high"], none["change"], none["tradeCount"]) == (
        "170.000",
        "170.000",
        "0.000",
        0,
    )


def test_a_ticker_that_did_not_change_is_silent() -> None:
    feed = TickerFeed(SOL, 160_000)
    assert len([*feed.publish_due(START, 1, 2)]) == 1
    assert not [*feed.publish_due(START + 5_000, 1, 2)]
    assert len([*feed.publish_due(START + 5_000, 1, 3)]) == 1, "another best price"
    assert not [*feed.publish_due(START + 5_499, 1, 2)]


def test_generic_channels_tell_their_story_over_and_over() -> None:
    stories = open_showcases()
    drafts = [draft for now in range(0, 120_000, 50) for story in stories for draft in story.publish_due(now)]
    events = Counter((draft.channel, draft.event) for draft in drafts)
    assert events["job:backtest_demo", "job_done"] >= 3
    assert events["copilot:demo", "message_done"] >= 8
    job, answer = ([d for d in drafts if d.channel == story.channel] for story in stories)
    run = [data["progress"] for data in decode(job) if data["run"] == 1]
    assert run == list(range(0, 101, 2))
    *tokens, whole = (data for data in decode(answer) if data["messageId"] == "m1")
    assert "".join(data["token"] for data in tokens) == whole["text"]
