"""Credentials on the way: new ones, those that end, those that are taken back."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from hub.core.broker import Broker, BrokerLimits, ExpiryRules
from hub.core.session import Farewell
from hub.sansio.encodings import Encoding
from hub.sansio.errors import CloseCode, ErrorCode, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.policies import Policy
from hub.sansio.tiers import AnonymousTier, Tier, Tiers
from tests.core.links import FastLink, PumpLink
from tests.core.market import ANNA, BERT, UNLIMITED, channel_of, dump, fill, make_broker
from tests.core.peers import LIVE, SSE, V2, Peer, connect
from tests.core.tokens import DESK, TOKENS, Tokens, open_broker, publish_everywhere
from tests.core.wire import Told

Clock = trio.testing.MockClock


# --- new credentials ----------------------------------------------------------------------------------------


async def auth(peer: Peer, token: str) -> Told:
    return (await peer.request("auth", token))[-1]


@pytest.mark.parametrize("encoding", [V2, LIVE], ids=["v2", "live"])
async def test_the_anonymous_say_who_they_are(
    nursery: trio.Nursery, autojump_clock: Clock, encoding: Encoding
) -> None:
    broker = await open_broker(nursery)
    publish_everywhere(broker)
    peer = await connect(nursery, broker, encoding=encoding)
    await peer.request("subscribe", "ticker@btc_tl", "orders")
    answer = await auth(peer, "anna")
    assert answer.kind == "authenticated"
    assert answer.data == {"userId": "anna", "tier": "retail", "expiresAt": None}
    assert broker.usage.connections == {"anna": 1}
    assert broker.usage.channels == {"anna": 1}
    await peer.request("subscribe", "orders", "fills", "user:anna:news")
    broker.publish("fills", dump(fill(2)), user="anna")
    broker.publish("fills", dump(fill(3)), user="max")
    await peer.settle()
    assert [data for _, data in peer.events("fills")] == [fill(2)]
    assert broker.usage.channels == {"anna": 4}
    assert broker.statistics().sessions == {("retail", "test"): 1}
    peer.link.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert not broker.usage.connections
    assert not broker.usage.channels


@pytest.mark.parametrize("encoding", [V2, LIVE], ids=["v2", "live"])
@pytest.mark.parametrize(
    "token, code", [("bert", 40102), ("old", 40101), ("nonsense", 40100), ("later", 50001), ("max", 40102)]
)
async def test_credentials_that_will_not_do(
    nursery: trio.Nursery, autojump_clock: Clock, encoding: Encoding, token: str, code: int
) -> None:
    broker = await open_broker(nursery)
    peer = await connect(nursery, broker, identity=ANNA, encoding=encoding)
    await peer.request("subscribe", "fills")
    answer = await auth(peer, token)
    told_code = answer.data["code"] if encoding is LIVE else answer.body["code"]
    assert (answer.kind, told_code) == ("refused", code)
    if encoding is V2:
        assert answer.body["id"] == 2
    broker.publish("fills", dump(fill(1)), user="anna")
    broker.publish("fills", dump(fill(2)), user="bert")
    await peer.settle()
    assert [data for _, data in peer.events("fills")] == [fill(1)], "it is still who it was"
    assert broker.usage.connections == {"anna": 1}


async def test_a_hub_without_an_authenticator_takes_no_tokens(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = make_broker()
    await nursery.start(broker.run)
    peer = await connect(nursery, broker)
    assert (await auth(peer, "anna")).body["code"] == 40100


@pytest.mark.parametrize("encoding", [V2, LIVE], ids=["v2", "live"])
async def test_fewer_rights_end_subscriptions(
    nursery: trio.Nursery, autojump_clock: Clock, encoding: Encoding
) -> None:
    broker = await open_broker(nursery)
    peer = await connect(nursery, broker, identity=DESK, encoding=encoding)
    await peer.request("subscribe", "desk:1", "makers:1", "all:1", "orders", "user:max:news")
    assert (await auth(peer, "max other role")).kind == "authenticated"
    assert len(peer.told) - len([told for told in peer.told if told.channel]) <= 3, "nothing ended"
    told = await peer.request("auth", "max retail")
    *revoked, answer = [one for one in told if one.kind in ("revoked", "authenticated")]
    assert answer.kind == "authenticated"
    ended = [one.data["channels"][0] if encoding is LIVE else one.channel for one in revoked]
    assert ended == ["desk:1", "makers:1"]
    for one in revoked:
        error = one.data["errors"][0] if encoding is LIVE else one.data
        assert error["code"] == 40102
    publish_everywhere(broker)
    told = await peer.settle()
    assert {one.channel for one in told} == {"all:1", "orders", "user:max:news"}
    assert broker.usage.channels == {"max": 3}
    assert not channel_of(broker, "desk:1").subscriptions
    answer = (await peer.request("subscribe", "desk:1"))[0]
    assert [error["code"] for error in answer.data["errors"]] == [40102]


async def test_an_anonymous_right_that_ends_with_a_name(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = make_broker(Policy(pattern="guests:1", allow=("tier:anonymous",)), authenticator=TOKENS)
    await nursery.start(broker.run)
    peer = await connect(nursery, broker)
    await peer.request("subscribe", "guests:1", "ticker@btc_tl")
    told = await peer.request("auth", "anna")
    assert [one.kind for one in told] == ["revoked", "authenticated"]
    assert broker.usage.channels == {"anna": 1}
    await peer.request("unsubscribe", "ticker@btc_tl", "guests:1")
    assert not broker.usage.channels


async def test_a_new_tier_has_its_own_limits(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    retail = Tier(**{**UNLIMITED, "channels_per_connection": 2, "pings": 1})
    tiers = Tiers(anonymous=AnonymousTier(**UNLIMITED), retail=retail)
    broker = await open_broker(nursery, tiers=tiers)
    peer = await connect(nursery, broker, identity=ANNA)
    answer = (await peer.request("subscribe", "orders", "fills", "balances"))[0]
    assert [error["code"] for error in answer.data["errors"]] == [40003]
    await peer.request("ping")
    assert (await peer.request("ping"))[0].body["code"] == 40004
    await auth(peer, "anna mm")
    answer = (await peer.request("subscribe", "balances"))[0]
    assert answer.body["code"] == 0
    assert (await peer.request("ping"))[0].body["code"] == 40004, "what was used up stays used up"
    await trio.sleep(1)
    assert [(await peer.request("ping"))[0].kind for _ in range(3)] == ["pong"] * 3
    assert broker.statistics().sessions == {("mm", "test"): 1}


async def test_the_same_credentials_again_give_no_new_allowance(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    tiers = Tiers(retail=Tier(**{**UNLIMITED, "pings": 1}))
    broker = await open_broker(nursery, tiers=tiers)
    peer = await connect(nursery, broker, identity=ANNA)
    await peer.request("ping")
    await auth(peer, "anna")
    assert (await peer.request("ping"))[0].body["code"] == 40004


# --- their end ----------------------------------------------------------------------------------------------


async def expiring(
    nursery: trio.Nursery, rules: ExpiryRules, expires_in: float = 100.0, link: PumpLink | None = None,
    encoding: Encoding = V2,
) -> tuple[Broker, Peer, Tokens]:  # fmt: skip
    """A client whose token ends ``expires_in`` seconds from now, by a wall clock that starts at 1.74e12 ms."""
    tokens = Tokens()
    begin = trio.current_time()
    broker = make_broker(
        limits=BrokerLimits(expiry=rules),
        authenticator=tokens,
        now_ms=lambda: 1_740_000_000_000 + int((trio.current_time() - begin) * 1000),
    )
    await nursery.start(broker.run)
    identity = Identity("anna", "retail", frozenset(), 1_740_000_000 + expires_in)
    tokens.identities["next"] = attrs.evolve(identity, expires_at=1_740_000_000 + expires_in + 100)
    tokens.identities["short"] = attrs.evolve(identity, expires_at=1_740_000_000 + expires_in - 1)
    tokens.identities["endless"] = attrs.evolve(identity, expires_at=None)
    peer = await connect(nursery, broker, identity=identity, link=link, encoding=encoding)
    return broker, peer, tokens


@pytest.mark.parametrize("encoding", [V2, LIVE], ids=["v2", "live"])
async def test_a_warning_then_the_end(
    nursery: trio.Nursery, autojump_clock: Clock, encoding: Encoding
) -> None:
    _, peer, _ = await expiring(nursery, ExpiryRules(warning=60.0, grace=30.0), encoding=encoding)
    await trio.sleep(38)
    assert [told.kind for told in await peer.settle() if told.kind != "beat"] in ([], ["welcome"])
    await trio.sleep(4)
    (warning,) = [told for told in await peer.settle() if told.kind == "expiring"]
    data = warning.data if encoding is LIVE else warning.body
    assert data["expiresAt"] == 1_740_000_100_000
    await trio.sleep(86)
    assert {told.kind for told in await peer.settle()} <= {"beat"}
    assert peer.link.closed_with is None
    await trio.sleep(5)
    await peer.settle()
    bye = peer.told[-1]
    data = bye.data if encoding is LIVE else bye.body
    assert (data["code"], data["msg"]) == (4003, "token expired")
    assert peer.link.closed_with == (CloseCode.UNAUTHENTICATED, "token expired")


@pytest.mark.parametrize("token, warnings", [("next", 2), ("short", 2), ("endless", 1)])
async def test_a_new_token_in_time(
    nursery: trio.Nursery, autojump_clock: Clock, token: str, warnings: int
) -> None:
    _, peer, _ = await expiring(nursery, ExpiryRules(warning=60.0, grace=30.0))
    await trio.sleep(125)  # after its end, within the grace
    await peer.request("auth", token)
    if token == "short":
        await trio.sleep(10)
        await peer.settle()
        assert peer.is_over
        return
    await trio.sleep(100)
    await peer.settle()
    assert not peer.is_over
    assert len([told for told in peer.told if told.kind == "expiring"]) == warnings
    await trio.sleep(20)
    assert peer.is_over == (token == "next")


async def test_a_refused_token_does_not_put_off_the_end(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    _, peer, _ = await expiring(nursery, ExpiryRules(warning=60.0, grace=30.0))
    await trio.sleep(50)
    await peer.request("auth", "nonsense")
    await trio.sleep(85)
    assert peer.link.closed_with == (CloseCode.UNAUTHENTICATED, "token expired")
    assert len([told for told in await peer.settle() if told.kind == "expiring"]) == 0


async def test_a_connection_that_may_live_on(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker, peer, _ = await expiring(nursery, ExpiryRules(closes=False))
    await peer.request("subscribe", "fills")
    await trio.sleep(500)
    broker.publish("fills", dump(fill(1)), user="anna")
    await peer.settle()
    assert len(peer.events("fills")) == 1
    assert peer.link.closed_with is None


async def test_no_grace_and_no_warning(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    _, peer, _ = await expiring(nursery, ExpiryRules(warning=0.0, grace=0.0), expires_in=10.0)
    await trio.sleep(9)
    assert not peer.is_over
    await trio.sleep(3)
    assert peer.link.closed_with == (CloseCode.UNAUTHENTICATED, "token expired")
    assert [told.kind for told in await peer.settle()] == ["bye"]


async def test_one_that_reads_nothing_is_sent_away_too(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    """However full its link: what it may not have any more must not wait there for it for ever."""
    link = FastLink(capacity=200)
    broker, peer, _ = await expiring(nursery, ExpiryRules(warning=5.0, grace=5.0), expires_in=10.0, link=link)
    peer.ask("subscribe", "fills")
    await trio.testing.wait_all_tasks_blocked()
    for number in range(50):
        broker.publish("fills", dump(fill(number)), user="anna")
    await trio.sleep(25)
    assert not broker.sessions


# --- refused at the door ------------------------------------------------------------------------------------


async def test_invalid_credentials_on_a_websocket(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery)
    peer = Peer(nursery, broker)
    peer.start(refusal=RequestRefused(ErrorCode.TOKEN_EXPIRED, "token expired"))
    peer.ask("subscribe", "ticker@btc_tl")
    await peer.settle()
    assert [told.kind for told in peer.told] == ["welcome", "bye"]
    assert (peer.told[1].body["code"], peer.told[1].body["msg"]) == (4003, "token expired")
    assert peer.link.closed_with == (CloseCode.UNAUTHENTICATED, "token expired")
    assert len(broker.registry) == 0


# --- revocation ---------------------------------------------------------------------------------------------


async def test_all_that_a_user_has_ends_and_nobody_elses(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    broker = await open_broker(nursery)
    annas = [
        await connect(nursery, broker, "fills", identity=ANNA, encoding=encoding) for encoding in (V2, SSE)
    ]
    late = await connect(nursery, broker)
    await late.request("auth", "anna")
    others = [await connect(nursery, broker, identity=identity) for identity in (BERT, ANONYMOUS)]
    refusals: list[RequestRefused] = []

    async def poll(identity: Identity) -> None:
        try:
            async with broker.waiting_for_news(("fills",), identity) as news:
                await news.wait()
        except RequestRefused as refusal:
            refusals.append(refusal)

    nursery.start_soon(poll, ANNA)
    nursery.start_soon(poll, BERT)
    await trio.testing.wait_all_tasks_blocked()
    farewell = Farewell(CloseCode.UNAUTHENTICATED, "token revoked")
    assert broker.disconnect(farewell, user="anna", connection_id=None) == 4
    assert broker.disconnect(farewell, user=None, connection_id=None) == 0
    await trio.testing.wait_all_tasks_blocked()
    for peer in (*annas, late):
        await peer.settle()
        assert peer.told[-1].kind == "bye"
        assert peer.link.closed_with == (CloseCode.UNAUTHENTICATED, "token revoked")
    assert [refusal.code for refusal in refusals] == [ErrorCode.UNAUTHENTICATED]
    assert not any(peer.is_over for peer in others)
    assert broker.usage.connections == {"bert": 2}
    (connection_id,) = (one.connection_id for one in broker.sessions.values() if one.identity == BERT)
    assert broker.disconnect(farewell, user=None, connection_id=connection_id) == 1
    await trio.testing.wait_all_tasks_blocked()
    assert others[0].is_over
    assert not others[1].is_over


async def test_no_warning_in_the_grace_either(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    _, peer, _ = await expiring(nursery, ExpiryRules(warning=0.0, grace=5.0), expires_in=10.0)
    await trio.sleep(20)
    assert [told.kind for told in await peer.settle()] == ["bye"]
