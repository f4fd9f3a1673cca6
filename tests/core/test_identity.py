"""Who a client is: rights on every way in, and nothing of anybody else."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from hub.core.reading import read_channels
from hub.sansio.commands import SeenPosition
from hub.sansio.cursor import decode_cursor, encode_cursor
from hub.sansio.encodings import Encoding
from hub.sansio.errors import RequestRefused
from hub.sansio.publication import Position
from tests.core.links import FastLink
from tests.core.market import ANNA, channel_of, dump, fill, order
from tests.core.peers import BARE, LIVE, SSE, V2, connect
from tests.core.tokens import RIGHTS, WHO, open_broker, publish_everywhere
from tests.core.wire import understand

Clock = trio.testing.MockClock


# --- rights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [None, 0, 1, 99])
@pytest.mark.parametrize("encoding", [V2, LIVE], ids=["v2", "live"])
@pytest.mark.parametrize("who", [0, 1, 2])
async def test_rights_on_subscribing_and_on_coming_back(
    nursery: trio.Nursery, autojump_clock: Clock, who: int, encoding: Encoding, seen: int | None
) -> None:
    broker = await open_broker(nursery)
    publish_everywhere(broker)
    expected = {name: codes[who] for name, codes in RIGHTS.items()}
    peer = await connect(nursery, broker, identity=WHO[who], encoding=encoding)
    last_seq = None if seen is None else dict.fromkeys(RIGHTS, seen)
    await peer.request("subscribe", *RIGHTS, last_seq=last_seq)
    publish_everywhere(broker)
    await trio.sleep(2)
    await peer.settle()
    answer = next(told for told in peer.told if told.kind == "subscribed")
    codes = dict.fromkeys(answer.data["positions"], 0)
    codes |= {error["channel"]: error["code"] for error in answer.data["errors"]}
    assert codes == expected
    told = {one.channel for one in peer.told if one.channel}
    assert told == {name for name, code in expected.items() if code == 0}


@pytest.mark.parametrize("seen", [{}, dict.fromkeys(RIGHTS, SeenPosition(0))])
@pytest.mark.parametrize("who", [0, 1, 2])
async def test_rights_over_http(
    nursery: trio.Nursery, autojump_clock: Clock, who: int, seen: dict[str, SeenPosition]
) -> None:
    broker = await open_broker(nursery)
    publish_everywhere(broker)
    for name, codes in RIGHTS.items():
        found = 0
        try:
            read_channels(broker, WHO[who], (name,), seen, BARE, max_events=9, max_bytes=9999)
        except RequestRefused as refusal:
            found = refusal.code
        assert found == codes[who], name
        found = 0
        try:
            async with broker.waiting_for_news((name,), WHO[who]):
                pass
        except RequestRefused as refusal:
            found = refusal.code
        assert found == codes[who], name


async def test_rights_of_a_stream_over_http(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery)
    publish_everywhere(broker)
    for identity, codes in zip(WHO, zip(*RIGHTS.values(), strict=True), strict=True):
        peer = await connect(nursery, broker, *RIGHTS, identity=identity, encoding=SSE)
        allowed = {name for name, code in zip(RIGHTS, codes, strict=True) if code == 0}
        assert set(peer.told[0].data["positions"]) == allowed
        assert {one.channel for one in peer.told[1:]} <= allowed


async def test_a_refused_channel_leaves_nothing_behind(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery)
    peer = await connect(nursery, broker)
    await peer.request("subscribe", "orders", "desk:1", "user:anna:news", "no:such")
    assert len(broker.registry) == 0


# --- other people's -----------------------------------------------------------------------------------------


async def test_another_users_numbers_say_nothing(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    """The same request, whether the other has such a channel or not, and however far it is, gets the same answer."""
    answers = []
    for count in (0, 3, 50):
        broker = await open_broker(nursery)
        for number in range(count):
            broker.publish("fills", dump(fill(number)), user="bert")
            broker.publish("orders", dump(order(number)), user="bert")
        broker.publish("fills", dump(fill(1)), user="anna")
        broker.publish("orders", dump(order(1)), user="anna")
        peer = await connect(nursery, broker, identity=ANNA)
        await peer.request("subscribe", "fills", "orders", last_seq={"fills": 7, "orders": 0})
        reading = read_channels(
            broker, ANNA, ("fills", "orders"), {"fills": SeenPosition(7)}, BARE, max_events=9, max_bytes=9999
        )
        epoch = channel_of(broker, "fills", "anna").log.epoch.encode()
        told = [json.dumps(told.body).encode() for told in peer.told[1:]]
        answers.append([message.replace(epoch, b"EPOCH") for message in (*told, *reading.messages)])
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("encoding", [V2, LIVE, SSE], ids=["v2", "live", "sse"])
async def test_another_users_cursor(nursery: trio.Nursery, autojump_clock: Clock, encoding: Encoding) -> None:
    broker = await open_broker(nursery)
    names = ("fills", "orders", "trades@btc_tl")
    for number in range(1, 6):
        broker.publish("fills", dump(fill(number)), user="bert")
        broker.publish("orders", dump(order(number)), user="bert")
        broker.publish("trades@btc_tl", b"[]")
    broker.publish("fills", dump(fill(77)), user="anna")
    broker.publish("orders", dump(order(77)), user="anna")
    of_bert = {name: channel_of(broker, name, "bert").log for name in names[:2]}
    epochs = {log.epoch for log in of_bert.values()}
    assert channel_of(broker, "fills", "anna").log.epoch not in epochs
    assert channel_of(broker, "trades@btc_tl").log.epoch not in epochs
    stolen = encode_cursor(
        [*((name, Position(log.epoch, 2)) for name, log in of_bert.items()),
         ("trades@btc_tl", Position(channel_of(broker, "trades@btc_tl").log.epoch, 2))]
    )  # fmt: skip
    seen = {
        name: SeenPosition(one.seq, one.epoch) for name, one in decode_cursor(stolen, max_size=2048).items()
    }
    peer = await connect(
        nursery, broker, *names, identity=ANNA, encoding=encoding, seen=seen, link=FastLink()
    )
    gaps = {told.channel: told.data for told in peer.told if told.kind == "gap"}
    own = {name: channel_of(broker, name, "anna").log.epoch for name in names[:2]}
    assert gaps == {
        name: {"reason": "epoch", "fromSeq": 3, "toSeq": None, "epoch": epoch} for name, epoch in own.items()
    }
    assert [data for _, data in peer.events("orders")] == [[order(77)]]
    assert peer.events("fills") == []
    assert [seq for seq, _ in peer.events("trades@btc_tl")] == [3, 4, 5]
    reading = read_channels(broker, ANNA, names, seen, BARE, max_events=99, max_bytes=9999)
    told = [understand(json.loads(message), None) for message in reading.messages]
    assert {one.channel: one.data for one in told if one.kind == "gap"} == gaps
    numbers = [json.dumps(one.data) for one in told if one.kind == "snapshot"]
    assert numbers == [json.dumps([order(77)])]
    broker.publish("fills", dump(fill(78)), user="anna")
    await peer.settle()
    assert peer.events("fills") == [(2, fill(78))]


async def test_epochs_differ_by_user_and_tell_nobody(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery)
    users = [f"user{number}" for number in range(200)]
    epochs = {broker.publish("fills", dump(fill(1)), user=user).epoch for user in users}
    assert len(epochs) == len(users)
    assert broker.publish("orders", dump(order(1)), user=users[0]).epoch in epochs
    assert not any(user in epoch for user in users for epoch in epochs)
    other = await open_broker(nursery)
    assert other.publish("fills", dump(fill(1)), user=users[0]).epoch not in epochs
