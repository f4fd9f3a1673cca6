"""Who a client is: rights on every way in, new credentials on the way, their end, and nothing of anybody else."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from hub.core.broker import Broker, BrokerLimits, ExpiryRules
from hub.core.reading import read_channels
from hub.core.session import Farewell
from hub.sansio.commands import SeenPosition
from hub.sansio.cursor import decode_cursor, encode_cursor
from hub.sansio.encodings import Encoding
from hub.sansio.errors import CloseCode, ErrorCode, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.policies import Policy
from hub.sansio.publication import Position
from hub.sansio.tiers import AnonymousTier, Tier, Tiers
from tests.core.links import FastLink, PumpLink
from tests.core.market import ANNA, BERT, UNLIMITED, channel_of, dump, fill, make_broker, order
from tests.core.peers import BARE, LIVE, SSE, V2, Peer, connect
from tests.core.wire import Told, understand

Clock = trio.testing.MockClock

DESK = Identity("max", "mm", frozenset({"desk"}))
GUARDED = (
    Policy(pattern="all:1", allow=("anyone",)),
    Policy(pattern="known:1", allow=("authenticated",)),
    Policy(pattern="annas:1", allow=("user:anna",)),
    Policy(pattern="makers:1", allow=("tier:mm",), snapshot="last"),
    Policy(pattern="desk:1", allow=("role:desk", "role:chief"), snapshot="last"),
    Policy(pattern="user:{user}:news", snapshot="last"),
)
#: channel -> what nobody, anna and max are told
RIGHTS = {
    "all:1": (0, 0, 0),
    "known:1": (40100, 0, 0),
    "annas:1": (40100, 0, 40102),
    "makers:1": (40100, 40102, 0),
    "desk:1": (40100, 40102, 0),
    "user:anna:news": (40100, 0, 40102),
    "user:max:news": (40100, 40102, 0),
    "orders": (40100, 0, 0),
    "fills@btc_tl": (40100, 0, 0),
    "ticker@btc_tl": (0, 0, 0),
    "no:such": (40001, 40001, 40001),
    "ticker@no_such": (40002, 40002, 40002),
}
WHO = (ANONYMOUS, ANNA, DESK)


@attrs.define
class Tokens:
    """Knows whom each token belongs to."""

    identities: dict[str, Identity | RequestRefused] = attrs.field(factory=dict)

    async def identify(self, request: Any) -> Identity:
        raise NotImplementedError

    async def verify_token(self, token: str) -> Identity:
        await trio.lowlevel.checkpoint()
        found = self.identities.get(token)
        if isinstance(found, Identity):
            return found
        raise found or RequestRefused(ErrorCode.UNAUTHENTICATED, "invalid token")


TOKENS = Tokens({
    "anna": ANNA,
    "anna mm": Identity("anna", "mm"),
    "bert": BERT,
    "max": DESK,
    "max no roles": Identity("max", "mm"),
    "max other role": Identity("max", "mm", frozenset({"chief"})),
    "max retail": Identity("max", "retail"),
    "old": RequestRefused(ErrorCode.TOKEN_EXPIRED, "token expired"),
    "later": RequestRefused(ErrorCode.UNAVAILABLE, "keys are not to be had"),
})  # fmt: skip


async def open_broker(nursery: trio.Nursery, **more: Any) -> Broker:
    broker = make_broker(*GUARDED, authenticator=TOKENS, **more)
    await nursery.start(broker.run)
    return broker


def publish_everywhere(broker: Broker) -> None:
    for name in RIGHTS:
        if name in ("no:such", "ticker@no_such"):
            continue
        data = {"fills@btc_tl": dump(fill(1)), "orders": dump(order(1))}.get(name, b"{}")
        for user in ("anna", "max"):
            broker.publish(name, data, user=user)


# --- rights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [None, 0, 1, 99])
@pytest.mark.parametrize("encoding", [V2, LIVE], ids=["v2", "live"])
@pytest.mark.parametrize("who", [0, 1, 2])
async def test_rights_on_subscribing_and_on_coming_back(
    nursery: trio.Nursery, autojump_clock: Clock, who: int, encoding: Encoding, seen: int | None
) -> None:
    broker = await open_broker(nursery)
    publish_everywhere(broker)
    expected = {name: codes[who] for name, codes in RIGHTS.items()}
    peer = await connect(nursery, broker, identity=WHO[who], encoding=encoding)
    last_seq = None if seen is None else dict.fromkeys(RIGHTS, seen)
    await peer.request("subscribe", *RIGHTS, last_seq=last_seq)
    publish_everywhere(broker)
    await trio.sleep(2)
    await peer.settle()
    answer = next(told for told in peer.told if told.kind == "subscribed")
    codes = dict.fromkeys(answer.data["positions"], 0)
    codes |= {error["channel"]: error["code"] for error in answer.data["errors"]}
    assert codes == expected
    told = {one.channel for one in peer.told if one.channel}
    assert told == {name for name, code in expected.items() if code == 0}


@pytest.mark.parametrize("seen", [{}, dict.fromkeys(RIGHTS, SeenPosition(0))])
@pytest.mark.parametrize("who", [0, 1, 2])
async def test_rights_over_http(
    nursery: trio.Nursery, autojump_clock: Clock, who: int, seen: dict[str, SeenPosition]
) -> None:
    broker = await open_broker(nursery)
    publish_everywhere(broker)
    for name, codes in RIGHTS.items():
        found = 0
        try:
            read_channels(broker, WHO[who], (name,), seen, BARE, max_events=9, max_bytes=9999)
        except RequestRefused as refusal:
            found = refusal.code
        assert found == codes[who], name
        found = 0
        try:
            async with broker.waiting_for_news((name,), WHO[who]):
                pass
        except RequestRefused as refusal:
            found = refusal.code
        assert found == codes[who], name


async def test_rights_of_a_stream_over_http(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery)
    publish_everywhere(broker)
    for identity, codes in zip(WHO, zip(*RIGHTS.values(), strict=True), strict=True):
        peer = await connect(nursery, broker, *RIGHTS, identity=identity, encoding=SSE)
        allowed = {name for name, code in zip(RIGHTS, codes, strict=True) if code == 0}
        assert set(peer.told[0].data["positions"]) == allowed
        assert {one.channel for one in peer.told[1:]} <= allowed


async def test_a_refused_channel_leaves_nothing_behind(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery)
    peer = await connect(nursery, broker)
    await peer.request("subscribe", "orders", "desk:1", "user:anna:news", "no:such")
    assert len(broker.registry) == 0


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


# --- other people's -----------------------------------------------------------------------------------------


async def test_another_users_numbers_say_nothing(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    """The same request, whether the other has such a channel or not, and however far it is, gets the same answer."""
    answers = []
    for count in (0, 3, 50):
        broker = await open_broker(nursery)
        for number in range(count):
            broker.publish("fills", dump(fill(number)), user="bert")
            broker.publish("orders", dump(order(number)), user="bert")
        broker.publish("fills", dump(fill(1)), user="anna")
        broker.publish("orders", dump(order(1)), user="anna")
        peer = await connect(nursery, broker, identity=ANNA)
        await peer.request("subscribe", "fills", "orders", last_seq={"fills": 7, "orders": 0})
        reading = read_channels(
            broker, ANNA, ("fills", "orders"), {"fills": SeenPosition(7)}, BARE, max_events=9, max_bytes=9999
        )
        epoch = channel_of(broker, "fills", "anna").log.epoch.encode()
        told = [json.dumps(told.body).encode() for told in peer.told[1:]]
        answers.append([message.replace(epoch, b"EPOCH") for message in (*told, *reading.messages)])
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("encoding", [V2, LIVE, SSE], ids=["v2", "live", "sse"])
async def test_another_users_cursor(nursery: trio.Nursery, autojump_clock: Clock, encoding: Encoding) -> None:
    broker = await open_broker(nursery)
    names = ("fills", "orders", "trades@btc_tl")
    for number in range(1, 6):
        broker.publish("fills", dump(fill(number)), user="bert")
        broker.publish("orders", dump(order(number)), user="bert")
        broker.publish("trades@btc_tl", b"[]")
    broker.publish("fills", dump(fill(77)), user="anna")
    broker.publish("orders", dump(order(77)), user="anna")
    of_bert = {name: channel_of(broker, name, "bert").log for name in names[:2]}
    epochs = {log.epoch for log in of_bert.values()}
    assert channel_of(broker, "fills", "anna").log.epoch not in epochs
    assert channel_of(broker, "trades@btc_tl").log.epoch not in epochs
    stolen = encode_cursor(
        [*((name, Position(log.epoch, 2)) for name, log in of_bert.items()),
         ("trades@btc_tl", Position(channel_of(broker, "trades@btc_tl").log.epoch, 2))]
    )  # fmt: skip
    seen = {
        name: SeenPosition(one.seq, one.epoch) for name, one in decode_cursor(stolen, max_size=2048).items()
    }
    peer = await connect(
        nursery, broker, *names, identity=ANNA, encoding=encoding, seen=seen, link=FastLink()
    )
    gaps = {told.channel: told.data for told in peer.told if told.kind == "gap"}
    own = {name: channel_of(broker, name, "anna").log.epoch for name in names[:2]}
    assert gaps == {
        name: {"reason": "epoch", "fromSeq": 3, "toSeq": None, "epoch": epoch} for name, epoch in own.items()
    }
    assert [data for _, data in peer.events("orders")] == [[order(77)]]
    assert peer.events("fills") == []
    assert [seq for seq, _ in peer.events("trades@btc_tl")] == [3, 4, 5]
    reading = read_channels(broker, ANNA, names, seen, BARE, max_events=99, max_bytes=9999)
    told = [understand(json.loads(message), None) for message in reading.messages]
    assert {one.channel: one.data for one in told if one.kind == "gap"} == gaps
    numbers = [json.dumps(one.data) for one in told if one.kind == "snapshot"]
    assert numbers == [json.dumps([order(77)])]
    broker.publish("fills", dump(fill(78)), user="anna")
    await peer.settle()
    assert peer.events("fills") == [(2, fill(78))]


async def test_epochs_differ_by_user_and_tell_nobody(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    broker = await open_broker(nursery)
    users = [f"user{number}" for number in range(200)]
    epochs = {broker.publish("fills", dump(fill(1)), user=user).epoch for user in users}
    assert len(epochs) == len(users)
    assert broker.publish("orders", dump(order(1)), user=users[0]).epoch in epochs
    assert not any(user in epoch for user in users for epoch in epochs)
    other = await open_broker(nursery)
    assert other.publish("fills", dump(fill(1)), user=users[0]).epoch not in epochs


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
