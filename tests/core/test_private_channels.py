"""Private channels: the same name is another channel for each user, and none for the anonymous."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping

import pytest
import trio
import trio.testing

from hub.core.broker import Broker
from hub.core.reading import read_channels
from hub.sansio.commands import SeenPosition
from hub.sansio.encodings import Bare, Encoding, ServerSentEvents, WebSocketFrames
from hub.sansio.errors import ErrorCode, PublishRefused, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.live import LiveEnvelope
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy
from hub.sansio.stream_v2 import StreamV2Json
from tests.core.links import FastLink, PumpLink
from tests.core.wire import EventReader, Told, WebSocketReader, understand

Clock = trio.testing.MockClock
V2 = Encoding(StreamV2Json(), WebSocketFrames(text=True))
BARE = Encoding(LiveEnvelope(), Bare())
SSE = Encoding(LiveEnvelope(), ServerSentEvents(chunked=True, retry_ms=2000), bare=BARE)
POLICIES = (
    Policy(pattern="orders", private=True, snapshot="last"),
    Policy(pattern="fills", private=True),
    Policy(pattern="trades"),
)
ANNA, BERT = Identity("anna", "retail"), Identity("bert", "retail")


@pytest.fixture
async def broker(nursery: trio.Nursery) -> Broker:
    broker = Broker(Namespaces(POLICIES, {}), now_ms=lambda: 1_740_000_000_000)
    await nursery.start(broker.run)
    return broker


async def open_session(
    nursery: trio.Nursery, broker: Broker, identity: Identity, channels: tuple[str, ...], *, encoding: Encoding = V2,
    seen: Mapping[str, SeenPosition] | None = None, link_type: type[PumpLink] = FastLink,
) -> PumpLink:  # fmt: skip
    link = link_type()
    serve = functools.partial(
        broker.serve_session,
        link,
        encoding,
        transport="test",
        identity=identity,
        channels=channels,
        seen=seen,
    )
    nursery.start_soon(serve)
    await trio.testing.wait_all_tasks_blocked()
    return link


async def read(link: PumpLink, encoding: Encoding = V2) -> list[Told]:
    await trio.testing.wait_all_tasks_blocked()
    link.take()
    reader = EventReader() if encoding is SSE else WebSocketReader()
    return [understand(body, cursor) for body, cursor in reader.feed(bytes(link.taken))]


def numbered(told: list[Told], channel: str) -> list[tuple[int, object]]:
    return [
        (one.seq, one.data) for one in told if one.kind in ("data", "snapshot") and one.channel == channel
    ]


@pytest.mark.parametrize("link_type", [PumpLink, FastLink])
@pytest.mark.parametrize("encoding", [V2, SSE])
async def test_two_users_of_one_name_share_neither_events_nor_numbers(
    nursery: trio.Nursery,
    autojump_clock: Clock,
    broker: Broker,
    encoding: Encoding,
    link_type: type[PumpLink],
) -> None:
    both = functools.partial(
        open_session, nursery, broker, channels=("fills", "trades"), encoding=encoding, link_type=link_type
    )
    anna, bert, bert_again = await both(ANNA), await both(BERT), await both(BERT)
    for number in range(1, 31):
        broker.publish("fills", b'"anna %d"' % number, user="anna")
        if number % 3 == 0:
            broker.publish("fills", b'"bert %d"' % (number // 3), user="bert")
        broker.publish("trades", b"%d" % number)
        if number % 7 == 0:
            await trio.lowlevel.checkpoint()
    for link, user, count in ((anna, "anna", 30), (bert, "bert", 10), (bert_again, "bert", 10)):
        told = await read(link, encoding)
        assert numbered(told, "fills") == [(number, f"{user} {number}") for number in range(1, count + 1)]
        assert numbered(told, "trades") == [(number, number) for number in range(1, 31)]
    assert b"bert" not in anna.taken
    assert b"anna" not in bert.taken


async def test_states_and_replays_are_the_users_own(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker
) -> None:
    for number in range(1, 6):
        broker.publish("orders", b'"anna %d"' % number, user="anna")
        broker.publish("fills", b'"anna %d"' % number, user="anna")
    broker.publish("fills", b'"bert 1"', user="bert")
    bert = await read(await open_session(nursery, broker, BERT, ("orders", "fills")))
    assert [told.kind for told in bert] == ["welcome"]
    anna = await read(await open_session(nursery, broker, ANNA, ("orders",)))
    assert numbered(anna, "orders") == [(5, "anna 5")]
    seen = {"fills": SeenPosition(0), "orders": SeenPosition(3)}
    bert = await read(await open_session(nursery, broker, BERT, ("orders", "fills"), seen=seen))
    assert numbered(bert, "fills") == [(1, "bert 1")]
    assert numbered(bert, "orders") == []


async def test_polls_are_the_users_own(nursery: trio.Nursery, autojump_clock: Clock, broker: Broker) -> None:
    broker.publish("fills", b'"anna 1"', user="anna")
    poll = functools.partial(read_channels, max_events=10, max_bytes=1000)
    seen = {"fills": SeenPosition(0)}
    assert len(poll(broker, ANNA, ("fills",), seen, BARE).messages) == 1
    assert poll(broker, BERT, ("fills",), seen, BARE).messages == []
    with pytest.raises(RequestRefused) as refused:
        poll(broker, ANONYMOUS, ("fills",), seen, BARE)
    assert refused.value.code == ErrorCode.UNAUTHENTICATED


async def test_news_wake_their_owner_alone(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker
) -> None:
    async with (
        broker.waiting_for_news(("fills",), ANNA) as annas,
        broker.waiting_for_news(("fills",), BERT) as berts,
    ):
        broker.publish("fills", b"1", user="bert")
        await trio.testing.wait_all_tasks_blocked()
        assert berts.event.is_set()
        assert not annas.event.is_set()


async def test_the_anonymous_are_refused_and_the_rest_of_what_they_asked_is_not(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker
) -> None:
    link = await open_session(nursery, broker, ANONYMOUS, ())
    link.give(json.dumps({"method": "subscribe", "id": 1, "params": ["fills", "trades"]}))
    link.give(json.dumps({"method": "subscribe", "id": 2, "params": ["fills"], "lastSeq": {"fills": 0}}))
    await trio.testing.wait_all_tasks_blocked()
    broker.publish("fills", b'"anna 1"', user="anna")
    broker.publish("trades", b"1")
    _, partial, refused, trade = await read(link)
    errors = [{"channel": "fills", "code": 40100, "msg": "auth required"}]
    assert (partial.body["code"], partial.body["msg"]) == (0, "partial")
    assert partial.data["subscribed"] == ["trades"]
    assert partial.data["errors"] == errors
    assert (refused.body["code"], refused.data["errors"]) == (40100, errors)
    assert trade.channel == "trades"
    assert b"anna" not in link.taken
    with pytest.raises(RequestRefused) as error:
        async with broker.waiting_for_news(("fills",), ANONYMOUS):
            pass
    assert error.value.code == ErrorCode.UNAUTHENTICATED


async def test_publishing_to_a_private_channel_needs_its_user(
    nursery: trio.Nursery, autojump_clock: Clock, broker: Broker
) -> None:
    with pytest.raises(PublishRefused) as refused:
        broker.publish("fills", b"1")
    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert broker.counts.publish_refused == 1
    assert len(broker.registry) == 0
    # A user of a public channel says nothing: there is one for all.
    assert broker.publish("trades", b"1", user="anna").seq == 1
    assert broker.publish("trades", b"2", user="bert").seq == 2
    assert broker.publish("trades", b"3").seq == 3
    assert len(broker.registry) == 1
