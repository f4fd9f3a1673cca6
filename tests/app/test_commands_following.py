"""``hub tail`` without its process: reconnects, resumes, obeys; time is the test's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.app.commands.following import Follower
from hub.app.commands.tail import PATHS
from hub.core.broker import Broker
from hub.core.session import Farewell
from tests.app.following import Network, Told, open_hub, wait_for

transports = pytest.mark.parametrize("transport", list(PATHS))


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


@pytest.mark.parametrize("transport", ["sse", "poll"])
async def test_the_cursor_of_an_http_transport_is_all_there_is_to_remember(
    transport: str, autojump_clock: trio.testing.MockClock
) -> None:
    told = Told()
    async with open_hub() as (broker, url):
        follower = told.follower("ev:1", "state:1", count=3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.run, partial(PATHS[transport], url))
            await wait_for(lambda: "connected" in told.said)
            for number in range(3):
                broker.publish("state:1", b"%d" % number)
        assert follower.progress.last_seq == {}
        assert follower.progress.cursor == await cursor_of(url, "ev:1,state:1")


async def test_a_hub_that_answers_polls_at_once_is_not_pressed(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls, get = [], httpx.AsyncClient.get

    async def count(*arguments: Any, **options: Any) -> httpx.Response:
        polls.append(trio.current_time())
        return await get(*arguments, **options)

    monkeypatch.setattr(httpx.AsyncClient, "get", count)
    async with open_hub() as (broker, url):
        broker.draining.set()  # it waits for nothing any more
        with trio.move_on_after(30):
            await Told().follower("ev:1").run(partial(PATHS["poll"], url))
    assert len(polls) <= 32


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
