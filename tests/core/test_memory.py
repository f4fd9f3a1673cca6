"""Clients that read nothing: whatever is published, they cost no more than the rest of one message each."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest
import trio
import trio.testing

from hub.core import pieces as pieces_module
from hub.core.broker import Broker, BrokerLimits
from hub.core.registry import RegistryLimits
from hub.sansio.drops import SlowRules
from hub.sansio.encodings import Encoding
from tests.core.links import FastLink, PumpLink
from tests.core.market import ANNA, book, channel_of, dump, fill, make_broker, order
from tests.core.peers import SSE, V2, Peer

Clock = trio.testing.MockClock
BOOK, TOP = "orderbook@btc_tl", "orderbook.5@btc_tl"
SESSIONS, LEVELS = 200, 1000
#: Bytes that all may take more: a hundredth of what a queue each would. How much it lost lately each counts by the second, for a minute.
ALLOWED = 2500 * SESSIONS
#: The buffers, full.
BUFFERED = {"buffer_count": 50}
PATIENT = BrokerLimits(
    write_deadline=0.0, idle_timeout=0.0, slow=SlowRules(warn_dropped=0, close_dropped=0), registry=RegistryLimits()
)  # fmt: skip


def big_book() -> bytes:
    levels = {str(price): "123.45678901" for price in range(1000, 1000 + LEVELS)}
    return book(bids=levels, asks={str(int(price) + 10_000): amount for price, amount in levels.items()})


async def stuck_sessions(
    nursery: trio.Nursery, broker: Broker, link_type: type[PumpLink], encoding: Encoding, *channels: str
) -> list[Peer]:
    peers = [Peer(nursery, broker, link_type(capacity=300), encoding, ANNA) for _ in range(SESSIONS)]
    for peer in peers:
        if encoding.carries_cursor:
            peer.start(channels)
        else:
            peer.start()
            peer.ask("subscribe", *channels)
    await trio.testing.wait_all_tasks_blocked()
    return peers


def used() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def growth(publish: Callable[[int], object], count: int) -> int:
    """Bytes that there are more after ``count`` publications than after the first few of them."""

    async def run(begin: int, end: int, pause: float) -> None:
        for number in range(begin, end):
            publish(number)
            if number % 10 == 0:
                await trio.sleep(pause)
        await trio.sleep(2)

    tracemalloc.start()
    try:
        await run(0, 700, 1.0)  # longer than any window in which something is counted
        before = used()
        await run(700, 700 + count, 0.2)
        return used() - before
    finally:
        tracemalloc.stop()


def kept(broker: Broker) -> list[int]:
    """Bytes that each session's writer holds for its client."""
    writers = [session.writer for session in broker.sessions.values()]
    return [len(writer._rest) + sum(map(len, writer.outbox)) for writer in writers]


@pytest.mark.parametrize("encoding", [V2, SSE], ids=["v2", "sse"])
@pytest.mark.parametrize("link_type", [FastLink, PumpLink])
async def test_a_book_with_a_big_state(
    nursery: trio.Nursery, autojump_clock: Clock, link_type: type[PumpLink], encoding: Encoding
) -> None:
    broker = make_broker(limits=PATIENT, book={**BUFFERED, "lag_limit": 20}, top=BUFFERED)
    await nursery.start(broker.run)
    broker.publish(BOOK, big_book(), kind="snapshot")
    await stuck_sessions(nursery, broker, link_type, encoding, BOOK, TOP)
    state = channel_of(broker, BOOK).state
    assert state is not None
    assert len(state.data) > 40_000

    def publish(number: int) -> None:
        broker.publish(BOOK, book(bids={str(1000 + number % 100): f"{number:05}.5"}))

    grown = await growth(publish, 1500)
    assert grown < ALLOWED, f"{grown} bytes more, {grown / SESSIONS:.0f} for each"
    assert len(broker.sessions) == SESSIONS
    assert max(kept(broker)) < len(state.data) + 1000, "more than the rest of one message"
    assert len(channel_of(broker, BOOK).log) == 50


@pytest.mark.parametrize("link_type", [FastLink, PumpLink])
async def test_wholes_and_parts(
    nursery: trio.Nursery, autojump_clock: Clock, link_type: type[PumpLink]
) -> None:
    broker = make_broker(limits=PATIENT, orders=BUFFERED, orders_market=BUFFERED)
    await nursery.start(broker.run)
    await stuck_sessions(nursery, broker, link_type, V2, "orders", "orders@btc_tl", "orders@eth_tl")

    def publish(number: int) -> None:
        broker.publish("orders", dump(order(number % 100, ("btc_tl", "eth_tl")[number % 2])), user="anna")

    grown = await growth(publish, 1500)
    assert grown < ALLOWED, f"{grown} bytes more, {grown / SESSIONS:.0f} for each"
    assert len(broker.sessions) == SESSIONS
    assert max(kept(broker)) < pieces_module.ROUND_BYTES


async def test_clients_that_must_go_leave_nothing(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    """Of a channel of which nothing may be lost: they are closed, and forgotten."""
    limits = BrokerLimits(registry=RegistryLimits(idle=30.0))
    broker = make_broker(limits=limits, fills=BUFFERED, fills_market=BUFFERED)
    await nursery.start(broker.run)
    await stuck_sessions(nursery, broker, FastLink, V2, "fills", "fills@btc_tl")
    for number in range(500):
        broker.publish("fills", dump(fill(number)), user="anna")
        await trio.sleep(0.1)
    await trio.sleep(60)
    assert not broker.sessions
    assert not broker.usage.connections
    assert len(broker.registry) == 0
    assert broker.statistics().buffered_bytes == 0


async def test_a_fast_one_among_the_stuck_gets_everything(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker(limits=PATIENT, book={**BUFFERED, "lag_limit": 20})
    await nursery.start(broker.run)
    broker.publish(BOOK, big_book(), kind="snapshot")
    await stuck_sessions(nursery, broker, FastLink, V2, BOOK)
    fast = Peer(nursery, broker)
    fast.start()
    await fast.request("subscribe", BOOK)
    for number in range(500):
        broker.publish(BOOK, book(bids={str(number): "1"}))
        if number % 30 == 0:
            await fast.settle()
    await fast.settle()
    assert [seq for seq, _ in fast.events(BOOK)] == list(range(1, 502))
