"""What a slow client loses is what is gone, or what its namespace says; never more."""

from __future__ import annotations

import functools

import pytest
import trio
import trio.testing

from hub.core.broker import Broker, BrokerLimits
from hub.sansio.drops import SlowRules
from hub.sansio.encodings import Encoding, WebSocketFrames
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy
from hub.sansio.stream_v2 import StreamV2Json
from tests.core.links import FastLink, PumpLink
from tests.core.wire import Told, WebSocketReader, understand

Clock = trio.testing.MockClock
V2 = Encoding(StreamV2Json(), WebSocketFrames(text=True))
POLICIES = (
    Policy(pattern="whole:*", lag_limit=0, buffer_count=50),
    Policy(pattern="drop:*", lag_limit=10, buffer_count=50),
    Policy(pattern="latest:*", on_lag="latest", buffer_count=50),
)


async def open_session(nursery: trio.Nursery, link: PumpLink, channel: str) -> Broker:
    limits = BrokerLimits(slow=SlowRules(warn_dropped=0, close_dropped=0), write_deadline=0.0)
    broker = Broker(Namespaces(POLICIES, {}), limits=limits, now_ms=lambda: 1_740_000_000_000)
    await nursery.start(broker.run)
    nursery.start_soon(
        functools.partial(broker.serve_session, link, V2, transport="test", channels=(channel,))
    )
    await trio.testing.wait_all_tasks_blocked()
    return broker


async def read_all(link: PumpLink) -> list[Told]:
    link.capacity = 1 << 20
    for _ in range(10):
        link.take()
        await trio.testing.wait_all_tasks_blocked()
    link.take()
    return [understand(body, cursor) for body, cursor in WebSocketReader().feed(bytes(link.taken))]


def lost(told: list[Told]) -> list[tuple[int, int]]:
    return [(message.data["fromSeq"], message.data["toSeq"]) for message in told if message.kind == "drop"]


def given(told: list[Told]) -> list[int]:
    return [message.seq for message in told if message.kind == "data"]


@pytest.mark.parametrize("link_type", [FastLink, PumpLink])
@pytest.mark.parametrize("channel, rest", [("whole:1", 50), ("drop:1", 50), ("latest:1", 1)])
async def test_a_burst_beyond_the_buffer_at_a_client_that_reads(
    nursery: trio.Nursery, autojump_clock: Clock, link_type: type[PumpLink], channel: str, rest: int
) -> None:
    link = link_type()
    broker = await open_session(nursery, link, channel)
    for number in range(300):
        broker.publish(channel, b"%d" % number)
    told = await read_all(link)
    assert lost(told) == [(1, 300 - rest)]
    assert given(told) == list(range(301 - rest, 301))


async def test_a_buffer_that_moves_on_under_a_client_that_stops_in_the_middle(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    link = FastLink(capacity=400)
    broker = await open_session(nursery, link, "whole:1")
    for number in range(40):
        broker.publish("whole:1", b"%d" % number)
    await trio.testing.wait_all_tasks_blocked()
    for number in range(40):
        broker.publish("whole:1", b"%d" % number)
    await trio.sleep(2)
    told = await read_all(link)
    (first_lost, last_lost), *_ = lost(told)
    assert last_lost == 30, "31 to 80 are buffered"
    assert given(told) == [*range(1, first_lost), *range(31, 81)]


@pytest.mark.parametrize("link_type", [PumpLink, FastLink])
async def test_a_client_that_stays_within_the_buffer_loses_nothing(
    nursery: trio.Nursery, autojump_clock: Clock, link_type: type[PumpLink]
) -> None:
    link = link_type(capacity=400)
    broker = await open_session(nursery, link, "whole:1")
    for _ in range(20):
        for number in range(20):
            broker.publish("whole:1", b"%d" % number)
        await trio.sleep(2)
        for _ in range(10):
            link.take()
            await trio.testing.wait_all_tasks_blocked()
    told = await read_all(link)
    assert lost(told) == []
    assert given(told) == list(range(1, 401))
