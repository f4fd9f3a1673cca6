"""Publishing costs the same whoever listens, and who does not read holds nothing back."""

from __future__ import annotations

import functools
import gc
import sys
import tracemalloc
from collections import Counter
from types import FrameType
from typing import Any

import pytest
import trio
import trio.testing

from hub.core.broker import Broker, BrokerLimits
from hub.core.session import Session
from hub.core.subscription import Subscription
from hub.core.writer import Writer
from hub.sansio.drops import SlowRules
from hub.sansio.encodings import Bare, Encoding, ServerSentEvents, WebSocketFrames
from hub.sansio.live import LiveEnvelope
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy
from hub.sansio.stream_v2 import StreamV2Json
from tests.core.links import FastLink, PumpLink

Clock = trio.testing.MockClock
V2 = Encoding(StreamV2Json(), WebSocketFrames(text=True))
LIVE = Encoding(LiveEnvelope(), WebSocketFrames(text=True))
SSE = Encoding(
    LiveEnvelope(),
    ServerSentEvents(chunked=True, retry_ms=2000),
    bare=Encoding(LiveEnvelope(), Bare()),
)
POLICIES = (
    Policy(pattern="ev:*", buffer_count=50),
    Policy(pattern="book:*", on_lag="snapshot", snapshot="last", buffer_count=50),
    Policy(pattern="tick:*", on_lag="latest", snapshot="last", buffer_count=50),
)
CHANNELS = ("ev:1", "book:1", "tick:1")
#: Nobody is closed for being slow.
PATIENCE = BrokerLimits(slow=SlowRules(warn_dropped=0, close_dropped=0), write_deadline=0.0, idle_timeout=0.0)


async def open_broker(nursery: trio.Nursery) -> Broker:
    broker = Broker(Namespaces(POLICIES, {}), limits=PATIENCE, now_ms=lambda: 1_740_000_000_000)
    await nursery.start(broker.run)
    return broker


async def open_stuck_sessions(nursery: trio.Nursery, broker: Broker, count: int) -> list[PumpLink]:
    """Clients that take a few hundred bytes and then nothing, of each kind."""
    links: list[PumpLink] = []
    for number in range(count):
        encoding = (V2, LIVE, SSE)[number % 3]
        link = (FastLink, FastLink, PumpLink)[number // 3 % 3](capacity=number % 5 * 100)
        nursery.start_soon(
            functools.partial(broker.serve_session, link, encoding, transport="test", channels=CHANNELS)
        )
        links.append(link)
    await trio.testing.wait_all_tasks_blocked()
    return links


def publish(broker: Broker, count: int) -> None:
    for number in range(count):
        broker.publish(CHANNELS[number % 3], b'{"number":%d,"pad":"%b"}' % (number, b"x" * 100))


class Calls:
    """Counts what is called, Python and C, by file and name."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Calls:
        self._profile_before = sys.getprofile()
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._profile_before)

    def _note(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            self.counts[frame.f_code.co_filename, frame.f_code.co_qualname] += 1
        elif event == "c_call":
            self.counts["", arg.__qualname__] += 1


async def test_publishing_touches_no_subscriber(
    nursery: trio.Nursery, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = await open_broker(nursery)
    await open_stuck_sessions(nursery, broker, 1000)
    publish(broker, 500)
    await trio.sleep(2)  # by now all of them are stuck, and behind
    assert len(broker.sessions) == 1000

    touched: Counter[str] = Counter()

    def touch(self: object, name: str) -> Any:
        touched[f"{type(self).__name__}.{name}"] += 1
        return object.__getattribute__(self, name)

    with monkeypatch.context() as patch, Calls() as calls:
        for kind in (Writer, Subscription, Session):
            patch.setattr(kind, "__getattribute__", touch)
        publish(broker, 1000)
    assert touched == {}
    files = {file.rpartition("/")[2] for file, _ in calls.counts}
    assert files.isdisjoint({"writer.py", "subscription.py", "session.py", "pieces.py", "links.py"})
    await trio.testing.wait_all_tasks_blocked()


async def count_calls(sessions: int) -> Counter[tuple[str, str]]:
    async with trio.open_nursery() as nursery:
        broker = await open_broker(nursery)
        await open_stuck_sessions(nursery, broker, sessions)
        publish(broker, 300)
        await trio.testing.wait_all_tasks_blocked()
        publish(broker, 3)  # the first news of a channel wakes the scheduler
        gc.disable()  # Hypothesis counts its runs, which come when they come
        try:
            with Calls() as calls:
                publish(broker, 300)
        finally:
            gc.enable()
        nursery.cancel_scope.cancel()
    return calls.counts


async def test_publishing_is_the_same_work_for_one_subscriber_and_for_300(autojump_clock: Clock) -> None:
    assert await count_calls(1) == await count_calls(300)


async def test_stuck_sessions_hold_back_nothing_that_grows(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = await open_broker(nursery)
    await open_stuck_sessions(nursery, broker, 1000)
    tracemalloc.start()
    try:
        before = await _memory_after(broker, 600)
        after = await _memory_after(broker, 6000)
    finally:
        tracemalloc.stop()
    assert len(broker.sessions) == 1000
    # The publications themselves are more than 3 MB; one pointer to each, kept by each session, were 48 MB.
    assert after - before < 500_000


async def _memory_after(broker: Broker, count: int) -> int:
    for _ in range(count // 60):
        publish(broker, 60)
        await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(3)  # heartbeats are due, and what is dropped is counted
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
