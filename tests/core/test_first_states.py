"""First states from a back end: slow, failing and late ones, and what happens on the channel meanwhile."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from hub.core.broker import Broker, BrokerLimits
from hub.core.channel import Channel
from hub.core.contracts import SnapshotUnavailable
from hub.core.reading import read_channels
from hub.core.registry import RegistryLimits
from hub.sansio.commands import SeenPosition
from hub.sansio.errors import ErrorCode, RequestRefused
from tests.core.market import ANNA, BERT, book, channel_of, dump, make_broker, order
from tests.core.peers import BARE, LIVE, SSE, Peer, connect

Clock = trio.testing.MockClock
BOOK, TOP, URL = "orderbook@btc_tl", "orderbook.2@btc_tl", "http://127.0.0.1/{channel}"
BALANCE = {"asset": "TL", "available": "1", "locked": "1", "total": "2"}


@attrs.define
class BackEnd:
    """Answers by channel's name: with a payload, or an error; ``delay`` seconds later."""

    answers: dict[str, bytes | Exception] = attrs.field(factory=dict)
    delays: dict[str, float] = attrs.field(factory=dict)
    asked: Counter[tuple[str, str | None]] = attrs.field(factory=Counter)
    cancelled: int = 0

    async def fetch(self, channel: Channel) -> bytes:
        self.asked[channel.name, channel.user] += 1
        try:
            await trio.sleep(self.delays.get(channel.name, 0.0))
        except trio.Cancelled:
            self.cancelled += 1
            raise
        answer = self.answers.get(channel.name, SnapshotUnavailable("not there"))
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def back_end() -> BackEnd:
    return BackEnd({
        "orders": dump([order(1), order(2)]), "orders@btc_tl": dump([order(1), order(2)]), "balances": dump([BALANCE]), "fills": b"[]",
        BOOK: book(bids={"3": "1", "2": "1", "1": "1"}), "bbo@btc_tl": b'{"bid":"1"}',
    })  # fmt: skip


async def open_broker(nursery: trio.Nursery, back_end: BackEnd, **more: Any) -> Broker:
    provided = {"provider": URL}
    names = ("orders", "orders_market", "balances", "book", "bbo")
    broker = make_broker(fetch=back_end.fetch, changes=dict.fromkeys(names, provided), **more)
    await nursery.start(broker.run)
    return broker


def ids(data: list[dict[str, Any]]) -> list[int]:
    return [item["orderId"] for item in data]


