"""Pace and derived channels: one frame at a time for all, the newest wins, and no frame says nothing."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.core.broker import Broker
from hub.core.channel import Channel
from hub.sansio.errors import ErrorCode, PublishRefused
from hub.sansio.publication import Position, Publication
from tests.core.market import book, candle, channel_of, dump, make_broker
from tests.core.peers import connect

Clock = trio.testing.MockClock
TICKER, KLINE, BOOK, TOP = "ticker@btc_tl", "kline.1m@btc_tl", "orderbook@btc_tl", "orderbook.2@btc_tl"


def ticker(last: int) -> bytes:
    return dump({"last": str(last)})


def frames(channel: Channel) -> list[Publication]:
    return list(channel.log.read(channel.log.first_seq - 1, 10_000))


def check_pace(channel: Channel) -> None:
    """No two frames within one pace, except that a closing candle comes at once."""
    ordinary = [frame for frame in frames(channel) if not json.loads(frame.data).get("closed")]
    for one, next_ in itertools.pairwise(ordinary):
        assert next_.stored_at - one.stored_at >= channel.policy.pace - 1e-9, (one, next_)


async def test_the_newest_wins_and_all_get_the_same_frame(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    peers = [await connect(nursery, broker, TICKER) for _ in range(3)]
    for number in range(100):
        position = broker.publish(TICKER, ticker(number))
        head = channel_of(broker, TICKER).log.head_seq
        assert position.seq in (head, head + 1)
        await trio.sleep(0.03)
    await trio.sleep(2)
    late = await connect(nursery, broker, TICKER)
    told = []
    for peer in peers:
        await peer.settle()
        told.append(peer.events(TICKER))
    assert told[0] == told[1] == told[2]
    assert [seq for seq, _ in told[0]] == list(range(1, len(told[0]) + 1))
    assert len(told[0]) == 4
    assert told[0][-1][1] == {"last": "99"}
    assert late.events(TICKER) == told[0][-1:]
    check_pace(channel_of(broker, TICKER))
    assert broker.counts.conflated == 100 - 4


async def test_a_position_is_that_of_the_frame_that_carries_this_or_something_newer(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    assert broker.publish(TICKER, ticker(1)).seq == 1
    assert [broker.publish(TICKER, ticker(number)).seq for number in (2, 3, 4)] == [2, 2, 2]
    await trio.sleep(1.5)
    channel = channel_of(broker, TICKER)
    assert channel.log.position == Position(channel.log.epoch, 2)
    assert frames(channel)[-1].data == ticker(4)
    assert broker.publish(TICKER, ticker(5)).seq == 3


async def test_a_pacer_that_is_late_does_not_give_two_frames_at_once(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    for _ in range(3):
        broker.publish(TICKER, ticker(1))
        await trio.sleep(0.5)
        broker.publish(TICKER, ticker(2))
        autojump_clock.jump(1.5)  # somebody works for a second and a half, so the frame that was due is late
        for number in (3, 4, 5):
            broker.publish(TICKER, ticker(number))
        await trio.sleep(0.75)
        check_pace(channel_of(broker, TICKER))
        await trio.sleep(5)
    check_pace(channel_of(broker, TICKER))
    assert frames(channel_of(broker, TICKER))[-1].data == ticker(5)


async def test_the_closing_candle_comes_at_once_and_before_the_next(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    peer = await connect(nursery, broker, KLINE)
    for open_time in range(5):
        for close in range(7):
            broker.publish(KLINE, candle(open_time, close))
            await trio.sleep(0.09)
        broker.publish(KLINE, candle(open_time, 99, closed=True))
        await peer.settle()
        assert peer.events(KLINE)[-1][1] == {"openTime": open_time, "close": "99", "closed": True}
        broker.publish(KLINE, candle(open_time + 1, 0))
    await trio.sleep(2)
    await peer.settle()
    told = [(data["openTime"], data["closed"]) for _, data in peer.events(KLINE)]
    assert told == sorted(told)
    assert [open_time for open_time, closed in told if closed] == list(range(5))
    assert told[-1] == (5, False)
    check_pace(channel_of(broker, KLINE))


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(
            st.sampled_from((0.0, 0.001, 0.2, 0.5, 1.0, 1.7)), st.booleans(), st.sampled_from((False, False, True))
        ),
        min_size=1,
        max_size=40,
    )
)  # fmt: skip
def test_pace_whatever_comes_when(script: list[tuple[float, bool, bool]]) -> None:
    """``script``: how long nothing comes, whether the hub was busy meanwhile, and whether a candle closes then."""

    async def play(clock: Clock) -> None:
        broker = make_broker()
        async with trio.open_nursery() as nursery:
            await nursery.start(broker.run)
            opened, closing = 0, []
            for number, (seconds, is_busy, is_closing) in enumerate(script):
                if is_busy:
                    clock.jump(seconds)
                else:
                    await trio.sleep(seconds)
                position = broker.publish(KLINE, candle(opened, number, closed=is_closing))
                if is_closing:
                    closing.append(position.seq)
                    opened += 1
            await trio.sleep(5)
            channel = channel_of(broker, KLINE)
            data = [json.loads(frame.data) for frame in frames(channel)]
            check_pace(channel)
            assert int(data[-1]["close"]) == len(script) - 1, "the newest did not win"
            assert [seq for seq, frame in enumerate(data, 1) if frame["closed"]] == closing
            assert [(frame["openTime"], int(frame["close"])) for frame in data] == sorted(
                (frame["openTime"], int(frame["close"])) for frame in data
            )
            assert broker.counts.conflated + len(data) == len(script)
            nursery.cancel_scope.cancel()

    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(play, clock, clock=clock)


async def test_a_laggard_goes_on_with_the_newest(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = make_broker(ticker={"lag_limit": 3})
    await nursery.start(broker.run)
    peer = await connect(nursery, broker)
    await peer.request("subscribe", TICKER)
    peer.link.capacity = 10
    for number in range(20):
        broker.publish(TICKER, ticker(number))
        await trio.sleep(1.5)
    told = [one for one in await peer.settle() if one.channel]
    assert [one.kind for one in told[-2:]] == ["drop", "data"]
    assert told[-2].data["toSeq"] == told[-1].seq - 1
    assert told[-1].data == {"last": "19"}
    assert len(told) <= 4


# --- derived channels ---------------------------------------------------------------------------------------


def levels(*prices: int) -> dict[str, str]:
    return {str(price): "1" for price in prices}


async def open_book(nursery: trio.Nursery) -> Broker:
    broker = make_broker()
    await nursery.start(broker.run)
    broker.publish(BOOK, book(bids=levels(1, 2, 3), asks=levels(5, 6, 7)), kind="snapshot", last_update_id=7)
    return broker


async def test_the_best_levels_at_their_pace(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_book(nursery)
    peers = [await connect(nursery, broker, TOP) for _ in range(2)]
    state = {"bids": [["3", "1"], ["2", "1"]], "asks": [["5", "1"], ["6", "1"]], "lastUpdateId": 7}
    assert [peer.events(TOP) for peer in peers] == [[(1, state)]] * 2
    for number in range(50):
        broker.publish(BOOK, book(bids={"3": str(number + 2)}))
        await trio.sleep(0.01)
    await trio.sleep(1)
    for peer in peers:
        await peer.settle()
    assert peers[0].events(TOP) == peers[1].events(TOP)
    events = peers[0].events(TOP)
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
    assert events[-1][1]["bids"][0] == ["3", "51"]
    assert 5 <= len(events) <= 8
    check_pace(channel_of(broker, TOP))


async def test_nothing_is_sent_when_the_best_levels_are_the_same(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = await open_book(nursery)
    peer = await connect(nursery, broker, TOP)
    await trio.sleep(1)
    broker.publish(BOOK, book(bids={"1": "5"}), last_update_id=8)  # below the best two
    await trio.sleep(1)
    broker.publish(BOOK, book(bids={"3": "9"}))
    broker.publish(BOOK, book(bids={"3": "1"}))  # there and back within the pace
    await trio.sleep(1)
    assert await peer.settle() == []
    assert channel_of(broker, TOP).log.head_seq == 1


async def test_nobody_watches_and_it_costs_nothing(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_book(nursery)
    peer = await connect(nursery, broker, TOP)
    await peer.request("unsubscribe", TOP)
    channel = channel_of(broker, TOP)
    assert channel.derivation is not None
    made = 0
    next_frame = type(channel.derivation).next_frame

    class Counting(type(channel.derivation)):  # type: ignore[misc]
        __slots__ = ()

        def next_frame(self, view: Any) -> Any:
            nonlocal made
            made += 1
            return next_frame(self, view)

    channel.derivation.__class__ = Counting
    for number in range(20):
        broker.publish(BOOK, book(bids={"3": str(number + 2)}))
        await trio.sleep(0.2)
    assert made == 0
    await peer.request("subscribe", TOP)
    assert made == 1
    assert peer.events(TOP)[-1][1]["bids"][0] == ["3", "21"], "a newcomer sees the book as it is"
    await peer.request("unsubscribe", TOP)
    broker.publish(BOOK, book(bids={"3": "30"}))
    answer = await peer.request("subscribe", TOP)
    seqs = [told.seq for told in answer if told.channel == TOP]
    await trio.sleep(0.5)
    seqs += [told.seq for told in await peer.settle()]
    assert peer.events(TOP)[-1][1]["bids"][0] == ["3", "30"], (
        "within the pace: the state first, then the newest"
    )
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    check_pace(channel)


async def test_what_is_derived_is_nobodys_to_publish(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_book(nursery)
    for kind in (None, "snapshot", "delta"):
        with pytest.raises(PublishRefused) as refused:
            broker.publish(TOP, book(bids={"1": "1"}), kind=kind)
        assert refused.value.code == ErrorCode.INVALID_REQUEST
        assert BOOK in refused.value.msg
    peer = await connect(nursery, broker, TOP)
    assert [seq for seq, _ in peer.events(TOP)] == [1]


async def test_several_depths_of_one_book(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_book(nursery)
    peer = await connect(nursery, broker, TOP, "orderbook.5@btc_tl", BOOK)
    broker.publish(BOOK, book(bids={"1": "0"}))
    await trio.sleep(1)
    await peer.settle()
    assert [seq for seq, _ in peer.events(TOP)] == [1]
    assert [len(data["bids"]) for _, data in peer.events("orderbook.5@btc_tl")] == [3, 2]
    assert [seq for seq, _ in peer.events(BOOK)] == [1, 2]


async def test_a_derived_channel_before_its_book_is_known(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    peer = await connect(nursery, broker, TOP)
    broker.publish(BOOK, book(bids=levels(1)))
    await trio.sleep(1)
    assert await peer.settle() == []
    broker.publish(BOOK, book(bids=levels(4)), kind="snapshot")
    await trio.sleep(1)
    await peer.settle()
    assert [(seq, data["bids"]) for seq, data in peer.events(TOP)] == [(1, [["4", "1"]])]
