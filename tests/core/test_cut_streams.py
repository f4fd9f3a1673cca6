"""A stream over HTTP is cut after each single byte: what was read before and what comes after add up exactly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from hub.core.broker import Broker
from hub.sansio.commands import seen_from_cursor
from hub.sansio.cursor import decode_cursor
from hub.sansio.encodings import Encoding
from hub.sansio.sse_parser import ServerSentEvent, SseParser
from tests.core.links import FastLink, PumpLink
from tests.core.market import ANNA, book, candle, dump, fill, make_broker, order, policies
from tests.core.peers import SSE, SSE_V2, Peer
from tests.core.picture import Picture
from tests.core.wire import Told, understand

Clock = trio.testing.MockClock
BOOK, TOP, TRADES, KLINE = "orderbook@btc_tl", "orderbook.2@btc_tl", "trades@btc_tl", "kline.1m@btc_tl"
CHANNELS = (BOOK, "fills", "orders", TOP, "fills@btc_tl", TRADES, KLINE, "orders@btc_tl", "balances")
POLICIES = {policy.pattern: policy for policy in policies()}
POLICY_OF = {
    BOOK: POLICIES["orderbook@{market}"],
    TRADES: POLICIES["trades@{market}"],
    "balances": POLICIES["balances"],
    "orders@btc_tl": POLICIES["orders@{market}"],
}


def dechunk(data: bytes) -> bytes:
    """The body as far as it came: also the part of a chunk that did."""
    body = b""
    while (end := data.find(b"\r\n")) >= 0:
        size = int(data[:end], 16)
        body += data[end + 2 : end + 2 + size]
        data = data[end + 2 + size + 2 :]
    return body


def moments(sent: bytes) -> Iterator[tuple[int, str]]:
    """After each byte: how many events a client has, and the id that it comes back with."""
    parser, count = SseParser(), 0
    for byte in dechunk(sent):
        count += len(parser.feed(bytes((byte,))))
        yield count, parser.last_id


@attrs.frozen
class Whole:
    """What there is to know at the end."""

    heads: dict[str, int]
    states: dict[str, Any]
    trades: set[int]


def publish(broker: Broker, number: int) -> None:
    market = ("btc_tl", "eth_tl", "no_such")[number % 3]
    status = ("new", "partially_filled", "filled")[number // 3 % 3]
    broker.publish(BOOK, book(bids={str(number % 5 + 1): str(number % 3)}))
    broker.publish(
        ("fills", "fills@btc_tl")[number % 2],
        dump(fill(number, market if number % 2 == 0 else "btc_tl")),
        user="anna",
    )
    broker.publish("orders", dump(order(number % 4, market, status, updatedAt=number)), user="anna")
    broker.publish(TRADES, dump([{"tradeId": number}]))
    broker.publish(KLINE, candle(number // 3, number, closed=number % 3 == 2))
    broker.publish(
        "balances", dump([{"asset": ("TL", "BTC")[number % 2], "total": str(number)}]), user="anna"
    )


async def play(broker: Broker, peer: Peer) -> Whole:
    broker.publish(BOOK, book(bids={"1": "1", "2": "1"}, asks={"9": "1"}), kind="snapshot")
    for number in range(3):
        publish(broker, number)
    peer.start(CHANNELS)
    await peer.settle()
    for number in range(3, 15):
        publish(broker, number)
        if number % 4 == 0:
            await trio.sleep(0.15)
        if number % 3 == 0:
            await peer.settle()
        if number == 9:
            broker.publish(BOOK, book(bids={"4": "1"}, asks={"8": "2"}), kind="snapshot")
            broker.publish("orders", dump([order(1), order(2, "eth_tl")]), user="anna", kind="snapshot")
    await trio.sleep(2)
    await peer.settle()
    logs = {
        name: channel
        for name in CHANNELS
        for user in (None, "anna")
        if (channel := broker.registry.find(name, user)) is not None
    }
    heads = {name: channel.log.head_seq for name, channel in logs.items()}
    states = {
        name: json.loads(state.data) for name, channel in logs.items() if (state := channel.state) is not None
    }
    return Whole(heads, states, set(range(3, 15)))


class Reader:
    """Puts together what came on two connections."""

    def __init__(self) -> None:
        self.seqs: dict[str, int] = {}
        self.pictures: dict[str, Picture | None] = {}
        self.trades: list[int] = []

    def take(self, told: Told) -> None:
        name = told.channel
        if told.kind in ("subscribed", "welcome"):
            for channel, state in told.data["positions"].items() if told.kind == "subscribed" else ():
                if channel not in self.seqs and channel == "fills":
                    self.seqs[channel] = state["seq"]
            return
        assert told.kind in ("data", "snapshot", "covered"), told
        is_state = told.kind == "snapshot"
        if name in self.seqs:
            assert told.seq == self.seqs[name] + 1, f"{told} after {self.seqs[name]}"
        self.seqs[name] = told.seq
        if name.startswith("fills") and told.kind == "data":
            self.trades.append(told.data["tradeId"])
        if (policy := POLICY_OF.get(name)) is not None:
            before = self.pictures.get(name)
            self.pictures[name] = (
                Picture.of_state(policy, told.data)
                if is_state and before is None
                else Picture.after(before, policy, told.data, is_state=is_state)
            )

    def check(self, whole: Whole) -> None:
        for name, seq in self.seqs.items():
            assert seq == whole.heads[name], name
        for name, picture in self.pictures.items():
            assert picture == Picture.of_state(POLICY_OF[name], whole.states[name]), name
        assert sorted(self.trades) == sorted(whole.trades)


def told_by(events: list[ServerSentEvent]) -> list[Told]:
    return [understand(json.loads(event.data), event.id) for event in events]


@pytest.mark.parametrize("link_type", [FastLink, PumpLink])
@pytest.mark.parametrize("encoding", [SSE, SSE_V2], ids=["live", "v2"])
async def test_each_byte(
    nursery: trio.Nursery, autojump_clock: Clock, encoding: Encoding, link_type: type[PumpLink]
) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    peer = Peer(nursery, broker, link_type(), encoding, ANNA)
    whole = await play(broker, peer)
    sent = bytes(peer.link.taken)
    assert len(sent) > 10_000
    events = told_by(SseParser().feed(dechunk(sent)))
    # As long as neither changes, a cut is the same as one byte before.
    distinct = sorted({(count, last_id) for count, last_id in moments(sent) if last_id})
    assert len(distinct) == len(events), "an id came without its event, or the other way round"
    for count, last_id in distinct:
        seen = seen_from_cursor(decode_cursor(last_id, max_size=2048))
        again = Peer(nursery, broker, link_type(), encoding, ANNA)
        again.start(CHANNELS, seen)
        reader = Reader()
        for told in (*events[:count], *await again.settle()):
            reader.take(told)
        reader.check(whole)
        again.link.break_()
