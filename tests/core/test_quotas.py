"""How many channels and connections a client and a user may have, and that those who left are forgotten."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from hub.core.broker import RETRY_AFTER_MS, Broker
from hub.core.fair_use import Usage
from hub.sansio.encodings import Encoding
from hub.sansio.errors import CloseCode, ErrorCode, RequestRefused
from hub.sansio.identity import Identity
from hub.sansio.policies import Policy
from hub.sansio.tiers import AnonymousTier, MarketMakerTier, Tier, Tiers
from tests.core.market import ANNA, BERT, UNLIMITED, make_broker
from tests.core.peers import LIVE, SSE, V2, Peer, connect

Clock = trio.testing.MockClock
NEWS = Policy(pattern="news:*")


class EveryToken:
    """A token is its bearer's name."""

    async def identify(self, request: Any) -> Identity:
        raise NotImplementedError

    async def verify_token(self, token: str) -> Identity:
        await trio.lowlevel.checkpoint()
        return Identity(token, "retail")


def tier(**limits: Any) -> Tier:
    return Tier(**{**UNLIMITED, **limits})


async def open_broker(nursery: trio.Nursery, **limits: Any) -> Broker:
    """The tier retail has ``limits``, and no others."""
    broker = make_broker(NEWS, tiers=Tiers(anonymous=AnonymousTier(**UNLIMITED), retail=tier(**limits)))
    await nursery.start(broker.run)
    return broker


async def test_channels_of_one_connection(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery, channels_per_connection=3)
    peer = await connect(nursery, broker, identity=ANNA)
    told = await peer.request("subscribe", "news:1", "news:2", "news:3", "news:4", "news:5")
    assert told[0].data["subscribed"] == ["news:1", "news:2", "news:3"]
    errors = told[0].data["errors"]
    assert [(error["channel"], error["code"]) for error in errors] == [("news:4", 40003), ("news:5", 40003)]
    told = await peer.request("subscribe", "news:2", "news:4")
    assert told[0].data["subscribed"] == ["news:2"], "what it has already is no more than it has"
    await peer.request("unsubscribe", "news:1", "news:1", "news:9")
    told = await peer.request("subscribe", "news:4", "news:5")
    assert told[0].data["subscribed"] == ["news:4"]
    assert {channel.name for channel in broker.registry} == {"news:2", "news:3", "news:4"}


async def test_channels_of_one_user(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery, channels_per_user=4)
    first = await connect(nursery, broker, identity=ANNA)
    second = await connect(nursery, broker, identity=ANNA)
    other = await connect(nursery, broker, identity=BERT)
    await first.request("subscribe", "news:1", "news:2", "news:3")
    told = await second.request("subscribe", "news:1", "news:2", "orders")
    assert told[0].data["subscribed"] == ["news:1"]
    assert {error["code"] for error in told[0].data["errors"]} == {40003}
    assert (await other.request("subscribe", "news:1"))[0].body["code"] == 0
    assert broker.usage.channels == {"anna": 4, "bert": 1}
    first.link.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert broker.usage.channels == {"anna": 1, "bert": 1}
    assert (await second.request("subscribe", "news:2", "orders"))[0].body["msg"] == "ok"
    for peer in (second, other):
        peer.link.break_()
    await trio.testing.wait_all_tasks_blocked()
    assert not broker.usage.channels
    assert not broker.usage.connections


@pytest.mark.parametrize("encoding", [V2, LIVE, SSE], ids=["v2", "live", "sse"])
async def test_connections_of_one_user(
    nursery: trio.Nursery, autojump_clock: Clock, encoding: Encoding
) -> None:
    broker = await open_broker(nursery, connections_per_user=2)
    peers = [await connect(nursery, broker, identity=ANNA, encoding=encoding) for _ in range(2)]
    third = await connect(nursery, broker, "news:1", identity=ANNA, encoding=encoding)
    bye = third.told[-1].body if encoding is V2 else third.told[-1].data
    assert third.told[-1].kind == "bye"
    assert (bye["code"], bye["retryAfterMs"]) == (4030, RETRY_AFTER_MS)
    assert third.link.closed_with == (CloseCode.TOO_MANY_CONNECTIONS, "at most 2 connections per user")
    assert third.is_over
    assert broker.counts.rate_limited == {"connections_per_user": 1}
    with pytest.raises(RequestRefused) as refused:
        broker.check_user_connections(ANNA)
    assert refused.value.code == ErrorCode.RATE_LIMITED
    broker.check_user_connections(BERT)
    assert broker.usage.connections == {"anna": 2}
    peers[0].link.leave()
    await trio.testing.wait_all_tasks_blocked()
    fourth = await connect(nursery, broker, identity=ANNA, encoding=encoding)
    assert not fourth.is_over
    for peer in (peers[1], fourth):
        peer.link.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert not broker.usage.connections


