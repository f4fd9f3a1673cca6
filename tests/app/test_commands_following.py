"""``hub tail`` without its process: reconnects, resumes, obeys; time is the test's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import httpx
import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.app.commands.endings import STABLE, Backoff, Ending, closed, refused
from hub.app.commands.envelopes import Envelope, Head, parse_envelope
from hub.app.commands.following import Follower
from hub.app.commands.over_websocket import MESSAGE_SIZE, subscribe_commands
from hub.app.commands.progress import Progress
from hub.app.commands.tail import PATHS
from hub.app.compose import Hub
from hub.app.settings import Settings
from hub.app.settings.plugins import find_plugins, settings_of
from hub.app.settings.sections import LimitSettings, ServerSettings
from hub.core.broker import Broker
from hub.core.session import Farewell
from hub.sansio.policies import Policy

POLICIES = {
    "plain": Policy(pattern="ev:*", event="tick", lag_limit=0),
    "small": Policy(pattern="small:*", buffer_count=5),
    "state": Policy(pattern="state:*", snapshot="last", lag_limit=0),
}
transports = pytest.mark.parametrize("transport", list(PATHS))


@asynccontextmanager
async def open_hub() -> AsyncIterator[tuple[Broker, str]]:
    """A hub within the test, and its public URL."""
    plugins = find_plugins("hub.transports", own_only=True)
    hub = Hub(
        Settings(
            server=ServerSettings(bind="127.0.0.1:0", admin_bind=""),
            limits=LimitSettings(connections_per_ip=0, channels_per_connection=200),
            namespaces=POLICIES,
            transports={name: settings_of(plugin)() for name, plugin in plugins.items()},
        ),
        plugins,
        {},
    )
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(hub.run)
        yield hub.broker, addresses.public
        hub.start_drain()


class Network:
    """What lies between a client and a hub. Connection i is cut after ``budgets[i]`` bytes of the hub's; the
    connections after those are good, until ``is_dead``: then nothing comes through."""

    def __init__(self, target: str, budgets: Sequence[int] = ()) -> None:
        self.budgets = list(budgets)
        self.connections = 0
        self.is_dead = False
        self._port = int(target.rpartition(":")[2])

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:
            serve: Any = partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1")
            listeners: list[trio.SocketListener] = await nursery.start(serve)
            yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            nursery.cancel_scope.cancel()

    async def _serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        budget = self.budgets.pop(0) if self.budgets else None
        try:
            async with (
                await trio.open_tcp_stream("127.0.0.1", self._port) as hub,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._copy, client, hub, None)
                await self._copy(hub, client, budget)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, budget: int | None) -> None:
        while budget is None or budget > 0:
            data = await source.receive_some(65536 if budget is None else min(budget, 65536))
            if not data:
                return
            if budget is not None:
                budget -= len(data)
            if not self.is_dead:
                await sink.send_all(data)


@attrs.define
class Told:
    """What a follower told and said."""

    events: list[dict[str, Any]] = attrs.field(factory=list)
    said: list[str] = attrs.field(factory=list)

    def follower(self, *channels: str, **options: Any) -> Follower:
        return Follower(
            channels,
            tell=lambda raw: self.events.append(json.loads(raw)),
            say=self.said.append,
            jitter=lambda: 0.5,
            **options,
        )

    def data(self, channel: str) -> list[Any]:
        return [event["data"] for event in self.events if event["channel"] == channel]


async def wait_for(is_true: Callable[[], object], seconds: float = 300.0) -> None:
    with trio.fail_after(seconds):
        while not is_true():  # noqa: ASYNC110  # what is waited for has no event
            await trio.sleep(0.1)


def run_with_own_clock(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(3600):
            await test()

    trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0), strict_exception_groups=True)


# --- nothing lost, nothing twice ---------------------------------------------------------------------------


@transports
@settings(max_examples=20)
@given(budgets=st.lists(st.integers(0, 3000), max_size=12), is_resumed=st.booleans())
@example(budgets=[1, 200, 400, 500, 600, 700, 800, 900], is_resumed=False)
def test_each_event_comes_once_over_connections_that_break(
    transport: str, budgets: list[int], is_resumed: bool
) -> None:
    async def test() -> None:
        told = Told()
        async with (
            open_hub() as (broker, url),
            Network(url, budgets).open() as address,
            trio.open_nursery() as nursery,
        ):
            broker.publish("state:1", b"0")
            follower = told.follower("ev:1", "state:1", "ev:2")
            if is_resumed:  # so that the first connection has something to replay
                await _learn_position(follower, transport, url)
            else:
                nursery.start_soon(follower.run, partial(PATHS[transport], address))
                await wait_for(lambda: "connected" in told.said)
            for number in range(1, 31):
                broker.publish("ev:1", b"%d" % number)
                broker.publish("state:1", b"%d" % number)
                await trio.sleep(0.7)
            if is_resumed:
                nursery.start_soon(follower.run, partial(PATHS[transport], address))
            await wait_for(lambda: told.data("ev:1")[-1:] == told.data("state:1")[-1:] == [30])
            assert told.data("ev:1") == list(range(1, 31))
            # A first connection that breaks before the snapshot leaves a later state to be had.
            state = told.data("state:1")
            assert state == list(range(state[0], 31))
            nursery.cancel_scope.cancel()

    run_with_own_clock(test)


@settings(max_examples=15)
@given(budgets=st.lists(st.integers(500, 30_000), max_size=6))
@example(budgets=[300, 5000, 8000, 9000, 12_000, 15_000])
def test_more_channels_than_fit_in_one_command(budgets: list[int]) -> None:
    """Commands are answered one by one, and a connection may break between two answers."""
    channels = [f"ev:{'x' * 50}{number}" for number in range(150)]

    async def test() -> None:
        told = Told()
        async with (
            open_hub() as (broker, url),
            Network(url, budgets).open() as address,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(told.follower(*channels).run, partial(PATHS["ws"], address))
            await wait_for(lambda: "connected" in told.said)
            for number in range(4):
                for channel in channels:
                    broker.publish(channel, b"%d" % number)
                await trio.sleep(2.0)
            await wait_for(lambda: len(told.events) >= 4 * len(channels))
            assert all(told.data(channel) == [0, 1, 2, 3] for channel in channels)
            nursery.cancel_scope.cancel()

    run_with_own_clock(test)


async def _learn_position(follower: Follower, transport: str, url: str) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run, partial(PATHS[transport], url))
        await trio.sleep(20.0)  # longer than any heartbeat takes
        nursery.cancel_scope.cancel()


@transports
async def test_a_hub_that_is_silent_is_left(transport: str, autojump_clock: trio.testing.MockClock) -> None:
    told = Told()
    async with open_hub() as (broker, url), trio.open_nursery() as nursery:
        network = Network(url)
        async with network.open() as address:
            follower = told.follower("ev:1").run
            nursery.start_soon(follower, partial(PATHS[transport], address))  # noqa: ASYNC111  # ends with the network
            await wait_for(lambda: "connected" in told.said)
            network.is_dead = True
            await wait_for(lambda: len(told.said) > 1)
            network.is_dead = False
            broker.publish("ev:1", b"1")
            await wait_for(lambda: told.events)
            assert "reconnecting in 1.5 s" in told.said[1]
            nursery.cancel_scope.cancel()


@transports
async def test_a_healthy_connection_without_events_lasts(
    transport: str, autojump_clock: trio.testing.MockClock
) -> None:
    told = Told()
    async with open_hub() as (broker, url), trio.open_nursery() as nursery:
        nursery.start_soon(told.follower("ev:1").run, partial(PATHS[transport], url))
        await trio.sleep(600)
        broker.publish("ev:1", b"1")
        await wait_for(lambda: told.events)
        assert told.said == ["connected"]
        nursery.cancel_scope.cancel()


@transports
async def test_ends_after_count_events(transport: str, autojump_clock: trio.testing.MockClock) -> None:
    told = Told()
    async with open_hub() as (broker, url):
        for number in range(5):
            broker.publish("state:1", b"%d" % number)
            broker.publish("ev:1", b"%d" % number)
        cursor = await cursor_of(url, "ev:1,state:1")
        for number in range(5, 9):
            broker.publish("ev:1", b"%d" % number)
        ending = await told.follower("ev:1", count=3, cursor=cursor).run(partial(PATHS[transport], url))
        assert ending.code == 1000
        assert told.data("ev:1") == [5, 6, 7]


@transports
async def test_a_gap_is_told_in_the_stream_and_in_words(
    transport: str, autojump_clock: trio.testing.MockClock
) -> None:
    told = Told()
    async with open_hub() as (broker, url):
        broker.publish("small:1", b"1")
        cursor = await cursor_of(url, "small:1")
        for number in range(2, 10):
            broker.publish("small:1", b"%d" % number)
        await told.follower("small:1", count=6, cursor=cursor).run(partial(PATHS[transport], url))
    assert told.events[0]["event"] == "gap"
    assert told.data("small:1")[1:] == [5, 6, 7, 8, 9]
    assert "small:1: lost 2 to 4 (evicted)" in told.said


@transports
async def test_another_history_is_told_and_followed(
    transport: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The numbers begin again: they are no repetitions."""
    told = Told()
    follower = told.follower("ev:1", "state:1")
    for _ in range(2):
        async with open_hub() as (broker, url), trio.open_nursery() as nursery:
            nursery.start_soon(follower.run, partial(PATHS[transport], url))
            await trio.sleep(30)
            for number in range(1, 4):
                broker.publish("ev:1", b"%d" % number)
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
        await trio.to_thread.run_sync(lambda: None)  # the epoch names a millisecond
    assert [event["event"] for event in told.events if event["channel"] == "ev:1"] == [
        *["tick"] * 3, "gap", *["tick"] * 3
    ]  # fmt: skip
    assert any("(epoch)" in words for words in told.said)


