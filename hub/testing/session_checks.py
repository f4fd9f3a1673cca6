"""What follows when a real broker serves a session over the link."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import cbor2
import trio

from hub.core.broker import Broker, BrokerLimits
from hub.core.contracts import Link
from hub.sansio.drops import SlowRules
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy
from hub.testing.expectations import in_time, settle, shorten, without_error
from hub.testing.far_end import FarEnd, LinkMaker, Talking
from hub.testing.link_checks import TOO_MUCH
from hub.testing.messages import Speech

CHANNEL = "kit:1"
LAG_LIMIT = 16
#: Published to a client that is stuck: far more than it may be behind.
EXCESS = 100


@attrs.define
class Served:
    """A session, from both ends."""

    broker: Broker
    link: Link
    far: FarEnd
    speech: Speech
    is_over: trio.Event = attrs.field(factory=trio.Event)

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        is_subscribed = not isinstance(self.far, Talking)
        task_status.started()
        with without_error("serve_session must not fail, whatever the link does"):
            await self.broker.serve_session(
                self.link,
                self.speech.encoding(),
                transport="kit",
                channels=(CHANNEL,) if is_subscribed else (),
            )
        self.is_over.set()

    async def receive(self, promise: str) -> dict[str, Any]:
        with in_time(promise):
            message = await self.far.receive()
        try:
            value = json.loads(message) if self.speech.is_text else cbor2.loads(message)
        except ValueError:
            value = None
        assert isinstance(value, dict), f"{promise}: not a message of the hub's: {shorten(message)}"
        return value

    async def ask(self, request: dict[str, Any]) -> None:
        assert isinstance(self.far, Talking)
        message = self.speech.protocol.encode(request)
        with in_time("the far end's send"):
            await self.far.send(self.speech.received(message))

    async def begin(self) -> None:
        """The greeting; the channel is subscribed after it."""
        greeting = await self.receive("the greeting")
        assert greeting.get("event") == "connected", f"the greeting: {shorten(greeting)}"
        if isinstance(self.far, Talking):
            await self.ask({"method": "subscribe", "params": [CHANNEL], "id": 1})
            answer = await self.receive("the answer to subscribe")
            assert answer.get("id") == 1, f"the answer to subscribe: {shorten(answer)}"
            assert answer.get("code") == 0, f"the answer to subscribe: {shorten(answer)}"

    def publish(self, data: object) -> None:
        self.broker.publish(CHANNEL, json.dumps(data).encode())

    async def expect_end(self, why: str) -> None:
        """The session is over, and nothing of it is left."""
        with in_time(f"the session's end, when {why}"):
            await self.is_over.wait()
        left = self.broker.statistics()
        assert not sum(left.sessions.values()), f"a session was left behind when {why}"
        assert not sum(left.subscriptions.values()), f"a subscription was left behind when {why}"


@asynccontextmanager
async def open_session(maker: LinkMaker, speech: Speech) -> AsyncIterator[Served]:
    """A link that is served by a broker without deadlines: time may fly."""
    broker = Broker(
        Namespaces([Policy(pattern="kit:*", lag_limit=LAG_LIMIT, buffer_count=100_000)], {}),
        limits=BrokerLimits(
            write_deadline=0.0, idle_timeout=0.0, slow=SlowRules(warn_dropped=0, close_dropped=0)
        ),
    )
    async with maker() as (link, far), trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        served = Served(broker, link, far, speech)
        await nursery.start(served.serve)
        yield served
        nursery.cancel_scope.cancel()


async def check_session(maker: LinkMaker, speech: Speech) -> None:
    """Requests are answered, events come in order, a client that leaves is forgotten."""
    async with open_session(maker, speech) as served:
        await served.begin()
        for begin in range(1, 100, 33):
            for number in range(begin, begin + 33):
                served.publish({"n": number, "pad": "x" * (number % 7 * 3000)})
            await _expect_events(served, range(begin, begin + 33))
        if isinstance(served.far, Talking):
            await served.ask({"method": "ping", "id": 2})
            pong = await served.receive("the answer to ping")
            assert (pong.get("method"), pong.get("id")) == ("pong", 2), f"the answer to ping: {shorten(pong)}"
        with in_time("the far end's aclose"):
            await served.far.aclose()
        await served.expect_end("the peer has left")


async def _expect_events(served: Served, seqs: Sequence[int]) -> None:
    for seq in seqs:
        event = await served.receive(f"event {seq}")
        assert event.get("seq") == seq, f"event {seq}: came as {shorten(event)}"
        assert event["data"]["n"] == seq, f"event {seq}: its data came as {shorten(event['data'])}"


async def check_slow_client(clogged_maker: LinkMaker, speech: Speech) -> None:
    """A client that stops reading is told exactly what it lost, in order, once it reads again."""
    async with open_session(clogged_maker, speech) as served:
        await served.begin()
        await _clog(served)
        for _ in range(EXCESS):
            served.publish({"n": "excess"})
        for session in served.broker.sessions.values():
            session.tick(trio.current_time())  # sees that its client takes nothing, as it does once a second
        await _expect_all_or_told(served)


async def _clog(served: Served) -> None:
    """Publishes until the link takes no more."""
    (session,) = served.broker.sessions.values()
    size, before = 0, -1
    while not session.writer.is_pumping or session.subscriptions[CHANNEL].position != before:
        before = session.subscriptions[CHANNEL].position
        served.publish({"n": "clog", "pad": "x" * 30_000})
        size += 30_000
        await settle()
        assert size < TOO_MUCH, f"the link took {size} bytes of events though the peer does not read"


async def _expect_all_or_told(served: Served) -> None:
    head = served.broker.statistics().counts.published
    expected, dropped = 1, 0
    while expected <= head:
        event = await served.receive(f"event {expected} of {head}, or what became of it")
        if event.get("event") == "backpressure_drop":
            lost = event["data"]
            assert lost["fromSeq"] == expected, f"after event {expected - 1}: told of {lost}"
            assert lost["dropped"] == lost["toSeq"] - expected + 1 > 0, f"a wrong count: {lost}"
            dropped += lost["dropped"]
            expected = lost["toSeq"] + 1
        else:
            assert event.get("seq") == expected, f"event {expected}: came as {shorten(event)}"
            expected += 1
    assert dropped, f"a client that was {EXCESS} events behind was told of no loss"


async def check_abrupt_end(maker: LinkMaker, speech: Speech) -> None:
    """A client that vanishes while events come in is forgotten."""
    async with open_session(maker, speech) as served:
        await served.begin()
        with in_time("the far end's abort"):
            await served.far.abort()
        for number in range(1000):
            served.publish({"n": number, "pad": "x" * 3000})
            await trio.lowlevel.checkpoint()
        await served.expect_end("the peer is gone without a word")


async def check_abrupt_end_of_slow_client(clogged_maker: LinkMaker, speech: Speech) -> None:
    """So is one that vanishes while the session waits for it to read."""
    async with open_session(clogged_maker, speech) as served:
        await served.begin()
        await _clog(served)
        with in_time("the far end's abort"):
            await served.far.abort()
        await served.expect_end("a peer that did not read is gone without a word")


async def check_drain(maker: LinkMaker, speech: Speech) -> None:
    """A client that is sent away learns why, and then the connection ends."""
    async with open_session(maker, speech) as served, trio.open_nursery() as nursery:
        await served.begin()
        served.publish({"n": 1})
        await _expect_events(served, [1])

        async def drain() -> None:
            await served.broker.drain(window=0.0, deadline=30.0)

        nursery.start_soon(drain)
        bye = await served.receive("the farewell")
        assert (bye.get("event"), bye.get("code")) == ("disconnecting", 1001), f"the farewell: {shorten(bye)}"
        with in_time("the end of the connection after the farewell"):
            try:
                message = await served.far.receive()
            except trio.EndOfChannel:
                pass
            else:
                raise AssertionError(f"after the farewell came {shorten(message)}")
            await served.far.aclose()
        await served.expect_end("the hub has said goodbye")


async def check_drain_of_slow_client(clogged_maker: LinkMaker, speech: Speech) -> None:
    """A client that does not read cannot hold the hub up."""
    async with open_session(clogged_maker, speech) as served:
        await served.begin()
        await _clog(served)
        with in_time("a drain with a deadline, whose client does not read"):
            await served.broker.drain(window=0.0, deadline=0.05)
        await served.expect_end("the hub has lost its patience")
