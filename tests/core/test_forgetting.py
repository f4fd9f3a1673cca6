"""What is forgotten together: a derived channel and its source, a whole and its parts, in every order."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.core.broker import Broker, BrokerLimits
from hub.core.reading import read_channels
from hub.core.registry import RegistryLimits
from hub.sansio.errors import PublishRefused, RequestRefused
from hub.sansio.identity import ANONYMOUS
from hub.sansio.policies import Policy
from hub.sansio.views.book import LEVEL_SIZE, Book
from tests.core.market import ANNA, BERT, book, channel_of, dump, fill, make_broker, order
from tests.core.peers import BARE, Peer, connect

Clock = trio.testing.MockClock
BOOK, TOP, TOP5 = "orderbook@btc_tl", "orderbook.2@btc_tl", "orderbook.5@btc_tl"


def limited(**limits: float) -> BrokerLimits:
    return BrokerLimits(registry=RegistryLimits(**limits))  # type: ignore[arg-type]


def check_registry(broker: Broker) -> None:
    """What holds at every moment: nobody refers to what is forgotten, and the counts are right."""
    registry = broker.registry
    channels = list(registry)
    for channel in channels:
        assert not channel.is_forgotten
        assert registry.find(channel.name, channel.user) is channel
        for derived in channel.derived:
            assert not derived.is_forgotten
            assert registry.find(derived.name, None) is derived
            assert derived.derivation is not None
            assert derived.derivation.source is channel
        if channel.derivation is not None:
            assert not channel.derivation.source.is_forgotten
            assert channel in channel.derivation.source.derived
    owned = {channel for of_user in registry._of_user.values() for channel in of_user}
    assert owned == {channel for channel in channels if channel.user is not None}
    assert all(registry._of_user.values()), "a user without channels is remembered"


def check_sums(broker: Broker) -> None:
    """What a sweep has counted."""
    registry = broker.registry
    assert registry.buffered_bytes == sum(channel.log.size for channel in registry)
    books = [channel.view for channel in registry if isinstance(channel.view, Book)]
    assert registry.book_bytes == sum(view.size for view in books)


async def test_an_idle_source_goes_with_what_is_derived_from_it(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker(limits=limited(idle=10.0, book_bytes=1))
    await nursery.start(broker.run)
    broker.publish(BOOK, book(bids={"1": "1"}), kind="snapshot")
    peer = await connect(nursery, broker, TOP, TOP5)
    assert len(peer.events(TOP)) == 1
    peer.link.leave()
    await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(2)  # the book is let go of, to save memory, so its channel keeps no state any more
    assert not channel_of(broker, BOOK).has_state
    await trio.sleep(30)
    assert len(broker.registry) == 0
    check_registry(broker)


@pytest.mark.parametrize("order_", list(itertools.permutations((BOOK, TOP, TOP5))))
async def test_room_is_made_in_any_order(
    nursery: trio.Nursery, autojump_clock: Clock, order_: tuple[str, ...]
) -> None:
    """The least recently used go first, ten at once; some of them go with others."""
    broker = make_broker(limits=limited(channels=100))
    await nursery.start(broker.run)
    broker.publish(BOOK, book(bids={"1": "1"}), kind="snapshot")
    for name in order_:
        peer = await connect(nursery, broker, name)
        peer.link.leave()
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1)
    for number in range(100):
        broker.publish("orders", dump(order(1)), user=f"user{number}")
        check_registry(broker)
        await trio.sleep(0.01)
    assert broker.registry.find(BOOK, None) is None
    await trio.sleep(2)
    check_sums(broker)


async def test_making_room_for_a_derived_channel_spares_its_source(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker(limits=limited(channels=3))
    await nursery.start(broker.run)
    await connect(nursery, broker, "bbo@btc_tl", "bbo@eth_tl")
    broker.publish("trades@btc_tl", b"[]")
    with_top = await connect(nursery, broker)
    answer = await with_top.request("subscribe", TOP)
    check_registry(broker)
    if answer[0].body["code"] == 0:
        broker.publish(BOOK, book(bids={"1": "1"}), kind="snapshot")
        await trio.sleep(1)
        await with_top.settle()
        assert len(with_top.events(TOP)) == 1


async def test_a_derived_channel_does_not_outlive_the_book_it_shows(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker(limits=limited(book_bytes=1))
    await nursery.start(broker.run)
    broker.publish(BOOK, book(bids={"1": "1"}), kind="snapshot")
    peer = await connect(nursery, broker, TOP)
    await peer.request("unsubscribe", TOP)
    await trio.sleep(2)
    assert broker.statistics().books_evicted == 1
    broker.publish(BOOK, book(bids={"1": "0", "2": "1"}))
    late = await connect(nursery, broker, TOP)
    assert late.events(TOP) == [], "the best levels of a book that is not known any more"
    broker.publish(BOOK, book(bids={"1": "1"}), kind="snapshot")
    await trio.sleep(1)
    await late.settle()
    assert [data["bids"] for _, data in late.events(TOP)] == [[["1", "1"]]]


async def test_only_what_saves_memory_is_let_go_of(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = make_broker(limits=limited(book_bytes=100))
    await nursery.start(broker.run)
    broker.publish("trades@btc_tl", dump([{"tradeId": "x" * 300}]))
    broker.publish("orders", dump(order(1, clientOrderId="x" * 300)), user="anna")
    await trio.sleep(5)
    statistics = broker.statistics()
    assert (statistics.books_evicted, statistics.book_bytes) == (0, 0), "there is no order book"
    peer = await connect(nursery, broker, "orders", identity=ANNA)
    assert len(peer.events("orders")) == 1, "the open orders are nobody's book, and could not be made again"


async def test_books_nobody_wants_are_let_go_of_the_longest_unused_first(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker(limits=limited(book_bytes=3 * LEVEL_SIZE))
    await nursery.start(broker.run)
    broker.publish("orderbook@btc_tl", book(bids={"1": "1", "2": "1"}), kind="snapshot")
    await trio.sleep(0.1)
    broker.publish("orderbook@eth_tl", book(bids={"1": "1", "2": "1"}), kind="snapshot")
    await trio.sleep(3)
    statistics = broker.statistics()
    assert (statistics.books_evicted, statistics.book_bytes) == (1, 2 * LEVEL_SIZE)
    assert not channel_of(broker, "orderbook@btc_tl").has_state
    assert channel_of(broker, "orderbook@eth_tl").has_state


async def test_an_order_of_an_unknown_market_is_on_no_other_channel(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    """What a payload says must not choose a channel of another namespace, least of all one that anyone may see."""
    broker = make_broker(Policy(pattern="*"))
    await nursery.start(broker.run)
    stranger = await connect(nursery, broker, "orders@BTC_TL", "fills@")
    anna = await connect(nursery, broker, "orders", "fills", identity=ANNA)
    broker.publish("orders", dump(order(1, "BTC_TL")), user="anna")
    broker.publish("fills", dump(fill(1, "")), user="anna")
    broker.publish("orders", dump([order(1, "BTC_TL"), order(2)]), user="anna")
    broker.publish("orders", dump([order(1, "BTC_TL")]), user="anna", kind="snapshot")
    await stranger.settle()
    assert stranger.events("orders@BTC_TL") == stranger.events("fills@") == []
    assert len(await anna.settle()) == 5


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
async def test_publishing_where_there_is_no_room_for_both(
    nursery: trio.Nursery, autojump_clock: Clock, channels: int
) -> None:
    """An event goes to channels that exist, or is refused: making room for the part must not cost the whole."""
    broker = make_broker(limits=limited(channels=channels))
    await nursery.start(broker.run)
    taken = 0
    for number in range(60):
        user = f"user{number % 4}"
        name = ("orders", "orders@btc_tl", "orders@eth_tl", "fills")[number % 7 % 4]
        payload = fill(number) if name == "fills" else order(number)
        await trio.sleep(0.1)
        position = None
        with contextlib.suppress(PublishRefused):
            position = broker.publish(name, dump(payload), user=user)
        if position is not None:
            taken += 1
            assert channel_of(broker, name, user).log.position == position
        check_registry(broker)
        assert len(broker.registry) <= channels + 1
    assert (taken == 0) == (channels == 1)


async def test_a_derived_channel_that_was_only_looked_at_is_forgotten(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    channel = broker.open(TOP, ANONYMOUS)
    assert len(broker.registry) == 2
    broker.registry.leave_unused(channel)
    assert len(broker.registry) == 0
    check_registry(broker)


NAMES = (
    BOOK,
    TOP,
    TOP5,
    "ticker@btc_tl",
    "trades@eth_tl",
    "orders",
    "orders@btc_tl",
    "fills",
    "fills@eth_tl",
)
USERS = (ANNA, BERT)
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(NAMES), st.integers(0, 5)),
    st.tuples(st.just("publish"), st.sampled_from(NAMES), st.integers(0, 5)),
    st.tuples(st.just("subscribe"), st.sampled_from(NAMES), st.integers(0, 3)),
    st.tuples(st.just("unsubscribe"), st.sampled_from(NAMES), st.integers(0, 3)),
    st.tuples(st.just("leave"), st.integers(0, 3)),
    st.tuples(st.just("poll"), st.sampled_from(NAMES), st.integers(0, 1)),
    st.tuples(st.just("sleep"), st.sampled_from((0.05, 0.5, 3.0, 12.0))),
)


def publish_some(broker: Broker, name: str, number: int) -> None:
    kind = None
    if name == BOOK:
        data = book(bids={str(price): "1" for price in range(1, number + 2)})
        kind = "snapshot" if number % 2 else None
    elif name.startswith("orders"):
        data = dump(order(number, ("btc_tl", "eth_tl", "no_such")[number % 3]))
    elif name.startswith("fills"):
        data = dump(fill(number, ("btc_tl", "eth_tl")[number % 2]))
    else:
        data = b"[]" if name.startswith("trades") else b"{}"
    with contextlib.suppress(PublishRefused):
        broker.publish(name, data, kind=kind, user=("anna", "bert")[number % 2])


async def play(limits: BrokerLimits, script: list[tuple[Any, ...]]) -> None:
    broker = make_broker(limits=limits)
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        peers = [await connect(nursery, broker, identity=USERS[index % 2]) for index in range(4)]
        for one in script:
            match one:
                case ("publish", name, number):
                    publish_some(broker, name, number)
                case ("subscribe" | "unsubscribe" as method, name, index):
                    await peers[index].request(method, name)
                case ("leave", index):
                    peers[index].link.break_()
                    peers[index] = await connect(nursery, broker, identity=USERS[index % 2])
                case ("poll", name, index):
                    with contextlib.suppress(RequestRefused):
                        read_channels(broker, USERS[index], (name,), {}, BARE, max_events=5, max_bytes=999)
                case ("sleep", seconds):
                    await trio.sleep(seconds)
            check_registry(broker)
            for peer in peers:
                check_subscriptions(broker, peer)
        for peer in peers:
            peer.link.break_()
        await trio.sleep(100)
        check_registry(broker)
        check_sums(broker)
        assert all(channel.is_keeping_state for channel in broker.registry), "nobody misses the others"
        nursery.cancel_scope.cancel()


def check_subscriptions(broker: Broker, peer: Peer) -> None:
    for session in broker.sessions.values():
        for name, subscription in session.subscriptions.items():
            channel = subscription.channel
            assert not channel.is_forgotten, f"{name} was forgotten under its subscriber"
            assert subscription in channel.subscriptions
    assert not peer.is_over


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=st.lists(STEPS, max_size=60),
    limits=st.builds(
        lambda channels, book_bytes, idle: limited(channels=channels, book_bytes=book_bytes, idle=idle),
        st.sampled_from((2, 3, 5, 8, 100)), st.sampled_from((1, 500, 1 << 30)), st.sampled_from((4.0, 50.0)),
    ),
)  # fmt: skip
def test_whatever_is_forgotten_when(script: list[tuple[Any, ...]], limits: BrokerLimits) -> None:
    trio.run(play, limits, script, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_book_let_go_of_to_save_memory_never_begins_empty_again(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    """Also when its channel is forgotten after that: what it had is not there, so nothing may claim to be all."""
    limits = BrokerLimits(registry=RegistryLimits(idle=10.0, book_bytes=1))
    broker = make_broker(limits=limits, book={"starts_empty": True})
    await nursery.start(broker.run)
    broker.publish("orderbook@btc_tl", book(bids={"1": "1", "2": "1"}))
    await trio.sleep(30)
    assert broker.registry.find("orderbook@btc_tl", None) is None
    broker.publish("orderbook@btc_tl", book(bids={"3": "1"}))
    assert not channel_of(broker, "orderbook@btc_tl").has_state
