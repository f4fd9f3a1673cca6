"""Wholes and parts: who has both has one copy of each event, and both sequences without a hole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from hub.core import pieces as pieces_module
from hub.core import relations as relations_module
from hub.core.broker import BrokerLimits
from hub.core.reading import read_channels
from hub.core.registry import RegistryLimits
from hub.sansio.commands import SeenPosition, seen_from_cursor
from hub.sansio.drops import SlowRules
from hub.sansio.encodings import Encoding
from hub.sansio.errors import ErrorCode, PublishRefused
from hub.sansio.publication import Position
from tests.core.links import FastLink, PumpLink
from tests.core.market import ANNA, BERT, channel_of, dump, fill, make_broker, order
from tests.core.peers import BARE_V2, LIVE, SSE, SSE_V2, V2, connect
from tests.core.wire import Told, understand

Clock = trio.testing.MockClock
BTC, ETH = "fills@btc_tl", "fills@eth_tl"


def trades(told: list[Told]) -> list[Any]:
    """The ids of the fills that came, on whichever channel."""
    found = []
    for one in told:
        if one.kind == "data":
            found += [item["tradeId"] for item in (one.data if isinstance(one.data, list) else [one.data])]
    return found


def numbers(told: list[Told], channel: str) -> list[int]:
    return [one.seq for one in told if one.channel == channel and one.kind in ("data", "covered")]


# --- publishing ---------------------------------------------------------------------------------------------


async def test_an_event_of_the_whole_is_one_of_its_part_and_the_other_way_round(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    whole = await connect(nursery, broker, "fills", identity=ANNA)
    part = await connect(nursery, broker, BTC, identity=ANNA)
    stranger = await connect(nursery, broker, "fills", BTC, ETH, identity=BERT)
    assert broker.publish("fills", dump(fill(1)), user="anna").seq == 1
    assert broker.publish(BTC, dump(fill(2)), user="anna").seq == 2
    assert broker.publish(ETH, dump(fill(3, "eth_tl")), user="anna").seq == 1
    assert broker.publish("fills", dump(fill(4, "no_such")), user="anna").seq == 4
    assert broker.publish("fills", b'{"tradeId":5}', user="anna").seq == 5
    assert trades(await whole.settle()) == [1, 2, 3, 4, 5]
    assert trades(await part.settle()) == [1, 2]
    assert await stranger.settle() == []
    assert broker.registry.find("fills@no_such", "anna") is None


async def test_a_list_is_split_by_market(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    whole = await connect(nursery, broker, "fills", identity=ANNA)
    parts = await connect(nursery, broker, BTC, ETH, identity=ANNA)
    both = await connect(nursery, broker, "fills", BTC, identity=ANNA)
    items = [fill(1), fill(2, "eth_tl"), fill(3), fill(4, "no_such"), {"tradeId": 5}]
    position = broker.publish("fills", dump(items), user="anna")
    assert position.seq == channel_of(broker, "fills", "anna").log.head_seq
    assert sorted(trades(await whole.settle())) == [1, 2, 3, 4, 5]
    await parts.settle()
    assert parts.events(BTC) == [(1, [fill(1), fill(3)])]
    assert parts.events(ETH) == [(1, [fill(2, "eth_tl")])]
    told = await both.settle()
    assert sorted(trades(told)) == [1, 2, 3, 4, 5]
    assert numbers(told, "fills") == list(range(1, position.seq + 1))
    assert broker.publish("fills", dump([fill(6), fill(7)]), user="anna").seq == position.seq + 1
    assert broker.publish("fills", b"[]", user="anna").seq == position.seq + 2
    await parts.settle()
    assert parts.events(BTC)[1:] == [(2, [fill(6), fill(7)])]


async def test_a_state_of_the_whole_is_one_of_each_part(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    broker.publish("orders", dump(order(1)), user="anna")
    broker.publish("orders", dump(order(2, "eth_tl")), user="anna")
    broker.publish("orders", dump([order(3, "eth_tl"), order(4, "no_such")]), user="anna", kind="snapshot")
    late = await connect(
        nursery, broker, "orders", "orders@btc_tl", "orders@eth_tl", identity=ANNA, link=FastLink()
    )
    assert late.events("orders")[0][1] == [order(3, "eth_tl"), order(4, "no_such")]
    assert late.events("orders@btc_tl")[0][1] == [], "an order that the state does not know is still open"
    assert late.events("orders@eth_tl")[0][1] == [order(3, "eth_tl")]
    broker.publish("orders", b"[]", user="anna", kind="snapshot")
    await late.settle()
    assert [late.events(name)[-1][1] for name in ("orders", "orders@btc_tl", "orders@eth_tl")] == [[]] * 3


async def test_what_is_refused_is_on_neither(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    refused = [
        ("orders@btc_tl", dump([order(1)]), "snapshot"),
        ("orders@btc_tl", dump(order(1, "eth_tl")), None),
        ("orders@btc_tl", dump([order(1), order(2, "no_such")]), None),
        ("orders@btc_tl", b'{"orderId":1}', None),
        ("orders", b'{"orderId":1}', None),
        ("orders", b'[{"orderId":1,"status":"new","market":"btc_tl"},{"orderId":2}]', None),
        ("orders", b'[{"orderId":1,"status":"new","market":"btc_tl"},{"orderId":2}]', "snapshot"),
        ("orders", b"{", None),
        ("orders", b"\xff", None),
        ("orders@no_such", dump(order(1)), None),
    ]
    for name, data, kind in refused:
        with pytest.raises(PublishRefused) as error:
            broker.publish(name, data, user="anna", kind=kind)
        assert error.value.code in (ErrorCode.INVALID_REQUEST, ErrorCode.UNAVAILABLE_CHANNEL)
    assert all(channel.log.head_seq == 0 for channel in broker.registry)
    assert broker.counts.publish_refused == len(refused)


# --- both subscribed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("link_type", [FastLink, PumpLink])
@pytest.mark.parametrize("encoding", [V2, LIVE, SSE, SSE_V2], ids=["v2", "live", "sse", "sse-v2"])
async def test_one_copy_and_two_sequences(
    nursery: trio.Nursery, autojump_clock: Clock, encoding: Encoding, link_type: type[PumpLink]
) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    names = ("fills", BTC)
    begin = names if encoding.carries_cursor else ()
    peer = await connect(nursery, broker, *begin, identity=ANNA, encoding=encoding, link=link_type())
    if not begin:
        await peer.request("subscribe", *names)
    for number in range(1, 31):
        name = ("fills", BTC, "fills")[number % 3]
        broker.publish(name, dump(fill(number, "eth_tl" if number % 3 == 0 else "btc_tl")), user="anna")
        if number % 7 == 0:
            await trio.lowlevel.checkpoint()
    told = [one for one in await peer.settle() if one.kind in ("data", "covered")]
    assert sorted(trades(told)) == list(range(1, 31))
    assert numbers(told, "fills") == list(range(1, 31))
    assert numbers(told, BTC) == list(range(1, 21))
    covered = [one for one in told if one.kind == "covered"]
    assert {one.channel for one in covered} == {"fills"}
    assert {one.data["channel"] for one in covered} == {BTC}
    assert len(covered) == 20


async def test_unsubscribing_the_part_while_it_is_due(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    """A slow client: the whole has said that the part has the event, and the part's turn has not come yet."""
    for capacity in range(1, 1500, 37):
        broker = make_broker()
        async with trio.open_nursery() as inner:
            await inner.start(broker.run)
            peer = await connect(inner, broker, identity=ANNA, link=FastLink())
            await peer.request("subscribe", "fills", BTC)
            peer.link.capacity = capacity
            for number in range(1, 6):
                broker.publish("fills", dump(fill(number)), user="anna")
            await trio.testing.wait_all_tasks_blocked()
            peer.ask("unsubscribe", BTC)
            await peer.settle()
            assert sorted(trades(peer.told)) == [1, 2, 3, 4, 5], f"with a buffer of {capacity} bytes"
            assert numbers(peer.told, "fills") == [1, 2, 3, 4, 5]
            inner.cancel_scope.cancel()


