"""Each event of a whole reaches its client exactly once in all, on the whole or on a part, whatever happens.

The client is subscribed to the whole all the time, and to parts now and then; it reads slowly, is cut after any
byte, and comes back with what it was told last. It counts what it gets.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.core import channel as channel_module
from hub.core import pieces as pieces_module
from hub.core import relations as relations_module
from hub.core.broker import Broker, BrokerLimits
from hub.core.reading import read_channels
from hub.sansio.commands import SeenPosition, seen_from_cursor
from hub.sansio.cursor import decode_cursor
from hub.sansio.drops import SlowRules
from hub.sansio.encodings import Encoding
from hub.sansio.publication import Position
from tests.core.links import FastLink, PumpLink
from tests.core.market import ANNA, dump, fill, make_broker
from tests.core.peers import BARE_V2, LIVE, SSE, SSE_V2, V2, Peer
from tests.core.wire import Told, understand

WHOLE = "fills"
PARTS = ("fills@btc_tl", "fills@eth_tl")
MARKETS_ = ("btc_tl", "eth_tl", "no_such", None)
ENCODINGS: Mapping[str, Encoding] = {"v2": V2, "live": LIVE, "sse": SSE, "sse-v2": SSE_V2}


@attrs.define
class Account:
    """What the client has had so far: ``positions`` of the channels that it has, None until it is told."""

    positions: dict[str, Position | None] = attrs.field(factory=dict)
    got: Counter[int] = attrs.field(factory=Counter)
    #: Channels and sequence numbers that it was told it cannot have.
    lost: set[tuple[str, int]] = attrs.field(factory=set)
    #: Parts that have an event which the whole said they have: it was cut in between.
    owed: set[str] = attrs.field(factory=set)

    def take(self, told: Told) -> None:
        position = self.positions.get(told.channel)
        assert position is not None, f"{told} of a channel that it does not have"
        if told.kind in ("gap", "drop"):
            begin, end = told.data["fromSeq"], told.data["toSeq"]
            assert begin == position.seq + 1
            assert told.data.get("reason", "evicted") == "evicted"
            self.lost.update((told.channel, seq) for seq in range(begin, end + 1))
            self.owed.discard(told.channel)
            self.positions[told.channel] = Position(position.epoch, end)
            return
        assert told.kind in ("data", "covered"), told
        assert told.seq == position.seq + 1, f"{told} after {position}"
        self.positions[told.channel] = Position(position.epoch, told.seq)
        if told.kind == "covered":
            assert told.channel == WHOLE
            assert told.data["channel"] in self.positions, "covered by a channel that it does not have"
            self.owed.add(told.data["channel"])
        else:
            self.owed.discard(told.channel)
            items = told.data if isinstance(told.data, list) else [told.data]
            self.got.update(item["tradeId"] for item in items)


@attrs.define
class Client:
    """``account`` at the end; ``subscribed`` are the channels as far as it knows."""

    nursery: trio.Nursery
    broker: Broker
    account: Account = attrs.field(factory=Account)
    peer: Peer | None = None
    cursor: str = ""
    asked: dict[int, tuple[str, str]] = attrs.field(factory=dict)
    answers: list[tuple[str, str]] = attrs.field(factory=list)  # what is asked for, in order, on live

    def connect(self, name: str, *, is_fast: bool, capacity: int, bite: int) -> None:
        encoding = ENCODINGS[name]
        link = FastLink(capacity=capacity) if is_fast else PumpLink(capacity=capacity)
        if isinstance(link, FastLink):
            link.bite = lambda size: size * bite // 8
        self.peer = peer = Peer(self.nursery, self.broker, link, encoding, ANNA)
        self.asked, self.answers = {}, []
        positions = self.account.positions
        seen = {
            name: SeenPosition(position.seq, position.epoch)
            for name, position in positions.items()
            if position is not None
        }
        channels = tuple(positions) or (WHOLE, *PARTS)
        if encoding.carries_cursor:
            if self.cursor:
                seen = dict(seen_from_cursor(decode_cursor(self.cursor, max_size=2048)))
            if not positions:
                self.account.positions = dict.fromkeys(channels)
            peer.start(channels, seen)
            return
        self.cursor = ""  # from now on it counts for itself
        peer.start()
        last_seq = {name: {"seq": one.seq, "epoch": one.epoch} for name, one in seen.items()}
        self._ask("subscribe", *channels, last_seq=last_seq)

    def _ask(self, method: str, *channels: str, **more: Any) -> None:
        assert self.peer is not None
        number = self.peer.ask(method, *channels, **more)
        for channel in channels:
            self.answers.append((method, channel))
        self.asked[number] = (method, ",".join(channels))

    def ask(self, method: str, part: str) -> None:
        """It does not let go of a part that owes it something."""
        if self.peer is None or self.peer.encoding.carries_cursor or self.peer.is_over:
            return
        if method == "subscribe" or part not in self.account.owed:
            self._ask(method, part)

    def read(self, count: int) -> None:
        assert self.peer is not None
        for told in self.peer.read(count):
            self._take(told)

    def _take(self, told: Told) -> None:
        if told.cursor is not None:
            self.cursor = told.cursor
        match told.kind:
            case "welcome" | "beat" | "pong" | "bye" | "slow":
                if told.cursor is not None:
                    self._check_cursor(told.cursor)
            case "subscribed":
                for name, state in told.data["positions"].items():
                    if self.account.positions.get(name) is None:
                        self.account.positions[name] = Position(state["epoch"], state["seq"])
                if told.cursor is not None:
                    self._check_cursor(told.cursor)
            case "unsubscribed":
                for name in told.data.get("unsubscribed", told.data.get("channels")):
                    self.account.positions.pop(name, None)
            case _:
                self.account.take(told)
                if told.cursor is not None:
                    self._check_cursor(told.cursor)

    def _check_cursor(self, cursor: str) -> None:
        """An id means: all up to and including this event."""
        for name, position in decode_cursor(cursor, max_size=2048).items():
            if self.account.positions[name] is None:
                self.account.positions[name] = position
            assert self.account.positions[name] == position

    def cut(self, count: int) -> None:
        """``count`` more bytes come through."""
        assert self.peer is not None
        self.read(count)
        self.peer.link.break_()


async def settle(client: Client) -> None:
    assert client.peer is not None
    while True:
        await trio.testing.wait_all_tasks_blocked()
        if not client.peer.link.waiting:
            return
        client.read(1 << 30)


names = st.sampled_from(tuple(ENCODINGS))
connections = st.tuples(
    st.just("cut"), names, st.booleans(), st.sampled_from((1, 7, 90, 300, 1000, 1 << 20)), st.integers(0, 8),
    st.one_of(st.integers(0, 900), st.just(1 << 30)),
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from((WHOLE, WHOLE, *PARTS)), st.lists(st.sampled_from(MARKETS_), min_size=1, max_size=4)),
    st.tuples(st.just("publish"), st.sampled_from((WHOLE, WHOLE, *PARTS)), st.lists(st.sampled_from(MARKETS_), min_size=1, max_size=4)),
    st.tuples(st.just("list"), st.lists(st.sampled_from(MARKETS_), min_size=1, max_size=5)),
    st.tuples(st.just("read"), st.sampled_from((1, 20, 100, 400, 3000))),
    st.tuples(st.just("subscribe"), st.sampled_from(PARTS)),
    st.tuples(st.just("unsubscribe"), st.sampled_from(PARTS)),
    connections,
    st.tuples(st.just("turn")),
    st.tuples(st.just("block")),
)  # fmt: skip


class Numbers:
    """Publishes fills with ids from 1 on, and knows where on the whole each is."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.count = 0
        #: id -> seq on the whole, and place on a part
        self.seqs: dict[int, int] = {}
        self.parts: dict[int, tuple[str, int]] = {}

    def _next(self, market: str | None) -> dict[str, Any]:
        self.count += 1
        return {"tradeId": self.count} if market is None else fill(self.count, market)

    def publish(self, channel: str, markets: list[str | None]) -> None:
        for market in markets:
            if channel != WHOLE:
                market = channel.partition("@")[2]
            item = self._next(market)
            self.broker.publish(channel, dump(item), user="anna")
            self._note([item])

    def publish_list(self, markets: list[str | None]) -> None:
        items = [self._next(market) for market in markets]
        self.broker.publish(WHOLE, dump(items), user="anna")
        self._note(items)

    def _note(self, items: list[dict[str, Any]]) -> None:
        """Looks up the numbers of the newest on the whole."""
        channel = self.broker.registry.find(WHOLE, "anna")
        assert channel is not None
        for publication in channel.log.read(
            max(channel.log.first_seq - 1, channel.log.head_seq - len(items)), 99
        ):
            data = json.loads(publication.data)
            for item in data if isinstance(data, list) else [data]:
                self.seqs.setdefault(item["tradeId"], publication.seq)
                if publication.part is not None:
                    name, position = publication.part
                    self.parts[item["tradeId"]] = (name, position.seq)
        assert all(item["tradeId"] in self.seqs for item in items)