async def test_the_first_state_comes_from_the_back_end_once(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    broker = await open_broker(nursery, back_end)
    back_end.delays["orders"] = 2.0
    peers = [await connect(nursery, broker, identity=ANNA) for _ in range(5)]
    stranger = await connect(nursery, broker, identity=BERT)
    for peer in (*peers, stranger):
        peer.ask("subscribe", "orders")
        await trio.sleep(0.3)
    await trio.sleep(3)
    for peer in (*peers, stranger):
        answer, state = (await peer.settle())[-2:]
        assert answer.data["positions"]["orders"]["seq"] == 0
        assert (state.kind, state.seq, ids(state.data)) == ("snapshot", 0, [1, 2])
    late = await connect(nursery, broker, "orders", identity=ANNA)
    assert [ids(data) for _, data in late.events("orders")] == [[1, 2]]
    assert back_end.asked == {("orders", "anna"): 1, ("orders", "bert"): 1}
    broker.publish("orders", dump(order(3)), user="anna")
    for peer in peers:
        await peer.settle()
        assert peer.events("orders")[-1] == (1, order(3))


async def test_what_happens_meanwhile_wins(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    broker = await open_broker(nursery, back_end)
    back_end.delays = {"orders": 2.0, BOOK: 2.0, "bbo@btc_tl": 2.0}
    peer = await connect(nursery, broker, identity=ANNA)
    peer.ask("subscribe", "orders", BOOK, "bbo@btc_tl")
    await trio.sleep(1)
    broker.publish("orders", dump(order(1, status="filled")), user="anna")
    broker.publish("orders", dump(order(2, status="partially_filled")), user="anna")
    broker.publish("orders", dump(order(3)), user="anna")
    broker.publish(BOOK, book(bids={"3": "0", "2": "5", "4": "1"}))
    broker.publish("bbo@btc_tl", b'{"bid":"2"}')
    await trio.sleep(2)
    await peer.settle()
    ((seq, orders),) = peer.events("orders")
    assert seq == 3
    assert {(item["orderId"], item["status"]) for item in orders} == {(2, "partially_filled"), (3, "new")}
    ((_, levels),) = peer.events(BOOK)
    assert levels["bids"] == [["4", "1"], ["2", "5"], ["1", "1"]]
    assert peer.events("bbo@btc_tl") == [(1, {"bid": "2"})]


async def test_a_state_in_the_stream_makes_the_back_ends_superfluous(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    broker = await open_broker(nursery, back_end)
    back_end.delays["orders"] = 2.0
    peer = await connect(nursery, broker, identity=ANNA)
    peer.ask("subscribe", "orders")
    await trio.sleep(1)
    broker.publish("orders", dump([order(9)]), user="anna", kind="snapshot")
    broker.publish("orders", dump(order(9, status="filled")), user="anna")
    await trio.sleep(5)
    await peer.settle()
    assert peer.events("orders") == [(2, [])], "a closed order was brought back to life"
    broker.publish("balances", dump([BALANCE]), user="anna", kind="snapshot")
    await peer.request("subscribe", "balances")
    assert back_end.asked == {("orders", "anna"): 1}, "it was known already"


@pytest.mark.parametrize("name", ["orders", "orders@btc_tl"])
@pytest.mark.parametrize(
    "answer",
    [
        SnapshotUnavailable("503"), b"", b"{", b'{"no":"list"}', b"[" * 100_000, b"[{", b"[1,", b"[\xff]", b"\xff", b"null",
        b"[null]", b'["a"]', b'[{"market":"btc_tl"}]', b'[{"market":"\\ud800"}]',
    ],
)  # fmt: skip
async def test_a_failure_is_told_and_the_next_try_may_succeed(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd, answer: bytes | Exception, name: str
) -> None:
    broker = await open_broker(nursery, back_end)
    good, back_end.answers[name] = back_end.answers[name], answer
    peer = await connect(nursery, broker, identity=ANNA)
    told, *_ = await peer.request("subscribe", name, "trades@btc_tl")
    assert (told.body["code"], told.data["subscribed"]) == (0, ["trades@btc_tl"])
    errors = [{"channel": name, "code": 50000, "msg": "snapshot unavailable, try again"}]
    assert told.data["errors"] == errors
    assert broker.registry.find(name, "anna") is None
    back_end.answers[name] = good
    (told, state) = (await peer.request("subscribe", name))[-2:]
    assert (told.body["code"], ids(state.data)) == (0, [1, 2])


async def test_one_that_hangs_does_not_hold_the_others(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    broker = await open_broker(nursery, back_end)
    back_end.delays = {"orders": 1000.0, "balances": 4.0, BOOK: 4.0}
    peer = await connect(nursery, broker, identity=ANNA)
    begin = trio.current_time()
    peer.ask("subscribe", "orders", "balances", BOOK, "trades@btc_tl")
    bystander = await connect(nursery, broker, "trades@btc_tl")
    broker.publish("trades@btc_tl", b"[]")
    await bystander.settle()
    assert bystander.events("trades@btc_tl")[-1] == (1, []), "somebody else waited too"
    await trio.sleep(6)
    await peer.settle()
    answer = peer.told[1]
    assert set(answer.data["subscribed"]) == {"balances", BOOK, "trades@btc_tl"}
    assert [error["channel"] for error in answer.data["errors"]] == ["orders"]
    assert peer.events("balances") == [(0, [BALANCE])]
    assert trio.current_time() - begin < 7
    assert back_end.cancelled == 1, "the back end is not waited for any longer"
    assert broker.registry.find("orders", "anna") is None


async def test_clients_that_leave_while_they_wait(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    broker = await open_broker(nursery, back_end, limits=BrokerLimits(registry=RegistryLimits(idle=20.0)))
    back_end.delays["orders"] = 3.0
    leaving = await connect(nursery, broker, identity=ANNA)
    staying = await connect(nursery, broker, identity=ANNA)
    for peer in (leaving, staying):
        peer.ask("subscribe", "orders")
    await trio.sleep(1)
    leaving.link.break_()
    broker.sessions[next(iter(broker.sessions))].abandon()
    await trio.sleep(3)
    await staying.settle()
    assert [ids(data) for _, data in staying.events("orders")] == [[1, 2]]
    alone = await connect(nursery, broker, identity=BERT)
    alone.ask("subscribe", "orders")
    await trio.sleep(1)
    for session in list(broker.sessions.values()):
        session.abandon()
    await trio.sleep(60)
    assert not broker.sessions
    assert len(broker.registry) == 0, "what they waited for is remembered"
    assert not broker.usage.channels


async def test_a_session_that_is_sent_away_while_it_waits(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    broker = await open_broker(nursery, back_end)
    back_end.delays["orders"] = 3.0
    peer = await connect(nursery, broker, identity=ANNA)
    peer.ask("subscribe", "orders")
    await trio.sleep(1)
    with trio.fail_after(1):
        await broker.drain(window=0.0, deadline=0.5)
    assert [told.kind for told in await peer.settle()] == ["bye"]
    assert peer.is_over


async def test_the_registry_forgets_what_is_being_asked_for(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    limits = BrokerLimits(registry=RegistryLimits(channels=4))
    broker = await open_broker(nursery, back_end, limits=limits)
    back_end.delays["orders"] = 3.0
    peer = await connect(nursery, broker, identity=ANNA)
    peer.ask("subscribe", "orders")
    for number in range(12):
        await trio.sleep(0.2)
        broker.publish("fills", b'{"tradeId":1}', user=f"user{number}")
    await trio.sleep(5)
    answer, *rest = await peer.settle()
    if answer.body["code"] == 0:
        assert [(told.kind, ids(told.data)) for told in rest] == [("snapshot", [1, 2])]
    else:
        assert (answer.body["code"], rest) == (50000, [])
    assert len(broker.registry) <= 4


async def test_the_best_levels_of_a_book_that_was_only_asked_for(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    broker = await open_broker(nursery, back_end)
    back_end.delays[BOOK] = 1.0
    peer = await connect(nursery, broker)
    peer.ask("subscribe", TOP)
    await trio.sleep(2)
    await peer.settle()
    assert [data["bids"] for _, data in peer.events(TOP)] == [[["3", "1"], ["2", "1"]]]
    back_end.answers["orderbook@eth_tl"] = book(bids={"8": "1"})
    full = await connect(nursery, broker, "orderbook@eth_tl")
    assert [data["bids"] for _, data in full.events("orderbook@eth_tl")] == [[["8", "1"]]]
    top = await connect(nursery, broker, "orderbook.2@eth_tl")
    assert [data["bids"] for _, data in top.events("orderbook.2@eth_tl")] == [[["8", "1"]]]
    assert back_end.asked[BOOK, None] == back_end.asked["orderbook@eth_tl", None] == 1


async def test_the_best_levels_of_a_book_that_cannot_be_had(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    broker = await open_broker(nursery, back_end)
    back_end.answers[BOOK] = SnapshotUnavailable("gone")
    peer = await connect(nursery, broker)
    told, *_ = await peer.request("subscribe", TOP, "trades@eth_tl")
    assert [(error["channel"], error["code"]) for error in told.data["errors"]] == [(TOP, 50000)]
    assert broker.registry.find(TOP, None) is None
    assert broker.registry.find(BOOK, None) is None


@pytest.mark.parametrize("encoding", [LIVE, SSE], ids=["live", "sse"])
async def test_nothing_comes_before_the_first_event(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd, encoding: Any
) -> None:
    broker = await open_broker(nursery, back_end)
    back_end.delays["orders"] = 4.9
    peer = Peer(nursery, broker, encoding=encoding, identity=ANNA)
    peer.start(("orders",))
    await trio.sleep(6)
    await peer.settle()
    assert [told.kind for told in peer.told][:2] == ["subscribed", "snapshot"]
    other = Peer(nursery, broker, encoding=encoding, identity=BERT)
    other.start(("orders",))
    await trio.sleep(1)
    await broker.drain(window=0.0, deadline=5.0)
    await trio.sleep(5)
    await other.settle()
    assert [told.kind for told in other.told if told.kind != "snapshot"] in (["subscribed", "bye"], ["bye"])


async def test_polls_and_snapshots_over_http(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    broker = await open_broker(nursery, back_end)
    back_end.delays = {"orders": 1.0, "balances": 9.0}
    await broker.prepare(("orders", "trades@btc_tl"), ANNA)
    state = broker.open("orders", ANNA).state
    assert state is not None
    assert ids(json.loads(state.data)) == [1, 2]
    reading = read_channels(broker, ANNA, ("orders", "trades@btc_tl"), {}, BARE, max_events=9, max_bytes=999)
    assert [json.loads(message)["event"] for message in reading.messages] == ["snapshot", "snapshot"]
    assert reading.positions["orders"].seq == 0
    with pytest.raises(RequestRefused) as refused:
        await broker.prepare(("trades@btc_tl", "balances"), ANNA)
    assert (refused.value.code, refused.value.channel) == (ErrorCode.INTERNAL, "balances")
    await broker.prepare(("no:such", "positions", "orders"), BERT)


async def test_a_returning_client_of_a_channel_without_a_state(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    """It is asked for, because what the client has seen may turn out to be too old."""
    broker = await open_broker(nursery, back_end)
    broker.publish("orders", dump(order(5)), user="anna")
    seen = {"orders": SeenPosition(0)}
    peer = await connect(nursery, broker, "orders", identity=ANNA, seen=seen)
    assert peer.events("orders") == [(1, order(5))]
    lost = await connect(nursery, broker, "orders", identity=ANNA, seen={"orders": SeenPosition(0, "other")})
    assert [told.kind for told in lost.told] == ["welcome", "gap", "snapshot"]
    assert ids(lost.told[-1].data) == [1, 2, 5]
    assert channel_of(broker, "orders", "anna").log.head_seq == 1


async def test_a_whole_and_its_part_are_each_asked_for_their_own(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd
) -> None:
    broker = await open_broker(nursery, back_end)
    back_end.delays = {"orders": 1.0, "orders@btc_tl": 2.0}
    peer = await connect(nursery, broker, identity=ANNA)
    peer.ask("subscribe", "orders", "orders@btc_tl")
    await trio.sleep(0.5)
    broker.publish("orders", dump(order(1, status="cancelled")), user="anna")
    await trio.sleep(1)
    broker.publish("orders", dump(order(7)), user="anna")
    await trio.sleep(2)
    broker.publish("orders", dump(order(8)), user="anna")
    await peer.settle()
    assert peer.told[1].data["positions"]["orders"]["seq"] == 2
    states = {told.channel: ids(told.data) for told in peer.told if told.kind == "snapshot"}
    assert states == {"orders": [2, 7], "orders@btc_tl": [2, 7]}
    assert [(told.kind, told.channel, told.seq) for told in peer.told[-2:]] == [
        ("covered", "orders", 3), ("data", "orders@btc_tl", 3)
    ]  # fmt: skip


@pytest.mark.parametrize("name", [BOOK, TOP])
async def test_a_book_that_was_let_go_of_is_asked_for_again(
    nursery: trio.Nursery, autojump_clock: Clock, back_end: BackEnd, name: str
) -> None:
    broker = await open_broker(nursery, back_end, limits=BrokerLimits(registry=RegistryLimits(book_bytes=1)))
    peer = await connect(nursery, broker)
    await peer.request("subscribe", name)
    broker.publish(BOOK, book(bids={"4": "1"}))
    await trio.sleep(1)
    await peer.request("unsubscribe", name)
    await trio.sleep(2.5)
    assert broker.statistics().books_evicted == 1
    back_end.answers[BOOK] = book(bids={"9": "1"})
    broker.publish(BOOK, book(bids={"7": "1"}))
    await peer.request("subscribe", name)
    await trio.sleep(1)
    await peer.settle()
    assert peer.events(name)[-1][1]["bids"] == [["9", "1"], ["7", "1"]]
    assert back_end.asked[BOOK, None] == 2
    broker.publish(BOOK, book(bids={"9": "0"}))
    await trio.sleep(1)
    await peer.settle()
    assert peer.events(name)[-1][1]["bids"][0] in (["7", "1"], ["9", "0"])
    seqs = [seq for seq, _ in peer.events(name)][-2:]
    assert seqs[1] == seqs[0] + 1