async def cursor_of(url: str, channels: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"{url}/poll", params={"channels": channels})
        cursor: str = response.json()["cursor"]
        return cursor


# --- what the hub says of leaving ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1009, 4001, 4003])
@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_stays_away_when_told_to(
    transport: str, code: int, autojump_clock: trio.testing.MockClock
) -> None:
    told = Told()
    async with open_hub() as (broker, url), trio.open_nursery() as nursery:
        nursery.start_soon(_disconnect_all, broker, Farewell(code, "so it is"))
        ending = await told.follower("ev:1").run(partial(PATHS[transport], url))
    assert (ending.code, ending.is_final) == (code, True)
    assert "so it is" in ending.reason
    assert told.said == ["connected"]


@pytest.mark.parametrize(
    "farewell, delay",
    [
        (Farewell(1001, "going away"), 0.5),
        (Farewell(1001, "going away", 3000), 3.5),
        (Farewell(4000, "slow consumer"), 1.5),
        (Farewell(4029, "rate limit exceeded", 30_000), 30.5),
        (Farewell(4040, "maintenance", 700), 1.5),
    ],
)
@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_comes_back_when_told_to(
    transport: str, farewell: Farewell, delay: float, autojump_clock: trio.testing.MockClock
) -> None:
    told = Told()
    async with open_hub() as (broker, url), trio.open_nursery() as nursery:
        nursery.start_soon(told.follower("ev:1").run, partial(PATHS[transport], url))
        await _disconnect_all(broker, farewell)
        await wait_for(lambda: told.said.count("connected") == 2)
        nursery.cancel_scope.cancel()
    expected = f"closed by the hub: {farewell.msg} ({farewell.code}); reconnecting in {delay} s"
    assert told.said == ["connected", expected, "connected"]


