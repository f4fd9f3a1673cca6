"""``/v2`` by its specification: each rule for requests, and each example of a frame, in JSON and in CBOR."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.commands import (
    Authenticate,
    ChannelState,
    Command,
    Ping,
    SeenPosition,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from hub.sansio.errors import CloseCode, ErrorCode, ProtocolViolated, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.log import Gap
from hub.sansio.protocol import Limits, Protocol, Welcome
from hub.sansio.publication import MAX_SEQ, Position, Publication
from hub.sansio.stream_v2 import MAX_ID, StreamV2Cbor, StreamV2Json

LIMITS = Limits(params=200, cursor_size=2048)
TS = 1_740_000_000_000


@attrs.frozen
class Dialect:
    """A protocol, and how a client of it writes and reads."""

    protocol: Protocol
    write: Callable[[Any], str | bytes]
    read: Callable[[bytes], Any]

    def parse(self, request: Any) -> Command:
        return self.protocol.parse(self.write(request), LIMITS)


JSON = Dialect(StreamV2Json(), json.dumps, json.loads)
CBOR = Dialect(StreamV2Cbor(), cbor2.dumps, cbor2.loads)
both = pytest.mark.parametrize("dialect", [JSON, CBOR], ids=["json", "cbor"])


def request(method: str = "subscribe", **fields: Any) -> dict[str, Any]:
    return {"method": method, "id": 7, "params": ["a"], **fields}


# --- requests that are obeyed -----------------------------------------------------------------------------

COMMANDS: list[tuple[Any, Command]] = [
    (request(), Subscribe(7, ("a",), {})),
    (request(id=1), Subscribe(1, ("a",), {})),
    (request(id=MAX_ID), Subscribe(MAX_ID, ("a",), {})),
    (request(params=["b", "a", "b"]), Subscribe(7, ("b", "a"), {})),
    (request(params=["not a name", ""]), Subscribe(7, ("not a name", ""), {})),  # answered 40001, one by one
    (request(params=[f"c{n}" for n in range(200)]), Subscribe(7, tuple(f"c{n}" for n in range(200)), {})),
    (request(lastSeq={}), Subscribe(7, ("a",), {})),
    (request(lastSeq=None), Subscribe(7, ("a",), {})),
    (request(lastSeq={"a": 10050}), Subscribe(7, ("a",), {"a": SeenPosition(10050)})),
    (request(lastSeq={"a": 0, "b": MAX_SEQ}), Subscribe(7, ("a",), {"a": SeenPosition(0), "b": SeenPosition(MAX_SEQ)})),
    (request(lastSeq={"a": {"seq": 5, "epoch": "e"}}), Subscribe(7, ("a",), {"a": SeenPosition(5, "e")})),
    (request(lastSeq={"a": {"seq": 5}}), Subscribe(7, ("a",), {"a": SeenPosition(5)})),
    (request(more="ignored"), Subscribe(7, ("a",), {})),
    (request("unsubscribe"), Unsubscribe(7, ("a",))),
    (request("unsubscribe", lastSeq="ignored"), Unsubscribe(7, ("a",))),
    ({"method": "ping", "id": 3}, Ping(3)),
    ({"method": "ping", "id": 3, "params": "ignored", "lastSeq": "ignored"}, Ping(3)),
    (request("auth", params=["a.b.c"]), Authenticate(7, "a.b.c")),
    (request("auth", params=["x" * 3000]), Authenticate(7, "x" * 3000)),
]  # fmt: skip


@both
@pytest.mark.parametrize("value, command", COMMANDS)
def test_commands(dialect: Dialect, value: Any, command: Command) -> None:
    assert dialect.parse(value) == command


# --- requests that are refused ----------------------------------------------------------------------------

NOT_IDS: list[Any] = [None, 0, -1, MAX_ID + 1, 1.0, 1.5, "1", True, False, [1], {}, 2**70]
NOT_PARAMS: list[Any] = [
    None,
    [],
    "a",
    {},
    {"a": 1},
    1,
    [1],
    ["a", None],
    [["a"]],
    [f"c{n}" for n in range(201)],
    ["a"] * 201,
]
NOT_LAST_SEQ: list[Any] = [
    [], 5, "a", True, {"a": -1}, {"a": MAX_SEQ + 1}, {"a": 1.0}, {"a": "5"}, {"a": None}, {"a": True}, {"a": []},
    {"a": {}}, {"a": {"epoch": "e"}}, {"a": {"seq": "5"}}, {"a": {"seq": 5, "epoch": 5}}, {"a": {"seq": 5, "epoch": ""}},
    {"a": {"seq": 5, "epoch": "x" * 65}}, {"a": {"seq": 5, "epoch": "\n"}}, {"a": 5, "b": -1},
]  # fmt: skip
NOT_METHODS: list[Any] = [None, 1, True, [], {}, ["subscribe"]]
UNKNOWN_METHODS = ["", "SUBSCRIBE", "publish", "pong", "subscribe ", "x" * 3000]


def refuse(dialect: Dialect, value: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        dialect.parse(value)
    answer = dialect.read(dialect.protocol.refused(refused.value, TS))
    expected = {"code": refused.value.code, "msg": refused.value.msg}
    if refused.value.request_id is not None:
        expected["id"] = refused.value.request_id
    assert answer == expected
    assert len(refused.value.msg) < 200
    return refused.value


@both
@pytest.mark.parametrize("value", [None, 1, "ping", [], [{"method": "ping", "id": 1}], True])
def test_not_an_object(dialect: Dialect, value: Any) -> None:
    assert (refusal := refuse(dialect, value)).code == ErrorCode.INVALID_REQUEST
    assert refusal.request_id is None


@both
@pytest.mark.parametrize("value", NOT_IDS)
@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "ping", "nonsense"])
def test_ids(dialect: Dialect, value: Any, method: str) -> None:
    assert (refusal := refuse(dialect, request(method, id=value))).code == ErrorCode.INVALID_REQUEST
    assert refusal.request_id is None
    without = request(method)
    del without["id"]
    assert refuse(dialect, without).code == ErrorCode.INVALID_REQUEST


@both
@pytest.mark.parametrize("value", NOT_PARAMS)
@pytest.mark.parametrize("method", ["subscribe", "unsubscribe"])
def test_params(dialect: Dialect, value: Any, method: str) -> None:
    assert (refusal := refuse(dialect, request(method, params=value))).code == ErrorCode.INVALID_REQUEST
    assert refusal.request_id == 7
    without = request(method)
    del without["params"]
    assert refuse(dialect, without).request_id == 7


NOT_TOKENS: list[Any] = [None, [], "a.b.c", [""], [None], [1], ["a", "b"], [["a"]], {"token": "a"}]


@both
@pytest.mark.parametrize("value", NOT_TOKENS)
def test_tokens(dialect: Dialect, value: Any) -> None:
    refusal = refuse(dialect, request("auth", params=value))
    assert (refusal.code, refusal.request_id) == (ErrorCode.INVALID_REQUEST, 7)
    assert refuse(dialect, {"method": "auth", "id": 7}).code == ErrorCode.INVALID_REQUEST


def test_a_token_is_in_no_text() -> None:
    assert "a.b.c" not in f"{Authenticate(7, 'a.b.c')!r} {Authenticate(7, 'a.b.c')}"


@both
@pytest.mark.parametrize("value", NOT_LAST_SEQ)
def test_last_seq(dialect: Dialect, value: Any) -> None:
    assert (refusal := refuse(dialect, request(lastSeq=value))).code == ErrorCode.INVALID_REQUEST
    assert refusal.request_id == 7


@pytest.mark.parametrize("key", [1, b"a", None, (), True])
def test_last_seq_names_channels_by_text(key: object) -> None:
    assert refuse(CBOR, request(lastSeq={key: 5})).code == ErrorCode.INVALID_REQUEST


@both
def test_methods(dialect: Dialect) -> None:
    for unknown in UNKNOWN_METHODS:
        assert (refusal := refuse(dialect, request(unknown))).code == ErrorCode.INVALID_METHOD
        assert refusal.request_id == 7
    for value in NOT_METHODS:
        assert (refusal := refuse(dialect, request(value))).code == ErrorCode.INVALID_REQUEST
        assert refusal.request_id == 7
    assert refuse(dialect, {"id": 7}).code == ErrorCode.INVALID_REQUEST


# --- what ends the connection -----------------------------------------------------------------------------


def violate(protocol: Protocol, message: str | bytes) -> int:
    with pytest.raises(ProtocolViolated) as violated:
        protocol.parse(message, LIMITS)
    assert len(violated.value.msg.encode()) <= 123, "the reason of a close frame"
    return violated.value.code


def test_the_wrong_kind_of_frame() -> None:
    ping = {"method": "ping", "id": 1}
    assert violate(JSON.protocol, cbor2.dumps(ping)) == CloseCode.UNSUPPORTED_DATA
    assert violate(JSON.protocol, json.dumps(ping).encode()) == CloseCode.UNSUPPORTED_DATA
    assert violate(CBOR.protocol, json.dumps(ping)) == CloseCode.UNSUPPORTED_DATA


DEEP = '{"method":"ping","id":1,"x":%s}'


@pytest.mark.parametrize(
    "text",
    ["", "{", "ping", '{"method":"ping","id":1,"id":1}', '{"method":"ping","id":NaN}', '{"method":"ping","id":1,"x":Infinity}',
     DEEP % ("[" * 32 + "]" * 32), DEEP % ("[" * 4000), '{"method":"ping","id":1}{}', r'{"method":"\ud800","id":1}'],
)  # fmt: skip
def test_malformed_json(text: str) -> None:
    assert violate(JSON.protocol, text) == CloseCode.INVALID_MESSAGE


def test_the_deepest_json() -> None:
    assert JSON.protocol.parse(DEEP % ("[" * 31 + "]" * 31), LIMITS) == Ping(1)


@pytest.mark.parametrize(
    "message",
    [b"", b"\xff", b"\xa1", b"\x1c", b"\x9f", b"\xa2\x61a\x01\x61a\x02", b"\xa1\x61\xff\x01", b"\x81" * 4096,
     b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xc4\x82\x01", b"\xd8\x1e\x82\x01\x00",
     b"\xc0\x61x", b"\xd8\x23\x61("],
)  # fmt: skip
def test_malformed_cbor(message: bytes) -> None:
    assert violate(CBOR.protocol, message) == CloseCode.INVALID_MESSAGE


@given(st.text('{}[]":,methodpingid1 ', max_size=40) | st.text(max_size=30))
def test_any_text_is_obeyed_or_refused(text: str) -> None:
    try:
        JSON.protocol.parse(text, LIMITS)
    except RequestRefused as refusal:
        JSON.protocol.refused(refusal, TS)
    except ProtocolViolated:
        pass


tags = st.integers(0, 40) | st.sampled_from((100, 256, 258, 260, 261, 1004, 43000))
keys = st.sampled_from(("method", "id", "params", "lastSeq", "a", "seq")) | st.integers(-1, 1)
hostile = st.recursive(
    st.none() | st.integers() | st.floats() | st.binary(max_size=4) | st.sampled_from(("subscribe", "ping", "N", "(", "a")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4) | st.builds(cbor2.CBORTag, tags, inner),
    max_leaves=8,
)  # fmt: skip


@given(st.binary(max_size=60) | hostile.map(cbor2.dumps))
def test_any_bytes_are_obeyed_or_refused(message: bytes) -> None:
    try:
        CBOR.protocol.parse(message, LIMITS)
    except RequestRefused as refusal:
        CBOR.protocol.refused(refusal, TS)
    except ProtocolViolated:
        pass


# --- frames: the examples of the specification ------------------------------------------------------------

TICKER = ChannelState(Position("e1", 10050), 9051)
AUTH = RequestRefused(ErrorCode.UNAUTHENTICATED, "auth required", channel="orders@btc_tl")
NAME = RequestRefused(ErrorCode.INVALID_CHANNEL, "no such channel", channel="x")
ASKED = Subscribe(1, ("ticker@btc_tl", "orders@btc_tl"), {})
POSITIONS = '{"ticker@btc_tl":{"seq":10050,"firstSeq":9051,"epoch":"e1"}}'
ERRORS = '[{"channel":"orders@btc_tl","code":40100,"msg":"auth required"}]'


def item(**about: Any) -> Publication:
    return Publication(77210, b'{"p":"1.50"}', ts=TS, stored_at=0.0, event="trade", **about)


EXAMPLES: list[tuple[Callable[[Protocol], bytes | None], str]] = [
    (
        lambda p: p.welcome(Welcome(TS, "c_n1_1740000000123456789_a7f9e2", "n1")),
        '{"event":"connected","ts":1740000000000,"connId":"c_n1_1740000000123456789_a7f9e2","server":"n1"}',
    ),
    (
        lambda p: p.subscribed(ASKED, Subscribed(("ticker@btc_tl",), (), {"ticker@btc_tl": TICKER}), TS),
        f'{{"id":1,"code":0,"msg":"ok","data":{{"subscribed":["ticker@btc_tl"],"positions":{POSITIONS}}}}}',
    ),
    (
        lambda p: p.subscribed(ASKED, Subscribed(("ticker@btc_tl",), (AUTH,), {"ticker@btc_tl": TICKER}), TS),
        f'{{"id":1,"code":0,"msg":"partial","data":{{"subscribed":["ticker@btc_tl"],"errors":{ERRORS},"positions":{POSITIONS}}}}}',
    ),
    (
        lambda p: p.subscribed(ASKED, Subscribed((), (AUTH,), {}), TS),
        f'{{"id":1,"code":40100,"msg":"auth required","data":{{"subscribed":[],"errors":{ERRORS}}}}}',
    ),
    (
        lambda p: p.subscribed(ASKED, Subscribed((), (NAME, AUTH), {}), TS),
        '{"id":1,"code":40001,"msg":"no such channel","data":{"subscribed":[],"errors":'
        f'[{{"channel":"x","code":40001,"msg":"no such channel"}},{ERRORS[1:]}}}}}',
    ),
    (
        lambda p: p.subscribed(
            ASKED,
            Subscribed(("fills",), (), {"fills": ChannelState(Position("e", 180), 181, Gap("evicted", 101, 180))}),
            TS,
        ),
        '{"id":1,"code":0,"msg":"ok","data":{"subscribed":["fills"],'
        '"positions":{"fills":{"seq":180,"firstSeq":181,"epoch":"e","recovered":false}}}}',
    ),
    (
        lambda p: p.unsubscribed(Unsubscribe(2, ("ticker@btc_tl",)), TS),
        '{"id":2,"code":0,"msg":"ok","data":{"unsubscribed":["ticker@btc_tl"]}}',
    ),
    (lambda p: p.pong(Ping(3), TS), '{"method":"pong","id":3,"ts":1740000000000}'),
    (
        lambda p: p.publication("trades@btc_tl", "e1", item(), has_type=False),
        '{"ch":"trades@btc_tl","ts":1740000000000,"seq":77210,"data":{"p":"1.50"}}',
    ),
    (
        lambda p: p.publication("ticker@btc_tl", "e1", item(), has_type=True),
        '{"ch":"ticker@btc_tl","ts":1740000000000,"seq":77210,"type":"delta","data":{"p":"1.50"}}',
    ),
    (
        lambda p: p.publication("ticker@btc_tl", "e1", item(kind="delta"), has_type=False),
        '{"ch":"ticker@btc_tl","ts":1740000000000,"seq":77210,"type":"delta","data":{"p":"1.50"}}',
    ),
    (
        lambda p: p.publication("ticker@btc_tl", "e1", item(kind="snapshot"), has_type=True),
        '{"ch":"ticker@btc_tl","ts":1740000000000,"seq":77210,"type":"snapshot","snapshotSeq":77210,"epoch":"e1","data":{"p":"1.50"}}',
    ),
    (
        lambda p: p.snapshot("ticker@btc_tl", "e1", item(last_update_id=9)),
        '{"ch":"ticker@btc_tl","ts":1740000000000,"seq":77210,"type":"snapshot","snapshotSeq":77210,"lastUpdateId":9,'
        '"epoch":"e1","data":{"p":"1.50"}}',
    ),
    (
        lambda p: p.gap("fills", Gap("evicted", 101, 180), "e1", TS),
        '{"event":"gap","ch":"fills","ts":1740000000000,"data":{"reason":"evicted","fromSeq":101,"toSeq":180,"epoch":"e1"}}',
    ),
    (
        lambda p: p.gap("fills", Gap("epoch", 101, None), "e1", TS),
        '{"event":"gap","ch":"fills","ts":1740000000000,"data":{"reason":"epoch","fromSeq":101,"toSeq":null,"epoch":"e1"}}',
    ),
    (
        lambda p: p.covered("orders", item(), "orders@btc_tl"),
        '{"ch":"orders","ts":1740000000000,"seq":77210,"type":"covered","data":{"channel":"orders@btc_tl"}}',
    ),
    (
        lambda p: p.authenticated(Authenticate(4, "a.b.c"), Identity("u1", "mm", expires_at=1740000600.5), TS),
        '{"id":4,"code":0,"msg":"ok","data":{"userId":"u1","tier":"mm","expiresAt":1740000600500}}',
    ),
    (
        lambda p: p.authenticated(Authenticate(4, "a.b.c"), ANONYMOUS, TS),
        '{"id":4,"code":0,"msg":"ok","data":{"userId":null,"tier":"anonymous","expiresAt":null}}',
    ),
    (
        lambda p: p.token_expiring(1740000060000, TS),
        '{"event":"token_expiring","ts":1740000000000,"expiresAt":1740000060000}',
    ),
    (
        lambda p: p.revoked(AUTH, TS),
        '{"event":"unsubscribed","ch":"orders@btc_tl","ts":1740000000000,"data":{"code":40100,"msg":"auth required"}}',
    ),
    (
        lambda p: p.disconnecting(4029, "rate limit exceeded", 5000, TS),
        '{"event":"disconnecting","code":4029,"msg":"rate limit exceeded","retryAfterMs":5000}',
    ),
    (
        lambda p: p.dropped("trades@btc_tl", 101, 180, TS),
        '{"event":"backpressure_drop","ch":"trades@btc_tl","ts":1740000000000,"data":{"fromSeq":101,"toSeq":180,"dropped":80}}',
    ),
    (
        lambda p: p.slow_consumer(147, 10.0, TS),
        '{"event":"slow_consumer","ts":1740000000000,"dropped":147,"window":"10s"}',
    ),
]  # fmt: skip


@both
@pytest.mark.parametrize("make, expected", EXAMPLES)
def test_frames(dialect: Dialect, make: Callable[[Protocol], bytes | None], expected: str) -> None:
    frame = make(dialect.protocol)
    assert frame is not None
    assert dialect.read(frame) == json.loads(expected)
    assert dialect.protocol.is_text == (dialect is JSON)


@both
def test_the_protocol_has_no_heartbeat_of_its_own(dialect: Dialect) -> None:
    assert dialect.protocol.heartbeat("cursor", TS) is None
    assert dialect.protocol.heartbeat_interval is None


def test_a_publishers_digits_are_kept() -> None:
    digits = b"[1.10,1e2,0.1000000000000000055511151231257827,-0,12345678901234567890]"
    frame = JSON.protocol.publication(
        "a", "e", Publication(1, digits, ts=1, stored_at=0.0, event="x"), has_type=False
    )
    assert frame.endswith(b'"data":%b}' % digits)


payloads = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    payload=payloads,
    seq=st.integers(1, MAX_SEQ),
    kind=st.sampled_from((None, "snapshot", "delta")),
    update=st.none() | st.integers(0, 2**63),
    has_type=st.booleans(),
)
def test_both_encodings_say_the_same(
    payload: Any, seq: int, kind: str | None, update: int | None, has_type: bool
) -> None:
    data = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    publication = Publication(seq, data, ts=TS, stored_at=0.0, event="x", kind=kind, last_update_id=update)
    for make in (_as_publication(has_type), _as_snapshot):
        texts = JSON.read(make(JSON.protocol, publication))
        binary = CBOR.read(make(CBOR.protocol, publication))
        assert texts == binary
        assert texts["data"] == payload
        assert (texts["seq"], texts["ts"]) == (seq, TS)


def _as_publication(has_type: bool) -> Callable[[Protocol, Publication], bytes]:
    return lambda protocol, publication: protocol.publication("a:b", "e", publication, has_type=has_type)


def _as_snapshot(protocol: Protocol, publication: Publication) -> bytes:
    return protocol.snapshot("a:b", "e", publication)


@both
@given(
    request_id=st.integers(1, MAX_ID),
    channels=st.lists(st.text(st.characters(codec="utf-8"), max_size=70), min_size=1, max_size=10),
    seen=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9), st.integers(0, MAX_SEQ)),
)
def test_whatever_is_asked_can_be_answered(
    dialect: Dialect, request_id: int, channels: list[str], seen: Mapping[str, int]
) -> None:
    command = dialect.parse(request(id=request_id, params=channels, lastSeq=seen))
    assert command == Subscribe(
        request_id, tuple(dict.fromkeys(channels)), {name: SeenPosition(seq) for name, seq in seen.items()}
    )
    errors = tuple(
        RequestRefused(ErrorCode.INVALID_CHANNEL, "invalid channel name", channel=name)
        for name in command.channels
    )
    answer = dialect.read(dialect.protocol.subscribed(command, Subscribed((), errors, {}), TS))
    assert [error["channel"] for error in answer["data"]["errors"]] == list(command.channels)


def test_cbor_keeps_numbers_that_json_has_no_limit_for() -> None:
    publication = Publication(1, b"[12345678901234567890123,1e308]", ts=1, stored_at=0.0, event="x")
    frame = CBOR.read(CBOR.protocol.publication("a", "e", publication, has_type=False))
    assert frame["data"] == [12345678901234567890123, 1e308]
    assert math.isfinite(frame["data"][1])
