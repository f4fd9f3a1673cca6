"""What happens by the clock: heartbeats, pings, deadlines. All of it in virtual time."""

from __future__ import annotations

import functools
import itertools

import pytest
import trio
import trio.testing

from hub.core.broker import Broker, BrokerLimits
from hub.core.session import Farewell
from hub.sansio.drops import SlowRules
from hub.sansio.encodings import Encoding, WebSocketFrames
from hub.sansio.live import LiveEnvelope
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy
from hub.sansio.stream_v2 import StreamV2Json
from tests.core.links import AudibleLink, FastLink, PumpLink
from tests.core.wire import Told, WebSocketReader, understand

V2 = Encoding(StreamV2Json(), WebSocketFrames(text=True))
LIVE = Encoding(LiveEnvelope(), WebSocketFrames(text=True))
Clock = trio.testing.MockClock
PING = b"\x89\x00"
NEVER = SlowRules(warn_dropped=0, close_dropped=0)


async def open_session(
    nursery: trio.Nursery,
    broker: Broker,
    link: PumpLink,
    encoding: Encoding = V2,
    channels: tuple[str, ...] = ("ev:1",),
) -> None:
    serve = functools.partial(broker.serve_session, link, encoding, transport="test", channels=channels)
    nursery.start_soon(serve)
    await trio.testing.wait_all_tasks_blocked()


async def open_broker(nursery: trio.Nursery, limits: BrokerLimits | None = None) -> Broker:
    policies = (Policy(pattern="ev:*", lag_limit=5), Policy(pattern="big:*", buffer_count=5000))
    broker = Broker(
        Namespaces(policies, {}),
        limits=limits,
        now_ms=lambda: int(trio.current_time() * 1000),
    )
    await nursery.start(broker.run)
    return broker


def read(link: PumpLink) -> list[Told]:
    link.take()
    return [understand(body, cursor) for body, cursor in WebSocketReader().feed(bytes(link.taken))]


def beats(link: PumpLink) -> list[float]:
    return [told.body["ts"] / 1000 for told in read(link) if told.kind == "beat"]


@pytest.mark.parametrize("link_type", [PumpLink, FastLink])
async def test_a_heartbeat_every_5_s_of_silence(
    nursery: trio.Nursery, autojump_clock: Clock, link_type: type[PumpLink]
) -> None:
    broker = await open_broker(nursery)
    link = link_type()
    await open_session(nursery, broker, link, LIVE)
    begin = trio.current_time()
    await trio.sleep(61)
    times = [begin, *beats(link), trio.current_time()]
    assert all(later - earlier <= 5.001 for earlier, later in itertools.pairwise(times))
    assert len(times) <= 2 + 61 / 3.9