async def play(
    first: tuple[Any, ...], script: list[tuple[Any, ...]], buffers: tuple[int, int], lags: tuple[int, int]
) -> None:
    on_lag = "drop" if any(lags) else "close"
    slow = SlowRules(warn_dropped=0, close_dropped=0)
    broker = make_broker(
        fills={"buffer_count": buffers[0], "lag_limit": lags[0], "on_lag": on_lag},
        fills_market={"buffer_count": buffers[1], "lag_limit": lags[1], "on_lag": on_lag},
        limits=BrokerLimits(write_deadline=0.0, idle_timeout=0.0, slow=slow),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        client, numbers = Client(nursery, broker), Numbers(broker)
        _, name, is_fast, capacity, bite, _ = first
        client.connect(name, is_fast=is_fast, capacity=capacity, bite=bite)
        await settle(client)
        for step in script:
            await do(client, numbers, step)
        await settle(client)
        while client.peer is not None and client.peer.is_over:  # closed, because it was too slow: it resumes
            client.connect("v2", is_fast=True, capacity=1 << 20, bite=8)
            await settle(client)
        check(client.account, numbers)
        nursery.cancel_scope.cancel()


def check(account: Account, numbers: Numbers) -> None:
    whole = account.positions[WHOLE]
    assert whole is not None
    assert whole.seq == max(numbers.seqs.values(), default=0), "something is still due"
    twice = {number for number, times in account.got.items() if times > 1}
    assert not twice, f"twice: {twice}"
    missing = {
        number
        for number, seq in numbers.seqs.items()
        if not account.got[number]
        and account.lost.isdisjoint(((WHOLE, seq), numbers.parts.get(number, ("", 0))))
    }
    assert not missing, f"lost in silence: {missing}"


async def do(client: Client, numbers: Numbers, step: tuple[Any, ...]) -> None:
    match step:
        case ("publish", channel, markets):
            numbers.publish(channel, markets)
        case ("list", markets):
            numbers.publish_list(markets)
        case ("read", count):
            client.read(count)
        case ("subscribe" | "unsubscribe" as method, part):
            client.ask(method, part)
        case ("cut", name, is_fast, capacity, bite, count):
            client.cut(count)
            await trio.testing.wait_all_tasks_blocked()
            client.connect(name, is_fast=is_fast, capacity=capacity, bite=bite)
        case ("turn",):
            await trio.lowlevel.checkpoint()
        case ("block",):
            await trio.testing.wait_all_tasks_blocked()


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    first=connections,
    script=st.lists(STEPS, min_size=5, max_size=60),
    counts=st.sampled_from(((1, 1, 100), (2, 2, 100), (64, 512, 1 << 17))),
    buffers=st.sampled_from(((1000, 1000), (1000, 1000), (5, 1000), (1000, 4), (6, 3))),
    lags=st.sampled_from(((0, 0), (0, 0), (2, 2), (0, 3), (3, 0), (9, 1))),
)
def test_exactly_once(
    first: tuple[Any, ...],
    script: list[tuple[Any, ...]],
    counts: tuple[int, int, int],
    buffers: tuple[int, int],
    lags: tuple[int, int],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relations_module, "SLICE_COUNT", counts[0])
        patch.setattr(pieces_module, "SLICE_COUNT", counts[0])
        patch.setattr(channel_module, "SLICE_COUNT", counts[1])
        patch.setattr(pieces_module, "ROUND_BYTES", counts[2])
        trio.run(play, first, script, buffers, lags, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=150)
