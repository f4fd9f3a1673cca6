"""The comments that keep an event stream awake, by the clock."""

from __future__ import annotations

import functools
import itertools

import pytest
import trio
import trio.testing

from hub.core.broker import Broker, BrokerLimits
from hub.sansio.drops import SlowRules
from hub.sansio.encodings import Bare, Encoding, ServerSentEvents
from hub.sansio.live import LiveEnvelope
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy
from tests.core.links import FastLink, PumpLink
from tests.core.wire import EventReader

Clock = trio.testing.MockClock
FRAMING = ServerSentEvents(chunked=True, retry_ms=2000)
SSE = Encoding(LiveEnvelope(), FRAMING, bare=Encoding(LiveEnvelope(), Bare()))
INTERVAL = 15.0
NEVER = SlowRules(warn_dropped=0, close_dropped=0)


class Listener:
    """Reads a link all the time and notes when a comment came."""

    def __init__(self, link: PumpLink) -> None:
        self.link = link
        self.times: list[float] = []

    async def run(self) -> None:
        while True:
            self.times += [trio.current_time()] * self.link.take().count(FRAMING.comment())
            await trio.sleep(0.05)


async def open_stream(nursery: trio.Nursery, link: PumpLink) -> Broker:
    broker = Broker(Namespaces((Policy(pattern="ev:*"),), {}), limits=BrokerLimits(slow=NEVER))
    await nursery.start(broker.run)
    await trio.sleep(0.3)  # streams do not begin with a tick
    serve = functools.partial(broker.serve_session, link, SSE, transport="sse", channels=("ev:1",))
    nursery.start_soon(serve)
    await trio.testing.wait_all_tasks_blocked()
    return broker


def make_link(link_type: type[PumpLink]) -> PumpLink:
    return link_type(keepalive=(FRAMING.comment(), INTERVAL), keepalive_is_enough=True)


@pytest.mark.parametrize("link_type", [PumpLink, FastLink])
@pytest.mark.parametrize("pace", [0.05, 3.0, 14.9, 1000.0])
async def test_a_comment_at_least_every_15_s(
    nursery: trio.Nursery, autojump_clock: Clock, link_type: type[PumpLink], pace: float
) -> None:
    link = make_link(link_type)
    broker = await open_stream(nursery, link)
    listener = Listener(link)
    nursery.start_soon(listener.run)
    begin = trio.current_time()
    while (left := begin + 120 - trio.current_time()) > 0:
        broker.publish("ev:1", b"{}")
        await trio.sleep(min(pace, left))
    times = [begin, *listener.times, trio.current_time()]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(waits) <= INTERVAL + 0.051
    assert min(waits[1:-1]) >= INTERVAL - 1.051, "and not much more often"
    events = [body["event"] for body, _ in EventReader().feed(bytes(link.taken))]
    assert set(events) == {"subscribed", "message"}, "comments do instead of heartbeats"


async def test_comments_do_not_pile_up_for_who_does_not_read(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    link = make_link(FastLink)
    await open_stream(nursery, link)
    link.take()
    link.capacity = 0
    await trio.sleep(50)  # less than the write deadline
    link.capacity = 1 << 20
    assert link.take() == b""
    await trio.testing.wait_all_tasks_blocked()
    assert link.take() == FRAMING.comment()
    await trio.sleep(INTERVAL)
    assert link.take() == FRAMING.comment()