@pytest.mark.parametrize("link_type", [PumpLink, FastLink])
@pytest.mark.parametrize("pace", [0.01, 0.9, 3.0])
async def test_a_heartbeat_at_least_every_10_s(
    nursery: trio.Nursery, autojump_clock: Clock, link_type: type[PumpLink], pace: float
) -> None:
    broker = await open_broker(nursery)
    link = link_type()
    await open_session(nursery, broker, link, LIVE)
    begin = trio.current_time()
    while trio.current_time() < begin + 60:
        broker.publish("ev:1", b"{}")
        await trio.sleep(pace)
    times = [begin, *beats(link), trio.current_time()]
    assert all(later - earlier <= 10.001 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("link_type", [PumpLink, FastLink])
async def test_a_heartbeat_at_least_every_10_s_on_a_slow_link_that_always_takes_something(
    nursery: trio.Nursery, autojump_clock: Clock, link_type: type[PumpLink]
) -> None:
    broker = await open_broker(nursery, BrokerLimits(slow=NEVER))
    link = link_type(capacity=2000)
    await open_session(nursery, broker, link, LIVE)
    begin = trio.current_time()
    while trio.current_time() < begin + 60:
        for _ in range(30):
            broker.publish("ev:1", b'{"pad":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}')
        await trio.sleep(0.25)
        link.take(500)
    times = [begin, *beats(link), trio.current_time()]
    assert all(later - earlier <= 12 for earlier, later in itertools.pairwise(times)), times


async def test_a_slow_reader_is_pinged_too(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery, BrokerLimits(slow=NEVER))
    link = AudibleLink(capacity=2000, keepalive=(PING, 30.0))
    await open_session(nursery, broker, link)
    begin = link.last_heard = trio.current_time()
    while trio.current_time() < begin + 100:
        for _ in range(30):
            broker.publish("ev:1", b'{"pad":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}')
        await trio.sleep(0.25)
        if PING in link.take(500):
            link.last_heard = trio.current_time()
    assert link.closed_with is None, "it answers each ping that it gets, and yet it was closed as idle"


@pytest.mark.parametrize("link_type", [AudibleLink, FastLink])
async def test_idle_timeout(nursery: trio.Nursery, autojump_clock: Clock, link_type: type[FastLink]) -> None:
    broker = await open_broker(nursery)
    link = link_type(keepalive=(PING, 30.0))
    await open_session(nursery, broker, link)
    await trio.sleep(59)
    assert link.closed_with is None
    assert bytes(link.waiting).count(PING) == 1
    await trio.sleep(3)
    assert (link.closed_with is not None) == (link_type is AudibleLink)


@pytest.mark.parametrize("link_type", [PumpLink, FastLink])
async def test_write_deadline(
    nursery: trio.Nursery, autojump_clock: Clock, link_type: type[PumpLink]
) -> None:
    broker = await open_broker(nursery, BrokerLimits(slow=NEVER, write_deadline=60.0))
    link = link_type(capacity=300)
    await open_session(nursery, broker, link)
    for _ in range(100):
        broker.publish("ev:1", b"{}")
    await trio.sleep(58)
    assert broker.sessions
    if link_type is FastLink:  # inside a `send` nobody can see whether anything moves
        link.take(300)
        await trio.sleep(58)
        assert broker.sessions
    await trio.sleep(5)
    assert not broker.sessions
    assert broker.counts.connections == {("anonymous", "test", 4000): 1}


async def fill(broker: Broker) -> None:
    """More than a small link takes; what is published after this finds it full."""
    for _ in range(20):
        broker.publish("ev:1", b"{}")
    await trio.testing.wait_all_tasks_blocked()


async def test_slow_consumer_is_warned_then_closed(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery)
    link = FastLink(capacity=300)
    await open_session(nursery, broker, link)
    await fill(broker)
    for _ in range(400):
        broker.publish("ev:1", b"{}")
    await trio.sleep(2)
    assert broker.counts.slow_warnings == 1
    assert broker.counts.dropped["slow_consumer"] == 400 + 20 - 5 - 20
    for _ in range(3):
        for _ in range(400):
            broker.publish("ev:1", b"{}")
        await trio.sleep(2)
    assert broker.counts.slow_disconnects == 1
    assert broker.sessions, "it has 20 s to read why"
    await trio.sleep(10)
    for _ in range(8):
        link.take()
        await trio.testing.wait_all_tasks_blocked()
    told = read(link)
    assert [message.kind for message in told if message.kind in ("slow", "bye")] == ["slow", "bye"]
    assert told[-1].body["code"] == 4000
    assert not broker.sessions


async def test_a_slow_consumer_that_never_reads_is_cut_off(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = await open_broker(nursery)
    link = FastLink(capacity=300)
    await open_session(nursery, broker, link)
    await fill(broker)
    for _ in range(2000):
        broker.publish("ev:1", b"{}")
    await trio.sleep(2)
    assert broker.counts.slow_disconnects == 1
    await trio.sleep(17)
    assert broker.sessions
    await trio.sleep(3)
    assert not broker.sessions


@pytest.mark.parametrize("link_type", [PumpLink, FastLink])
async def test_drain_does_not_wait_for_who_does_not_read(
    nursery: trio.Nursery, autojump_clock: Clock, link_type: type[PumpLink]
) -> None:
    broker = await open_broker(nursery)
    stuck, well = link_type(capacity=10), link_type()
    await open_session(nursery, broker, stuck)
    await open_session(nursery, broker, well)
    begin = trio.current_time()
    await broker.drain(window=3.0, deadline=7.0)
    assert trio.current_time() - begin == pytest.approx(7.0, abs=0.1)
    assert well.closed_with == (1001, "going away")
    assert 0 <= read(well)[-1].body["retryAfterMs"] <= 3000
    await trio.testing.wait_all_tasks_blocked()
    assert not broker.sessions


async def test_the_farewell_has_a_deadline(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery)
    link = FastLink()
    link.close_waits = True
    await open_session(nursery, broker, link)
    (session,) = broker.sessions.values()
    begin = trio.current_time()
    session.disconnect(Farewell(1001, "going away", deadline=3.0))
    while broker.sessions:  # noqa: ASYNC110  # in virtual time
        await trio.sleep(0.1)
    assert trio.current_time() - begin == pytest.approx(3.0, abs=0.2)
