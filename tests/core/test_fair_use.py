"""Fair use: each rate, and what going over it costs."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from hub.core.broker import Broker
from hub.core.fair_use import Allowance
from hub.sansio.commands import Authenticate, Command, Ping, Subscribe, Unsubscribe
from hub.sansio.encodings import Encoding
from hub.sansio.errors import CloseCode
from hub.sansio.identity import Identity
from hub.sansio.options import Seconds
from hub.sansio.policies import Policy
from hub.sansio.tiers import AnonymousTier, Tier, Tiers
from tests.core.links import FastLink, PumpLink
from tests.core.market import ANNA, UNLIMITED, make_broker
from tests.core.peers import LIVE, V2, connect

Clock = trio.testing.MockClock
NEWS = Policy(pattern="news:*")


def tier(**limits: Any) -> Tier:
    return Tier(**{**UNLIMITED, **limits})


async def open_broker(nursery: trio.Nursery, **limits: Any) -> Broker:
    """The tier retail has ``limits``, and no others."""
    broker = make_broker(NEWS, tiers=Tiers(anonymous=AnonymousTier(**UNLIMITED), retail=tier(**limits)))
    await nursery.start(broker.run)
    return broker


REQUESTS = {
    "subscribes": ("subscribe", "news:1"),
    "unsubscribes": ("unsubscribe", "news:1"),
    "pings": ("ping",),
    "messages": ("ping",),
}


def code_of(told: Any) -> int:
    """0 for an answer that grants."""
    if told.kind != "refused":
        return 0
    return int(told.body["code"] if "code" in told.body else told.data["code"])


# --- rates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [V2, LIVE], ids=["v2", "live"])
@pytest.mark.parametrize("limit", REQUESTS)
@pytest.mark.parametrize("rate", [1, 3])
async def test_a_seconds_worth_at_once_then_the_rate(
    nursery: trio.Nursery, autojump_clock: Clock, limit: str, rate: int, encoding: Encoding
) -> None:
    broker = await open_broker(nursery, **{limit: rate})
    peer = await connect(nursery, broker, identity=ANNA, encoding=encoding)
    await trio.sleep(5)  # who was quiet has no more than a second's worth
    await peer.settle()
    for _ in range(3):
        for _ in range(rate + 2):
            peer.ask(*REQUESTS[limit])
        codes = [code_of(told) for told in await peer.settle() if told.kind != "beat"]
        assert codes == [0] * rate + [40004] * 2
        await trio.sleep(1 / rate)
        codes = [code_of(told) for _ in range(2) for told in await peer.request(*REQUESTS[limit])]
        assert codes[:2] == [0, 40004]
        await trio.sleep(20)
        await peer.settle()
    assert broker.counts.rate_limited == {limit: 9}


async def test_the_rates_are_independent_and_add_up(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery, subscribes=2, unsubscribes=2, pings=2, messages=5)
    peer = await connect(nursery, broker, identity=ANNA)
    for name in ("subscribes", "unsubscribes", "pings"):
        for _ in range(2):
            peer.ask(*REQUESTS[name])
    codes = [code_of(told) for told in await peer.settle()]
    assert codes == [0, 0, 0, 0, 0, 40004]
    refused = peer.told[-1]
    assert refused.body["id"] == 6
    assert refused.body["msg"] == "rate limit exceeded: 5 messages per second"
    assert broker.counts.rate_limited == {"messages": 1}


async def test_what_is_no_request_counts_as_a_message(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery, messages=2)
    peer = await connect(nursery, broker, identity=ANNA)
    for text in ("[]", '{"method":"nonsense","id":9}', '{"method":"nonsense","id":9}', "[]"):
        peer.link.give(text)
    told = await peer.settle()
    assert [one.body["code"] for one in told] == [40005, 40006, 40004, 40004]
    assert [one.body.get("id") for one in told] == [None, 9, 9, None]


async def test_an_own_allowance_for_each_connection(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery, pings=1)
    peers = [await connect(nursery, broker, identity=ANNA) for _ in range(3)]
    for peer in peers:
        assert [code_of(told) for told in await peer.request("ping")] == [0]
        assert [code_of(told) for told in await peer.request("ping")] == [40004]


async def test_no_limit(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery)
    peer = await connect(nursery, broker, identity=ANNA)
    for _ in range(300):
        peer.ask("ping")
        peer.ask("nonsense")
    assert {code_of(told) for told in await peer.settle()} == {0, 40006}
    assert not broker.counts.rate_limited


@pytest.mark.parametrize(
    "who, limits",
    [
        (None, {"subscribe": 10, "unsubscribe": 10, "ping": 5}),
        ("retail", {"subscribe": 10, "unsubscribe": 10, "ping": 5}),
        ("mm", {"subscribe": 10, "unsubscribe": 10, "ping": 5}),
    ],
)
async def test_the_rates_of_the_specification(
    nursery: trio.Nursery, autojump_clock: Clock, who: str | None, limits: dict[str, int]
) -> None:
    broker = make_broker(NEWS, tiers=Tiers())
    await nursery.start(broker.run)
    for method, rate in limits.items():
        peer = await connect(
            nursery, broker, identity=Identity("u", who) if who else Identity(), link=FastLink()
        )
        for _ in range(rate + 1):
            peer.ask(method, "news:1")
        codes = [code_of(told) for told in await peer.settle()]
        assert codes == [0] * rate + [40004]
        peer.link.leave()
    peer = await connect(nursery, broker)
    for method in ("subscribe", "unsubscribe", "subscribe", "unsubscribe", "ping"):
        for _ in range(5):
            peer.ask(method, "news:1")
    assert [code_of(told) for told in await peer.settle()] == [0] * 20 + [40004] * 5


# --- violations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link_type", [FastLink, PumpLink])
@pytest.mark.parametrize("encoding", [V2, LIVE], ids=["v2", "live"])
async def test_too_many_violations_end_the_session_after_the_answers(
    nursery: trio.Nursery, autojump_clock: Clock, encoding: Encoding, link_type: type[PumpLink]
) -> None:
    broker = await open_broker(nursery, pings=1, violations=10, retry_after=Seconds(7.5))
    peer = await connect(nursery, broker, identity=ANNA, encoding=encoding, link=link_type())
    for _ in range(30):
        peer.ask("ping")
    broker.publish("news:1", b"1")
    told = await peer.settle()
    assert [one.kind for one in told] == ["pong", *["refused"] * 10, "bye"]
    bye = told[-1].data if encoding is LIVE else told[-1].body
    assert (bye["code"], bye["msg"], bye["retryAfterMs"]) == (4029, "rate limit exceeded", 7500)
    assert peer.link.closed_with == (CloseCode.RATE_LIMITED, "rate limit exceeded")
    assert broker.counts.rate_limited["pings"] == 10
    assert broker.counts.connections["retail", "test", 4029] == 1


async def test_a_client_that_reads_nothing_is_told_last_what_it_did(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    """It is not listened to while it does not read, so it cannot pile up answers either."""
    broker = await open_broker(nursery, pings=1, violations=3)
    peer = await connect(nursery, broker, identity=ANNA)
    await peer.request("subscribe", "news:1")
    peer.link.capacity = 50
    for number in range(20):
        broker.publish("news:1", b"%d" % number)
        peer.ask("ping")
    session = next(iter(broker.sessions.values()))
    for _ in range(200):
        await trio.testing.wait_all_tasks_blocked()
        assert len(session.writer.outbox) <= 2
        peer.read(30)
        if peer.is_over:
            break
    await peer.settle()
    assert [one.kind for one in peer.told][-1] == "bye"
    assert [code_of(one) for one in peer.told].count(40004) == 3


@pytest.mark.parametrize("gap, is_ended", [(2.9, True), (3.2, False)])
async def test_violations_count_within_their_window(
    nursery: trio.Nursery, autojump_clock: Clock, gap: float, is_ended: bool
) -> None:
    broker = await open_broker(nursery, pings=1, violations=10, violation_window=Seconds(27.0))
    peer = await connect(nursery, broker, identity=ANNA)
    for _ in range(10):
        await peer.request("ping")
        await peer.request("ping")
        await trio.sleep(gap)
    assert peer.is_over == is_ended
    await trio.sleep(60)
    assert peer.is_over == is_ended


async def test_violations_without_end(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery, pings=1, violations=0)
    peer = await connect(nursery, broker, identity=ANNA)
    for _ in range(100):
        peer.ask("ping")
    assert [code_of(told) for told in await peer.settle()] == [0] + [40004] * 99
    assert not peer.is_over


async def test_a_refusal_of_another_kind_is_no_violation(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = await open_broker(nursery, violations=2, messages=1000, channels_per_connection=1)
    peer = await connect(nursery, broker, identity=ANNA)
    for _ in range(20):
        peer.ask("nonsense")
        peer.ask("subscribe", "no such", "news:1", "news:2")
    await peer.settle()
    assert not peer.is_over


def test_an_allowance_in_constant_memory() -> None:
    allowance = Allowance(tier(messages=5, violations=10))
    for step in range(10_000):
        allowance.take(Ping(1), step / 1000)
        if allowance.note_violation(step / 1000):
            assert step == 9 or step > 9
    assert len(allowance._violations) == 10


def test_which_limit_it_was() -> None:
    allowance = Allowance(tier(subscribes=1, unsubscribes=1, pings=1, messages=7))
    commands: list[Command] = [Subscribe(1, ("a",), {}), Unsubscribe(1, ("a",)), Ping(1)]
    assert [allowance.take(command, 0.0) for command in commands] == [None] * 3
    assert [allowance.take(command, 0.0) for command in commands] == ["subscribes", "unsubscribes", "pings"]
    assert allowance.take(Authenticate(1, "t"), 0.0) is None
    assert allowance.take(Authenticate(1, "t"), 0.0) == "messages"
    assert allowance.take(None, 0.0) == "messages"
