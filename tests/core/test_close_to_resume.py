"""Namespaces that close a laggard, so that it resumes: when, when not, and what it then gets."""

from __future__ import annotations

import functools
import json

import pytest
import trio
import trio.testing

from hub.core.broker import Broker, BrokerLimits
from hub.sansio.drops import SlowRules
from hub.sansio.encodings import Encoding, WebSocketFrames
from hub.sansio.names import Namespaces
from hub.sansio.options import Seconds, Size
from hub.sansio.policies import Policy
from hub.sansio.stream_v2 import StreamV2Json
from tests.core.links import FastLink, PumpLink
from tests.core.wire import Told, WebSocketReader, understand

Clock = trio.testing.MockClock
V2 = Encoding(StreamV2Json(), WebSocketFrames(text=True))
POLICIES = (
    Policy(pattern="fill:*", on_lag="close", lag_limit=0, buffer_count=10),
    Policy(pattern="order:*", on_lag="close", lag_limit=0, buffer_count=10, snapshot="last"),
    Policy(pattern="short:*", on_lag="close", lag_limit=4, buffer_count=1000),
    Policy(pattern="large:*", on_lag="close", lag_limit=0, buffer_count=1000, buffer_bytes=Size(8 * 1024)),
    Policy(pattern="old:*", on_lag="close", lag_limit=0, buffer_count=1000, buffer_age=Seconds(20.0)),
    Policy(pattern="drop:*", lag_limit=3, buffer_count=5),
)
FILL = 30  # frames of this size are more than a link of 400 bytes takes
links = pytest.mark.parametrize("link_type", [PumpLink, FastLink])


@pytest.fixture
async def broker(nursery: trio.Nursery) -> Broker:
    limits = BrokerLimits(slow=SlowRules(warn_dropped=0, close_dropped=0), write_deadline=0.0)
    broker = Broker(Namespaces(POLICIES, {}), limits=limits, now_ms=lambda: 1_740_000_000_000)
    await nursery.start(broker.run)
    return broker


async def open_session(
    nursery: trio.Nursery, broker: Broker, link: PumpLink, channels: tuple[str, ...], seen: object = None
) -> None:
    nursery.start_soon(functools.partial(broker.serve_session, link, V2, transport="test"))
    link.give(json.dumps({"method": "subscribe", "id": 1, "params": channels, "lastSeq": seen}))
    await trio.testing.wait_all_tasks_blocked()


async def clog(broker: Broker, link: PumpLink) -> None:
    """The client stops reading, and what it has not read yet fills the link."""
    link.take()
    link.capacity = 0
    await trio.testing.wait_all_tasks_blocked()


def publish(broker: Broker, channel: str, count: int, size: int = 5) -> None:
    for _ in range(count):
        broker.publish(channel, b'"%b"' % (b"x" * size))


async def read_all(link: PumpLink) -> list[Told]:
    link.capacity = 1 << 20
    for _ in range(20):
        link.take()
        await trio.testing.wait_all_tasks_blocked()
    link.take()
    return [understand(body, cursor) for body, cursor in WebSocketReader().feed(bytes(link.taken))]


def seqs(told: list[Told], channel: str) -> list[int]:
    return [message.seq for message in told if message.kind == "data" and message.channel == channel]


def codes(told: list[Told]) -> list[int]:
    return [message.body["code"] for message in told if message.kind == "bye"]


@links
@pytest.mark.parametrize("channel", ["fill:1", "order:1"])
@pytest.mark.parametrize("behind, is_closed", [(10, False), (11, True), (50, True)])
async def test_the_whole_buffer_is_its_lag_limit(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, link_type: type[PumpLink], channel: str,
    behind: int, is_closed: bool,
) -> None:  # fmt: skip
    link = link_type()
    await open_session(nursery, broker, link, (channel,))
    await clog(broker, link)
    if link_type is PumpLink:  # one publication is handed to `send`, which waits with it
        publish(broker, channel, 1)
        await trio.testing.wait_all_tasks_blocked()
    publish(broker, channel, behind)
    await trio.sleep(2)
    told = await read_all(link)
    assert codes(told) == ([4000] if is_closed else [])
    assert (link.closed_with is not None) == is_closed
    assert not any(message.kind == "drop" for message in told), "nothing is lost in silence or otherwise"
    got = seqs(told, channel)
    assert got == list(range(1, len(got) + 1))
    if not is_closed:
        assert len(got) == broker.publish(channel, b"1").seq - 1


