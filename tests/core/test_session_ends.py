"""What happens around the end of a session: order, closed nurseries, cut messages."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from hub.core import scheduler as scheduler_module
from hub.core.broker import Broker, BrokerLimits
from hub.core.session import Farewell
from hub.sansio.drops import SlowRules
from hub.sansio.encodings import Bare, Encoding, ServerSentEvents, WebSocketFrames
from hub.sansio.live import LiveEnvelope
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy
from hub.sansio.stream_v2 import StreamV2Json
from tests.core.links import FastLink, PumpLink
from tests.core.wire import EventReader, Told, WebSocketReader, understand

V2 = Encoding(StreamV2Json(), WebSocketFrames(text=True))
LIVE = Encoding(LiveEnvelope(), WebSocketFrames(text=True))
SSE = Encoding(
    StreamV2Json(), ServerSentEvents(chunked=True, retry_ms=2000), bare=Encoding(StreamV2Json(), Bare())
)
POLICIES = (Policy(pattern="ev:*"), Policy(pattern="fill:*", on_lag="close", lag_limit=0, buffer_count=10))
Clock = trio.testing.MockClock


@pytest.fixture
async def broker(nursery: trio.Nursery) -> Broker:
    limits = BrokerLimits(slow=SlowRules(warn_dropped=0, close_dropped=0))
    broker = Broker(Namespaces(POLICIES, {}), limits=limits, now_ms=lambda: 1_740_000_000_000)
    await nursery.start(broker.run)
    return broker


def subscribe(*channels: str, id: int = 1) -> str:
    return json.dumps({"method": "subscribe", "id": id, "params": channels})


def unsubscribe(*channels: str, id: int = 2) -> str:
    return json.dumps({"method": "unsubscribe", "id": id, "params": channels})


def read(link: PumpLink) -> list[Told]:
    link.take()
    return [understand(body, cursor) for body, cursor in WebSocketReader().feed(bytes(link.taken))]


def read_stream(link: PumpLink) -> list[Told]:
    link.take()
    return [understand(body, cursor) for body, cursor in EventReader().feed(bytes(link.taken))]


async def open_session(
    nursery: trio.Nursery,
    broker: Broker,
    link: PumpLink,
    encoding: Encoding = V2,
    channels: tuple[str, ...] = ("ev:1",),
) -> None:
    async def serve() -> None:
        await broker.serve_session(link, encoding, transport="test", channels=channels)

    nursery.start_soon(serve)
    await trio.testing.wait_all_tasks_blocked()


class Publisher:
    """Publishes whenever Trio runs a task step, so that news come at every possible moment."""

    def __init__(self, broker: Broker, channels: tuple[str, ...]) -> None:
        self._broker = broker
        self._channels = channels

    async def run(self) -> None:
        while True:
            for channel in self._channels:
                self._broker.publish(channel, b"{}")
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("link_type", [PumpLink, FastLink])
@pytest.mark.parametrize("channels", [("ev:1",), ("ev:1", "ev:2")])
@pytest.mark.parametrize("way", ["leave", "disconnect", "abandon"])
async def test_news_while_a_session_ends_do_not_hurt_the_broker(
    nursery: trio.Nursery,
    autojump_clock: Clock,
    broker: Broker,
    link_type: type[PumpLink],
    channels: tuple[str, ...],
    way: str,
) -> None:
    for pace in range(30):  # the scheduler's loop and the session's end meet in every phase
        link = link_type(capacity=200)
        await open_session(nursery, broker, link, channels=channels)
        (session,) = broker.sessions.values()
        async with trio.open_nursery() as publishing:
            publishing.start_soon(Publisher(broker, channels).run)
            for _ in range(3 + pace % 5):
                await trio.lowlevel.checkpoint()
            if way == "leave":
                link.give(trio.EndOfChannel())
            elif way == "disconnect":
                session.disconnect(Farewell(1001, "going away"))
            else:
                session.abandon()
            for _ in range(12):
                link.take()
                await trio.lowlevel.checkpoint()
            publishing.cancel_scope.cancel()
        link.take()
        await trio.testing.wait_all_tasks_blocked()
        while broker.sessions:
            link.take()
            await trio.sleep(1)


async def test_time_passing_while_a_session_ends_does_not_hurt_the_broker(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker
) -> None:
    for _ in range(20):
        link = PumpLink()
        await open_session(nursery, broker, link, LIVE)
        (session,) = broker.sessions.values()
        await trio.sleep(4.5)
        link.give(trio.EndOfChannel())
        for _ in range(8):
            session.writer.last_sent = -100.0
            session.tick(trio.current_time())  # as the timekeeper does, at whichever moment
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert not broker.sessions


async def test_no_data_after_the_farewell(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker
) -> None:
    link = FastLink()
    link.close_waits = True  # the peer takes its time to answer the close frame
    await open_session(nursery, broker, link)
    (session,) = broker.sessions.values()
    session.disconnect(Farewell(1001, "going away"))
    await trio.testing.wait_all_tasks_blocked()
    broker.publish("ev:1", b"{}")
    await trio.testing.wait_all_tasks_blocked()
    assert [told.kind for told in read(link)] == ["welcome", "bye"]


@pytest.mark.parametrize("command", ['{"method":"ping","id":7}', subscribe("ev:2", id=7)])
async def test_no_answer_after_the_farewell(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, command: str
) -> None:
    link = FastLink()
    await open_session(nursery, broker, link)
    (session,) = broker.sessions.values()
    link.give(command)  # it has arrived, and its reader has not run yet
    session.disconnect(Farewell(1001, "going away"))
    await trio.testing.wait_all_tasks_blocked()
    assert [told.kind for told in read(link)] == ["welcome", "bye"]


@pytest.mark.parametrize("link_type", [PumpLink, FastLink])
async def test_a_client_that_comes_during_a_drain_hears_connected_first(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, link_type: type[PumpLink]
) -> None:
    await broker.drain(window=1.0, deadline=1.0)
    link = link_type()
    await open_session(nursery, broker, link)
    assert [told.kind for told in read(link)] == ["welcome", "bye"]
    assert link.closed_with == (1001, "going away")


@pytest.mark.parametrize("encoding", [V2, SSE])
async def test_a_full_link_hears_connected_before_the_farewell(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, encoding: Encoding
) -> None:
    link = FastLink(capacity=0)
    await open_session(nursery, broker, link, encoding)
    (session,) = broker.sessions.values()
    session.disconnect(Farewell(1001, "going away"))
    link.capacity = 1 << 20
    link.take()
    await trio.testing.wait_all_tasks_blocked()
    told = read(link) if encoding is V2 else read_stream(link)
    assert [message.kind for message in told] == ["welcome", "bye"]


@pytest.mark.parametrize("again", [False, True])
async def test_unsubscribing_while_the_scheduler_walks(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    monkeypatch.setattr(scheduler_module, "TURN", -1.0)  # it yields before each session
    monkeypatch.setattr(scheduler_module, "STRIDE", 1)
    links = [FastLink() for _ in range(12)]
    for link in links:
        await open_session(nursery, broker, link, channels=("ev:1", "ev:2"))
    for link in links:
        broker.publish("ev:1", b"{}")
        broker.publish("ev:2", b"{}")
        link.give(unsubscribe("ev:1", "ev:2"))
        if again:
            link.give(subscribe("ev:1", "ev:2", id=3))
        for _ in range(3):
            await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    for link in links:
        told = read(link)
        kinds = [message.kind for message in told]
        rest = told[kinds.index("unsubscribed") + 1 :]
        if not again:
            assert rest == []
            continue
        heads = {name: state["seq"] for name, state in rest[0].data["positions"].items()}
        for message in rest[1:]:
            heads[message.channel] += 1
            assert message.seq == heads[message.channel]


async def test_a_cut_message_is_never_followed_by_another(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker
) -> None:
    for pace in range(60):  # the scheduler and the session's end meet in every phase
        link = FastLink(capacity=100)
        await open_session(nursery, broker, link)
        (session,) = broker.sessions.values()
        for _ in range(5):
            broker.publish("ev:1", b'{"pad":"%b"}' % (b"x" * 50))
        await trio.testing.wait_all_tasks_blocked()
        assert session.writer.is_pumping
        async with trio.open_nursery() as publishing:
            publishing.start_soon(Publisher(broker, ("ev:1",)).run)
            for _ in range(pace % 4):
                await trio.lowlevel.checkpoint()
            link.capacity += 1000
            session.abandon()
            while broker.sessions:  # noqa: ASYNC110  # in every phase of the end, not only after it
                await trio.lowlevel.checkpoint()
            publishing.cancel_scope.cancel()
        read(link)  # parses whatever was written


async def test_a_client_that_must_resume_is_told_so_when_it_reads_again(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker
) -> None:
    link = FastLink(capacity=200)
    await open_session(nursery, broker, link, channels=("fill:1",))
    for _ in range(40):
        broker.publish("fill:1", b'{"pad":"xxxxxxxxxxxxxxxxxxxxx"}')
    await trio.sleep(10)
    for _ in range(10):
        link.take()
        await trio.testing.wait_all_tasks_blocked()
    told = read(link)
    assert told[-1].kind == "bye"
    assert told[-1].body["code"] == 4000
    assert link.closed_with == (4000, told[-1].body["msg"])
    seqs = [message.seq for message in told if message.kind == "data"]
    assert seqs == list(range(1, len(seqs) + 1))
    assert not any(message.kind == "drop" for message in told)


# --- the client says that it leaves ---------------------------------------------------------------------------


class AnsweringLink(FastLink):
    """One whose peer waits for an answer; ``answered_at`` is how much had been handed over by then."""

    answered_at: int | None = None
    answer_takes = 0.0

    async def answer_close(self) -> None:
        assert self.answered_at is None, "answered twice"
        self.answered_at = len(self.taken) + len(self.waiting)
        await trio.sleep(self.answer_takes)


async def test_a_message_that_was_cut_is_finished_before_the_answer_and_nothing_follows(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker
) -> None:
    link = AnsweringLink(capacity=100)
    await open_session(nursery, broker, link)
    for number in range(30):
        broker.publish("ev:1", b'"%b %d"' % (b"x" * 50, number))
    await trio.testing.wait_all_tasks_blocked()
    link.give(trio.EndOfChannel())
    await trio.testing.wait_all_tasks_blocked()
    assert broker.sessions, "it was not answered yet"
    for _ in range(50):
        link.take(30)
        broker.publish("ev:1", b'"later"')
        await trio.testing.wait_all_tasks_blocked()
    link.take()
    assert link.answered_at == len(link.taken)
    seqs = [told.seq for told in read(link) if told.kind == "data"]
    assert seqs == list(range(1, len(seqs) + 1))
    assert not broker.sessions


@pytest.mark.parametrize("ends_with", ["nothing", "disconnect", "drain"])
async def test_nothing_is_said_while_the_answer_is_on_its_way(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker, ends_with: str
) -> None:
    link = AnsweringLink()
    link.answer_takes = 4.5
    await open_session(nursery, broker, link, LIVE)
    await trio.sleep(3.5)  # a heartbeat is due soon
    link.give(trio.EndOfChannel())
    await trio.sleep(0.5)
    if ends_with == "disconnect":
        broker.disconnect(
            Farewell(4003, "token revoked"), user=None, connection_id=next(iter(broker.sessions))
        )
    elif ends_with == "drain":
        await broker.drain(window=0.0, deadline=10.0)
    await trio.sleep(10)
    link.take()
    assert link.answered_at == len(link.taken)
    assert link.closed_with is None
    assert not broker.sessions


async def test_a_client_that_leaves_and_takes_nothing_is_not_waited_for(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker
) -> None:
    link = AnsweringLink(capacity=100)
    await open_session(nursery, broker, link)
    for number in range(30):
        broker.publish("ev:1", b"%d" % number)
    await trio.testing.wait_all_tasks_blocked()
    link.give(trio.EndOfChannel())
    await trio.sleep(7)
    assert not broker.sessions