async def test_a_part_that_was_subscribed_late_does_not_cover_what_came_before(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    for number in range(1, 6):
        broker.publish("fills", dump(fill(number)), user="anna")
    # It was cut when it had been told that the part's head is 5, and nothing of the whole.
    seen = {"fills": SeenPosition(0), BTC: SeenPosition(5)}
    peer = await connect(nursery, broker, "fills", BTC, identity=ANNA, seen=seen)
    assert sorted(trades(peer.told)) == [1, 2, 3, 4, 5]


async def test_a_replay_with_a_gap_on_the_part_gives_nothing_twice(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker(fills_market={"buffer_count": 3})
    await nursery.start(broker.run)
    for number in range(1, 11):
        broker.publish("fills", dump(fill(number)), user="anna")
    seen = {"fills": SeenPosition(0), BTC: SeenPosition(0)}
    peer = await connect(nursery, broker, "fills", BTC, identity=ANNA, seen=seen)
    assert sorted(trades(peer.told)) == list(range(1, 11))
    reading = read_channels(broker, ANNA, ("fills", BTC), seen, BARE_V2, max_events=99, max_bytes=9999)
    told = [understand(json.loads(message), None) for message in reading.messages]
    assert sorted(trades(told)) == list(range(1, 11))


async def test_the_numbers_of_a_part_that_was_forgotten_mean_nothing(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker(limits=BrokerLimits(registry=RegistryLimits(idle=20.0)))
    await nursery.start(broker.run)
    keeper = await connect(nursery, broker, "fills", identity=ANNA)
    for number in range(1, 8):
        broker.publish("fills", dump(fill(number)), user="anna")
    await keeper.settle()
    await trio.sleep(60)
    assert broker.registry.find(BTC, "anna") is None
    assert channel_of(broker, "fills", "anna").log.first_seq == 1
    peer = await connect(nursery, broker, BTC, identity=ANNA)
    await peer.request("subscribe", "fills", last_seq={"fills": 0})
    assert sorted(trades(peer.told)) == list(range(1, 8))
    reading = read_channels(
        broker, ANNA, ("fills", BTC), {"fills": SeenPosition(0), BTC: SeenPosition(0)}, BARE_V2,
        max_events=99, max_bytes=9999,
    )  # fmt: skip
    assert sorted(trades([understand(json.loads(one), None) for one in reading.messages])) == list(
        range(1, 8)
    )


@pytest.mark.parametrize("order_", [("fills", BTC, ETH), (BTC, ETH, "fills"), (BTC, "fills", ETH)])
@pytest.mark.parametrize("max_events", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("max_bytes", [1, 150, 10_000])
async def test_polls_of_both(
    nursery: trio.Nursery,
    autojump_clock: Clock,
    order_: tuple[str, ...],
    max_events: int,
    max_bytes: int,
) -> None:
    """First of the whole alone, then of both, a little each time: each event once in all."""
    broker = make_broker()
    await nursery.start(broker.run)
    broker.publish("fills", dump(fill(0)), user="anna")
    count = 20
    seen = {"fills": SeenPosition(1)}
    for number in range(1, count // 2):
        broker.publish("fills", dump(fill(number, ("btc_tl", "eth_tl", "no_such")[number % 3])), user="anna")
    told: list[Told] = []
    positions: Mapping[str, Position] = {}
    for turn in range(60):
        if turn < count // 2:
            number = count // 2 + turn
            broker.publish(
                "fills", dump(fill(number, ("btc_tl", "eth_tl", "no_such")[number % 3])), user="anna"
            )
        reading = read_channels(
            broker, ANNA, order_, seen, BARE_V2, max_events=max_events, max_bytes=max_bytes
        )
        told += [understand(json.loads(message), None) for message in reading.messages]
        positions = reading.positions
        seen = dict(seen_from_cursor(positions))
    assert numbers(told, "fills") == list(range(2, count + 1))
    assert sorted(trades(told)) == list(range(1, count))
    for name in (BTC, ETH):
        seqs = numbers(told, name)
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs))) if seqs else True
    assert positions == {
        name: Position(channel.log.epoch, channel.log.head_seq)
        for name in order_
        for channel in [channel_of(broker, name, "anna")]
    }


async def test_a_slow_client_of_both_has_its_rounds_cut(
    nursery: trio.Nursery, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces_module, "ROUND_BYTES", 100)
    monkeypatch.setattr(relations_module, "SLICE_COUNT", 2)
    broker = make_broker()
    await nursery.start(broker.run)
    peer = await connect(nursery, broker, "fills", BTC, ETH, identity=ANNA, link=FastLink(capacity=40))
    for number in range(40):
        broker.publish("fills", dump(fill(number, ("btc_tl", "eth_tl")[number % 2])), user="anna")
    told = await peer.settle()
    assert sorted(trades(told)) == list(range(40))
    assert numbers(told, "fills") == list(range(1, 41))


@pytest.mark.parametrize("lags", [(0, 2), (2, 0), (2, 2), (1, 3)])
async def test_a_laggard_whose_part_has_a_limit_of_its_own(
    nursery: trio.Nursery, autojump_clock: Clock, lags: tuple[int, int]
) -> None:
    """What is promised on the part goes with the whole, and what is skipped comes after it: neither waits for ever."""
    whole_lag, part_lag = lags
    broker = make_broker(
        limits=BrokerLimits(slow=SlowRules(warn_dropped=0, close_dropped=0)),
        fills={"lag_limit": whole_lag, "on_lag": "drop"},
        fills_market={"lag_limit": part_lag, "on_lag": "drop"},
    )
    await nursery.start(broker.run)
    peer = await connect(nursery, broker, identity=ANNA)
    await peer.request("subscribe", "fills", BTC)
    peer.link.capacity = 50
    for count in (5, 20):
        for number in range(count):
            broker.publish("fills", dump(fill(100 * count + number)), user="anna")
        await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(60):
        for _ in range(200):
            peer.read(50)
            for _ in range(20):
                await trio.lowlevel.checkpoint()
    told = [one for one in peer.told if one.channel == BTC]
    last = told[-1].data["toSeq"] if told[-1].kind == "drop" else told[-1].seq
    assert last == 25
    assert len(trades(peer.told)) == len(set(trades(peer.told)))