@links
async def test_a_lag_limit_of_its_own(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, link_type: type[PumpLink]
) -> None:
    for behind, expected in ((4, []), (40, [4000])):
        link = link_type()
        await open_session(nursery, broker, link, ("short:1",))
        await clog(broker, link)
        publish(broker, "short:1", 1)
        await trio.testing.wait_all_tasks_blocked()  # from now on it counts as one that does not keep up
        publish(broker, "short:1", behind)
        await trio.sleep(2)
        assert codes(await read_all(link)) == expected


@links
async def test_a_buffer_of_few_bytes(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, link_type: type[PumpLink]
) -> None:
    link = link_type()
    await open_session(nursery, broker, link, ("large:1",))
    await clog(broker, link)
    publish(broker, "large:1", 12, size=1000)
    await trio.sleep(2)
    assert codes(await read_all(link)) == [4000]


@links
@pytest.mark.parametrize("seconds, expected", [(17, []), (25, [4000])])
async def test_a_buffer_that_ages(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, link_type: type[PumpLink], seconds: float,
    expected: list[int],
) -> None:  # fmt: skip
    link = link_type()
    await open_session(nursery, broker, link, ("old:1",))
    await clog(broker, link)
    publish(broker, "old:1", 2)
    await trio.testing.wait_all_tasks_blocked()
    publish(broker, "old:1", 2)
    await trio.sleep(seconds)
    assert codes(await read_all(link)) == expected


@links
async def test_losing_events_of_another_channel_is_no_reason(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, link_type: type[PumpLink]
) -> None:
    link = link_type()
    await open_session(nursery, broker, link, ("fill:1", "drop:1"))
    await clog(broker, link)
    publish(broker, "fill:1", 5)
    publish(broker, "drop:1", 200)
    await trio.sleep(2)
    told = await read_all(link)
    assert codes(told) == []
    assert seqs(told, "fill:1") == [1, 2, 3, 4, 5]
    assert any(message.kind == "drop" and message.channel == "drop:1" for message in told)


@links
async def test_a_channel_that_was_unsubscribed_is_no_reason(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, link_type: type[PumpLink]
) -> None:
    link = link_type()
    await open_session(nursery, broker, link, ("fill:1", "drop:1"))
    link.give('{"method":"unsubscribe","id":2,"params":["fill:1"]}')
    await trio.testing.wait_all_tasks_blocked()
    await clog(broker, link)
    publish(broker, "fill:1", 50)
    publish(broker, "drop:1", 50)
    await trio.sleep(2)
    told = await read_all(link)
    assert codes(told) == []
    assert seqs(told, "fill:1") == []


@links
async def test_after_a_gap_of_its_absence_it_is_not_closed(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, link_type: type[PumpLink]
) -> None:
    publish(broker, "fill:1", 30)
    link = link_type()
    await open_session(nursery, broker, link, ("fill:1",), {"fill:1": 5})
    told = await read_all(link)
    assert codes(told) == []
    gap = next(message for message in told if message.kind == "gap")
    assert (gap.data["reason"], gap.data["fromSeq"], gap.data["toSeq"]) == ("evicted", 6, 20)
    assert seqs(told, "fill:1") == list(range(21, 31))


async def test_who_was_closed_resumes_and_knows_what_it_missed(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker
) -> None:
    link = FastLink()
    await open_session(nursery, broker, link, ("fill:1",))
    await clog(broker, link)
    publish(broker, "fill:1", 25)
    await trio.sleep(2)
    told = await read_all(link)
    assert codes(told) == [4000]
    last = max(seqs(told, "fill:1"), default=0)
    again = FastLink()
    await open_session(nursery, broker, again, ("fill:1",), {"fill:1": last})
    told = await read_all(again)
    (gap,) = (message.data for message in told if message.kind == "gap")
    assert (gap["fromSeq"], gap["toSeq"]) == (last + 1, 15)
    assert seqs(told, "fill:1") == list(range(16, 26))