async def _disconnect_all(broker: Broker, farewell: Farewell) -> None:
    await wait_for(lambda: broker.sessions)
    for session in list(broker.sessions.values()):
        await wait_for(lambda session=session: session.subscriptions)  # type: ignore[misc]
        await trio.sleep(1)
        session.disconnect(farewell)


@transports
@pytest.mark.parametrize(
    "options, reason", [({}, "no such channel (40001)"), ({"cursor": "?"}, "bad cursor")]
)
async def test_what_cannot_be_had_ends_it(
    transport: str, options: dict[str, Any], reason: str, autojump_clock: trio.testing.MockClock
) -> None:
    told = Told()
    async with open_hub() as (_, url):
        follower = told.follower("ev:1" if options else "nope", **options)
        ending = await follower.run(partial(PATHS[transport], url))
    assert ending.is_final
    assert ending.code is None
    assert reason in ending.reason


@transports
async def test_a_hub_that_is_not_there_is_asked_again(
    transport: str, autojump_clock: trio.testing.MockClock
) -> None:
    told = Told()
    host, port = await _free_address()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.follower("ev:1").run, partial(PATHS[transport], f"http://{host}:{port}"))
        await wait_for(lambda: len(told.said) == 7)
        nursery.cancel_scope.cancel()
    waits = [words.rpartition(" in ")[2] for words in told.said]
    assert waits == ["1.5 s", "2.5 s", "4.5 s", "8.5 s", "16.5 s", "16.5 s", "16.5 s"]


async def _free_address() -> tuple[str, int]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        host, port = listener.socket.getsockname()
        return host, port


