"""What a request over HTTP asks for: channels, where from, which format."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.broker import Broker, BrokerLimits
from hub.core.contracts import Request
from hub.core.http_query import MAX_FIELDS, ChannelQuery, parse_channel_query, parse_fields, parse_format
from hub.sansio.commands import SeenPosition
from hub.sansio.cursor import encode_cursor
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy
from hub.sansio.publication import MAX_SEQ, Position
from hub.sansio.tiers import AnonymousTier, Tiers

POLICIES = (
    Policy(pattern="trades@{market}"),
    Policy(pattern="mine", private=True),
    Policy(pattern="later", available=False),
    Policy(pattern="ev:*"),
)
CURSOR = encode_cursor([("ev:1", Position("e1", 5)), ("ev:9", Position("e2", 6))])
SEEN = {"ev:1": SeenPosition(5, "e1"), "ev:9": SeenPosition(6, "e2")}


def request(query: str, identity: Identity = ANONYMOUS, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method="GET", path="/sse", query=query, headers=named, peer="127.0.0.1", identity=identity)


def make_broker(*, channels_per_connection: int = 50, **limits: Any) -> Broker:
    tiers = Tiers(anonymous=AnonymousTier(channels_per_connection=channels_per_connection))
    namespaces = Namespaces(POLICIES, {"market": ("btc_tl",)})
    return Broker(namespaces, limits=BrokerLimits(**limits), tiers=tiers)


def ask(query: str, broker: Broker | None = None, **about: Any) -> ChannelQuery:
    headers, identity = about.pop("headers", {}), about.pop("identity", ANONYMOUS)
    return parse_channel_query(request(query, identity, **headers), broker or make_broker(), **about)


def refuse(query: str, broker: Broker | None = None, **about: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        ask(query, broker, **about)
    return refused.value


# --- fields -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query, fields",
    [
        ("", {}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a=&b", {"a": "", "b": ""}),
        ("a=%C3%A9%20+x", {"a": "é  x"}),
        ("a=1;b=2", {"a": "1;b=2"}),
        ("channels=a,b&x=1&channels=c", {"channels": "a,b,c", "x": "1"}),
        ("channels=a%2Cb", {"channels": "a,b"}),
        ("%63hannels=a&channels=b", {"channels": "a,b"}),
        ("a=%zz", {"a": "%zz"}),
        ("&".join(f"f{n}=1" for n in range(MAX_FIELDS)), {f"f{n}": "1" for n in range(MAX_FIELDS)}),
    ],
)
def test_fields(query: str, fields: dict[str, str]) -> None:
    assert parse_fields(request(query)) == fields


@pytest.mark.parametrize(
    "query",
    ["a=1&a=1", "cursor=x&cursor=y", "a=%ff", "%ff=1", "a=%ed%a0%80", "&".join(["channels=a"] * (MAX_FIELDS + 1))],
)  # fmt: skip
def test_malformed_queries(query: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_fields(request(query))
    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert refuse(query).code == ErrorCode.INVALID_REQUEST


@given(st.text(max_size=60))
def test_any_query_is_read_or_refused(query: str) -> None:
    try:
        fields = parse_fields(request(query))
    except RequestRefused:
        return
    assert all(text.encode() is not None for field in fields.items() for text in field)


@given(st.dictionaries(st.sampled_from("abcdef"), st.text(st.characters(codec="utf-8"))))
def test_what_is_encoded_is_read(fields: dict[str, str]) -> None:
    assert parse_fields(request(urlencode(fields))) == fields


def test_formats() -> None:
    assert parse_format({}) == parse_format({"format": "live"}) == "live"
    assert parse_format({"format": "v2"}) == "v2"
    for name in ("", "V2", "v2.cbor", "json"):
        with pytest.raises(RequestRefused):
            parse_format({"format": name})


# --- channels ---------------------------------------------------------------------------------------------


async def test_channels() -> None:
    assert ask("channels=ev:1").channels == ("ev:1",)
    assert ask("channels=ev:2,ev:1,ev:2,,").channels == ("ev:2", "ev:1")
    assert ask("channels=ev:1&channels=trades@btc_tl&format=v2") == ChannelQuery(
        channels=("ev:1", "trades@btc_tl"), seen={}, format="v2", is_resumed=False,
        fields={"channels": "ev:1,trades@btc_tl", "format": "v2"},
    )  # fmt: skip
    assert ask("channels=mine", identity=Identity("u")).channels == ("mine",)


@pytest.mark.parametrize(
    "query, code",
    [
        ("", ErrorCode.INVALID_REQUEST),
        ("channels=", ErrorCode.INVALID_REQUEST),
        ("channels=,,", ErrorCode.INVALID_REQUEST),
        ("channels=ev:1&format=xml", ErrorCode.INVALID_REQUEST),
        ("channels=no such", ErrorCode.INVALID_CHANNEL),
        ("channels=nothing", ErrorCode.INVALID_CHANNEL),
        ("channels=ev:1,nothing", ErrorCode.INVALID_CHANNEL),
        ("channels=ev:" + "x" * 62, ErrorCode.INVALID_CHANNEL),
        ("channels=trades@doge_tl", ErrorCode.UNAVAILABLE_CHANNEL),
        ("channels=later", ErrorCode.UNAVAILABLE_CHANNEL),
        ("channels=mine", ErrorCode.UNAUTHENTICATED),
        ("channels=ev:1,mine", ErrorCode.UNAUTHENTICATED),
    ],
)
async def test_refused_channels(query: str, code: ErrorCode) -> None:
    broker = make_broker()
    assert refuse(query, broker).code == code
    assert len(broker.registry) == 0, "asking makes no channel"


async def test_how_many() -> None:
    def names(count: int) -> str:
        return "channels=" + ",".join(f"ev:{number}" for number in range(count))

    assert len(ask(names(50)).channels) == 50
    assert refuse(names(51)).code == ErrorCode.TOO_MANY_SUBSCRIPTIONS
    many = make_broker(channels_per_connection=0, params=60)
    assert len(ask(names(60), many).channels) == 60
    assert refuse(names(61), many).code == ErrorCode.INVALID_REQUEST
    assert len(ask(names(50) + ",ev:1,ev:2").channels) == 50, "each counts once"


async def test_their_cursor_must_fit() -> None:
    broker = make_broker(cursor_size=100)
    assert ask("channels=ev:1,ev:2", broker).channels
    long = ",".join(f"ev:{number}{'x' * 50}" for number in range(3))
    assert refuse(f"channels={long}", broker).code == ErrorCode.TOO_MANY_SUBSCRIPTIONS


# --- where from -------------------------------------------------------------------------------------------


def last_seq(value: Any) -> str:
    return "channels=ev:1&lastSeq=" + quote(json.dumps(value))


async def test_cursors() -> None:
    query = ask(f"channels=ev:1&cursor={CURSOR}")
    assert (query.seen, query.is_resumed) == (SEEN, True)
    assert not ask("channels=ev:1&cursor=").is_resumed
    empty = ask(f"channels=ev:1&cursor={encode_cursor([])}")
    assert (empty.seen, empty.is_resumed) == ({}, True)


async def test_last_seq() -> None:
    assert ask(last_seq({"ev:1": 5})).seen == {"ev:1": SeenPosition(5)}
    query = ask(last_seq({"ev:1": {"seq": 5, "epoch": "e"}}))
    assert (query.seen, query.is_resumed) == ({"ev:1": SeenPosition(5, "e")}, True)
    for nothing in ("channels=ev:1&lastSeq=", last_seq(None), last_seq({})):
        assert (ask(nothing).seen, ask(nothing).is_resumed) == ({}, False)
    assert ask(f"{last_seq({'ev:1': 7})}&cursor={CURSOR}").seen == {**SEEN, "ev:1": SeenPosition(7)}


async def test_the_header_wins_over_the_url() -> None:
    header = {"last_event_id": CURSOR}
    url = "channels=ev:1&cursor=" + encode_cursor([("ev:1", Position("e1", 1))])
    assert ask(url, headers=header, last_event_id=True).seen == SEEN
    assert ask("channels=ev:1&cursor=nonsense", headers=header, last_event_id=True).seen == SEEN
    assert ask(url, headers={"last_event_id": ""}, last_event_id=True).seen == {"ev:1": SeenPosition(1, "e1")}
    assert ask(url, headers=header).seen == {"ev:1": SeenPosition(1, "e1")}, "where it means nothing"
    assert refuse(url, headers={"last_event_id": "nonsense"}, last_event_id=True).code == 40005


@pytest.mark.parametrize(
    "query",
    ["channels=ev:1&cursor=x", "channels=ev:1&cursor=" + "A" * 2049, "channels=ev:1&lastSeq=5", "channels=ev:1&lastSeq={",
     last_seq([]), last_seq({"ev:1": -1}), last_seq({"ev:1": MAX_SEQ + 1}), last_seq({"ev:1": {"epoch": "e"}}),
     "channels=ev:1&lastSeq=" + quote('{"ev:1":1,"ev:1":2}'), "channels=ev:1&lastSeq=" + quote("[" * 40),
     "channels=ev:1&lastSeq=" + quote(r'{"\ud800":1}')],
)  # fmt: skip
async def test_bad_places(query: str) -> None:
    assert refuse(query).code == ErrorCode.INVALID_REQUEST