async def test_who_says_later_who_they_are_is_counted_then(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker(
        tiers=Tiers(anonymous=AnonymousTier(**UNLIMITED), retail=tier(connections_per_user=1)),
        authenticator=EveryToken(),
    )
    await nursery.start(broker.run)
    first, second = await connect(nursery, broker), await connect(nursery, broker)
    assert (await first.request("auth", "anna"))[0].kind == "authenticated"
    refused = (await second.request("auth", "anna"))[0]
    assert (refused.kind, refused.body["code"]) == ("refused", 40004)
    assert (await second.request("subscribe", "orders"))[0].body["code"] == 40100, "it is nobody still"
    assert (await first.request("auth", "anna"))[0].kind == "authenticated", "once more, the same one"
    assert broker.usage.connections == {"anna": 1}
    first.link.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert (await second.request("auth", "anna"))[0].kind == "authenticated"
    second.link.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert not broker.usage.connections


async def test_a_waiting_poll_counts_as_a_connection(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery, connections_per_user=1)
    async with broker.waiting_for_news(("news:1", "orders"), ANNA):
        assert broker.usage.connections == {"anna": 1}
        second = await connect(nursery, broker, identity=ANNA)
        assert second.is_over
        with pytest.raises(RequestRefused) as refused:
            async with broker.waiting_for_news(("news:1",), ANNA):
                pass
        assert refused.value.code == ErrorCode.RATE_LIMITED
    assert not broker.usage.connections
    with pytest.raises(RequestRefused):
        async with broker.waiting_for_news(("no:such",), ANNA):
            pass
    assert not broker.usage.connections
    assert not broker.polls
    assert len(broker.registry) == 0


async def test_the_anonymous_have_no_limit_by_user(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = make_broker(tiers=Tiers(anonymous=AnonymousTier(connections_per_user=1, channels_per_user=1)))
    await nursery.start(broker.run)
    peers = [await connect(nursery, broker) for _ in range(3)]
    for peer in peers:
        answer = (await peer.request("subscribe", "ticker@btc_tl", "bbo@btc_tl"))[0]
        assert answer.body["msg"] == "ok"
    assert not broker.usage.connections
    assert not broker.usage.channels


async def test_tiers_by_identity(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    tiers = Tiers(
        anonymous=AnonymousTier(**{**UNLIMITED, "channels_per_connection": 1}),
        retail=tier(channels_per_connection=2),
        mm=MarketMakerTier(**{**UNLIMITED, "channels_per_connection": 3}),
    )
    broker = make_broker(NEWS, tiers=tiers)
    await nursery.start(broker.run)
    identities = {1: Identity(), 2: ANNA, 3: Identity("max", "mm"), 2.5: Identity("x", "gold")}
    for count, identity in identities.items():
        peer = await connect(nursery, broker, identity=identity)
        answer = (await peer.request("subscribe", *(f"news:{number}" for number in range(9))))[0]
        assert len(answer.data["subscribed"]) == int(count)


def test_usage_forgets() -> None:
    usage = Usage()
    for count in (usage.count_connection, usage.count_channels):
        count(None, 1)
        count("a", 2)
        count("b", 1)
        count("a", -1)
        count("b", -1)
        count("c", 0)
        count("a", -1)
    assert not usage.connections
    assert not usage.channels


async def test_whatever_happens_to_them_the_counts_are_those_of_the_sessions(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = await open_broker(nursery, channels_per_user=20, connections_per_user=5, pings=1, violations=2)
    peers: list[Peer] = []
    for number in range(60):
        identity = (ANNA, BERT, Identity())[number % 3]
        peer = await connect(nursery, broker, identity=identity, encoding=(V2, LIVE)[number % 2])
        peer.ask("subscribe", *(f"news:{index}" for index in range(number % 7 + 1)))
        peers.append(peer)
        match number % 5:
            case 0:
                peers[number // 2].link.break_()
            case 1:
                peers[number // 3].link.leave()
            case 2:
                for _ in range(4):
                    peer.ask("ping")
            case 3:
                peers[number // 2].link.give(
                    json.dumps({"method": "unsubscribe", "id": 1, "params": ["news:1"]})
                )
        await trio.testing.wait_all_tasks_blocked()
        for user in ("anna", "bert"):
            own = [session for session in broker.sessions.values() if session.identity.user == user]
            assert broker.usage.connections[user] == len(own)
            assert broker.usage.channels[user] == sum(len(session.subscriptions) for session in own)
            assert len(own) <= 5
            assert broker.usage.channels[user] <= 20
    await broker.drain(window=0.0, deadline=1.0)
    await trio.sleep(10)
    assert not broker.sessions
    assert not broker.usage.connections
    assert not broker.usage.channels
    assert len(broker.registry) == 0