# --- rules --------------------------------------------------------------------------------------------------


def test_backoff_begins_again_after_a_connection_that_was_good() -> None:
    backoff, lost = Backoff(lambda: 0.25), Ending(reason="lost")
    waits = [backoff.delay(lost, None) for _ in range(6)]
    assert waits == [1.25, 2.25, 4.25, 8.25, 16.25, 16.25]
    assert backoff.delay(lost, 0.0) == 1.25


def test_backoff_goes_on_for_a_client_that_is_closed_as_too_slow_again_and_again() -> None:
    backoff, slow = Backoff(lambda: 0.0), closed(4000, "slow consumer")
    assert [backoff.delay(slow, 10.0) for _ in range(4)] == [1, 2, 4, 8]
    assert backoff.delay(slow, STABLE) == 1


@pytest.mark.parametrize(
    "status, is_final", [(400, True), (404, True), (429, False), (503, False), (301, True)]
)
def test_an_http_refusal_says_whether_to_come_back(status: int, is_final: bool) -> None:
    ending = refused(status, {"retry-after": "7"}, b'{"code":40004,"msg":"too many","channel":"x"}')
    assert (ending.is_final, ending.retry_after) == (is_final, 7.0)
    assert ending.reason == f"x: too many (40004), HTTP {status}"
    assert refused(status, {"retry-after": "Wed, 21 Oct"}, b"<html>").retry_after == 0.0


names = st.text("abc:_@.", min_size=1, max_size=64)


@given(st.lists(names, min_size=1, max_size=200, unique=True), st.booleans(), st.booleans())
def test_subscribe_commands_are_never_too_large(
    channels: list[str], has_cursor: bool, has_counted: bool
) -> None:
    progress = Progress("c" * 2048 if has_cursor else None)
    if has_counted:
        progress.begin({channel: Head(2**50, "mws3mg86sj5") for channel in channels})
        for channel in channels:
            progress.take(Envelope(1, "tick", channel, 2**50, 0))
    commands = subscribe_commands(channels, progress)
    assert all(len(command) <= MESSAGE_SIZE for command in commands)
    parsed = [json.loads(command) for command in commands]
    assert [channel for command in parsed for channel in command["channels"]] == channels
    assert all(set(command.get("lastSeq", {})) <= set(command["channels"]) for command in parsed)


def envelope(event: str, seq: int, data: Any = None) -> Envelope:
    body = {"v": 1, "event": event, "channel": "a", "seq": seq, "ts": 0, "ok": True, "data": data}
    return parse_envelope(json.dumps(body).encode())


def test_a_notice_does_not_move_the_client_on() -> None:
    """What heals the loss comes after the notice; a connection that breaks in between must not cost it."""
    progress = Progress()
    progress.begin({"a": Head(9, "e")})
    assert progress.take(envelope("tick", 5))
    assert progress.take(envelope("backpressure_drop", 9, {"fromSeq": 6, "toSeq": 9, "dropped": 4}))
    assert progress.last_seq == {"a": {"seq": 5, "epoch": "e"}}
    assert progress.take(envelope("snapshot", 9))
    assert progress.last_seq == {"a": {"seq": 9, "epoch": "e"}}


def test_numbers_that_begin_again_after_a_gap_are_news() -> None:
    progress = Progress()
    progress.begin({"a": Head(9, "e")})
    assert progress.take(envelope("tick", 9))
    assert not progress.take(envelope("tick", 9))
    assert progress.take(envelope("gap", 0, {"reason": "ahead", "fromSeq": 10, "toSeq": None, "epoch": "e"}))
    assert progress.take(envelope("tick", 1))


@pytest.mark.parametrize(
    "raw",
    [
        b"{", b"[]", b'"x"', b"{}", b"\xff", b'{"v":2,"event":"e","channel":"ev:1","seq":1,"ts":1}',
        b'{"v":1,"event":"e","channel":"ev:1","seq":"1","ts":1}',
        b'{"v":1,"event":"gap","channel":"ev:1","seq":1,"ts":1,"data":{}}',
        b'{"v":1,"event":"subscribed","channel":"system","seq":0,"ts":1,"data":[]}',
    ],
)  # fmt: skip
def test_an_event_that_cannot_be_understood_is_dropped_and_told(raw: bytes) -> None:
    told = Told()
    follower = told.follower("ev:1")
    assert follower.take(raw) is None
    assert not told.events
    assert told.said[0].startswith("dropped an event")