@given(
    script=st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.sampled_from((WHOLE, *PARTS)), st.lists(st.sampled_from(MARKETS_), max_size=4)),
            st.tuples(st.just("list"), st.lists(st.sampled_from(MARKETS_), min_size=1, max_size=5)),
            st.tuples(st.just("poll"), st.sets(st.sampled_from(PARTS)), st.integers(1, 7), st.sampled_from((1, 200, 9999))),
            st.tuples(st.just("poll"), st.sets(st.sampled_from(PARTS)), st.integers(1, 7), st.sampled_from((1, 200, 9999))),
        ),
        max_size=40,
    ),
    whole_at=st.integers(0, 2),
)  # fmt: skip
def test_polls_exactly_once(script: list[tuple[Any, ...]], whole_at: int) -> None:
    async def play_polls() -> None:
        broker = make_broker()
        numbers, account = Numbers(broker), Account()
        account.positions[WHOLE] = broker.open(WHOLE, ANNA).log.position
        for step in [*script, *([("poll", set(PARTS), 7, 9999)] * 30)]:
            match step:
                case ("publish", channel, markets):
                    numbers.publish(channel, markets)
                case ("list", markets):
                    numbers.publish_list(markets)
                case ("poll", parts, max_events, max_bytes):
                    poll(broker, account, parts, whole_at, max_events, max_bytes)
        check(account, numbers)

    trio.run(play_polls, clock=trio.testing.MockClock(autojump_threshold=0))


def poll(
    broker: Broker, account: Account, parts: set[str], whole_at: int, max_events: int, max_bytes: int
) -> None:
    order = sorted(parts)
    order.insert(whole_at, WHOLE)
    known = {name: account.positions.get(name) for name in order}
    seen = {name: SeenPosition(one.seq, one.epoch) for name, one in known.items() if one is not None}
    reading = read_channels(
        broker, ANNA, tuple(order), seen, BARE_V2, max_events=max_events, max_bytes=max_bytes
    )
    account.positions = {name: known[name] or reading.positions[name] for name in order}
    for message in reading.messages:
        account.take(understand(json.loads(message), None))
    assert account.positions == reading.positions
