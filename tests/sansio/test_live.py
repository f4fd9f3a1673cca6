"""The live envelope: every message against a validator of its own, every command by the specification."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

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
from hub.sansio.cursor import encode_cursor
from hub.sansio.errors import CloseCode, ErrorCode, ProtocolViolated, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.live import LiveEnvelope
from hub.sansio.log import Gap
from hub.sansio.protocol import Limits, Welcome
from hub.sansio.publication import MAX_SEQ, Position, Publication

LIVE = LiveEnvelope()
LIMITS = Limits(params=200, cursor_size=2048)
TS = 1_740_000_000_000
_KEYS = {"v": int, "event": str, "channel": str, "seq": int, "ts": int, "ok": bool}


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a key is there twice"
    return dict(pairs)


def validate(message: bytes | None) -> dict[str, Any]:
    """The envelope, if it is one (live-envelope.md, "Envelope")."""
    assert message is not None
    assert b"\n" not in message and b"\r" not in message
    envelope = json.loads(message, object_pairs_hook=_refuse_repeated)
    assert isinstance(envelope, dict)
    assert envelope.keys() - {"errorCode"} == {*_KEYS, "data"}
    assert all(type(envelope[key]) is kind for key, kind in _KEYS.items())
    assert envelope["v"] == 1
    assert envelope["event"] and envelope["channel"]
    assert 0 <= envelope["seq"] <= MAX_SEQ
    assert envelope["ts"] > 0
    assert envelope["ok"] == ("errorCode" not in envelope)
    assert envelope["ok"] or envelope["errorCode"].replace("_", "").isupper()
    return envelope


def body(event: str, data: Any, *, channel: str = "system", seq: int = 0, ok: bool = True) -> dict[str, Any]:
    return {"v": 1, "event": event, "channel": channel, "seq": seq, "ts": TS, "ok": ok, "data": data}


STATE = ChannelState(Position("e1", 5), 2)
LOST = ChannelState(Position("e1", 5), 6, Gap("evicted", 2, 5))
AUTH = RequestRefused(ErrorCode.UNAUTHENTICATED, "auth required", channel="fills")
OUTCOME = Subscribed(("a", "b"), (AUTH,), {"a": STATE, "b": LOST}, "CURSOR")
ANSWER = {
    "channels": ["a", "b"],
    "errors": [{"channel": "fills", "code": 40100, "msg": "auth required"}],
    "positions": {
        "a": {"seq": 5, "firstSeq": 2, "epoch": "e1"},
        "b": {"seq": 5, "firstSeq": 6, "epoch": "e1", "recovered": False},
    },
    "cursor": "CURSOR",
}
MESSAGES: list[tuple[Callable[[], bytes | None], dict[str, Any]]] = [
    (lambda: LIVE.subscribed(Subscribe(None, ("a",), {}), OUTCOME, TS), body("subscribed", ANSWER)),
    (lambda: LIVE.welcome(Welcome(TS, "c_1", "n1", OUTCOME)), body("subscribed", ANSWER)),
    (
        lambda: LIVE.subscribed(Subscribe(None, ("a",), {}), Subscribed((), (), {}), TS),
        body("subscribed", {"channels": [], "errors": [], "positions": {}}),
    ),
    (lambda: LIVE.unsubscribed(Unsubscribe(None, ("a",)), TS), body("unsubscribed", {"channels": ["a"]})),
    (lambda: LIVE.pong(Ping(None), TS), body("pong", {})),
    (
        lambda: LIVE.gap("fills", Gap("evicted", 101, 180), "e1", TS),
        body("gap", {"reason": "evicted", "fromSeq": 101, "toSeq": 180, "epoch": "e1"}, channel="fills", seq=180),
    ),
    (
        lambda: LIVE.gap("fills", Gap("ahead", 101, None), "e1", TS),
        body("gap", {"reason": "ahead", "fromSeq": 101, "toSeq": None, "epoch": "e1"}, channel="fills"),
    ),
    (
        lambda: LIVE.dropped("a", 101, 180, TS),
        body("backpressure_drop", {"fromSeq": 101, "toSeq": 180, "dropped": 80}, channel="a", seq=180),
    ),
    (lambda: LIVE.slow_consumer(147, 2.5, TS), body("slow_consumer", {"dropped": 147, "window": "2.5s"})),
    (
        lambda: LIVE.disconnecting(4029, 'a "quoted" reason', 5000, TS),
        body("disconnecting", {"code": 4029, "msg": 'a "quoted" reason', "retryAfterMs": 5000}),
    ),
    (
        lambda: LIVE.covered("orders", Publication(7, b"{}", ts=TS, stored_at=0.0, event="order"), "orders@btc_tl"),
        body("covered", {"channel": "orders@btc_tl"}, channel="orders", seq=7),
    ),
    (
        lambda: LIVE.authenticated(Authenticate(None, "t"), Identity("anna", "mm", frozenset({"r"}), TS / 1000 + 9), TS),
        body("authenticated", {"userId": "anna", "tier": "mm", "expiresAt": TS + 9000}),
    ),
    (
        lambda: LIVE.authenticated(Authenticate(None, "t"), ANONYMOUS, TS),
        body("authenticated", {"userId": None, "tier": "anonymous", "expiresAt": None}),
    ),
    (lambda: LIVE.token_expiring(TS + 60_000, TS), body("token_expiring", {"expiresAt": TS + 60_000})),
    (
        lambda: LIVE.revoked(RequestRefused(ErrorCode.FORBIDDEN, "insufficient permissions", channel="a"), TS),
        body("unsubscribed", {
            "channels": ["a"],
            "errors": [{"channel": "a", "code": 40102, "msg": "insufficient permissions"}],
        }),
    ),
    (lambda: LIVE.heartbeat("CURSOR", TS), body("heartbeat", {"cursor": "CURSOR"})),
    (lambda: LIVE.heartbeat(None, TS), body("heartbeat", {})),
]  # fmt: skip


@pytest.mark.parametrize("make, expected", MESSAGES)
def test_messages(make: Callable[[], bytes | None], expected: dict[str, Any]) -> None:
    assert validate(make()) == expected


def test_without_subscriptions_there_is_no_welcome() -> None:
    assert LIVE.welcome(Welcome(TS, "c_1", "n1")) is None


@pytest.mark.parametrize("code", list(ErrorCode))
def test_each_refusal_has_an_error_code(code: ErrorCode) -> None:
    envelope = validate(LIVE.refused(RequestRefused(code, 'no "such" thing'), TS))
    assert (envelope["event"], envelope["ok"]) == ("error", False)
    assert envelope["data"] == {"code": code, "msg": 'no "such" thing'}


names = st.from_regex(r"[A-Za-z0-9_.:@-]{1,64}", fullmatch=True)
events = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
payloads = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\"\\\n", max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    name=names,
    event=events,
    seq=st.integers(1, MAX_SEQ),
    payload=payloads,
    kind=st.sampled_from((None, "delta")),
)
def test_publications(name: str, event: str, seq: int, payload: Any, kind: str | None) -> None:
    publication = Publication(seq, json.dumps(payload).encode(), ts=TS, stored_at=0.0, event=event, kind=kind)
    for has_type in (True, False):
        envelope = validate(LIVE.publication(name, "e1", publication, has_type=has_type))
        assert envelope == body(event, payload, channel=name, seq=seq)
    assert validate(LIVE.snapshot(name, "e1", publication)) == body(
        "snapshot", payload, channel=name, seq=seq
    )


# --- commands ---------------------------------------------------------------------------------------------

CURSOR = encode_cursor([("a", Position("e1", 5)), ("b", Position("e2", 6))])
SEEN = {"a": SeenPosition(5, "e1"), "b": SeenPosition(6, "e2")}


def subscribe(**fields: Any) -> dict[str, Any]:
    return {"type": "subscribe", "channels": ["a"], **fields}


COMMANDS: list[tuple[Any, Command]] = [
    (subscribe(), Subscribe(None, ("a",), {})),
    (subscribe(channels=["b", "a", "b"], id=5), Subscribe(None, ("b", "a"), {})),
    (subscribe(cursor=None, lastSeq=None), Subscribe(None, ("a",), {})),
    (subscribe(lastSeq={"a": 5}), Subscribe(None, ("a",), {"a": SeenPosition(5)})),
    (subscribe(lastSeq={"a": {"seq": 5, "epoch": "e"}}), Subscribe(None, ("a",), {"a": SeenPosition(5, "e")})),
    (subscribe(cursor=CURSOR), Subscribe(None, ("a",), SEEN)),
    (subscribe(cursor=CURSOR, lastSeq={"b": 9}), Subscribe(None, ("a",), {**SEEN, "b": SeenPosition(9)})),
    ({"type": "unsubscribe", "channels": ["a"]}, Unsubscribe(None, ("a",))),
    ({"type": "ping", "channels": 5}, Ping(None)),
    ({"type": "auth", "token": "a.b.c"}, Authenticate(None, "a.b.c")),
]  # fmt: skip


@pytest.mark.parametrize("value, command", COMMANDS)
def test_commands(value: Any, command: Command) -> None:
    assert LIVE.parse(json.dumps(value), LIMITS) == command


NOT_COMMANDS: list[Any] = [None, 1, "ping", [], {}, {"type": None}, {"type": ["ping"]}]
NOT_CHANNELS: list[Any] = [None, [], "a", {}, [1], [None], ["a"] * 201]
NOT_CURSORS: list[Any] = ["", "x", 1, [], CURSOR + "AAAA", "A" * 2049]
NOT_TOKENS: list[Any] = [None, "", 1, ["a.b.c"], {"token": "a.b.c"}]
NOT_LAST_SEQ: list[Any] = [[], "a", {"a": -1}, {"a": {"seq": 1.5}}]
REFUSED: list[tuple[Any, ErrorCode]] = [
    *((value, ErrorCode.INVALID_REQUEST) for value in NOT_COMMANDS),
    *(({"type": kind}, ErrorCode.INVALID_METHOD) for kind in ("", "Ping", "x" * 3000)),
    *((subscribe(channels=value), ErrorCode.INVALID_REQUEST) for value in NOT_CHANNELS),
    *((subscribe(cursor=value), ErrorCode.INVALID_REQUEST) for value in NOT_CURSORS),
    *((subscribe(lastSeq=value), ErrorCode.INVALID_REQUEST) for value in NOT_LAST_SEQ),
    *(({"type": "unsubscribe", "channels": value}, ErrorCode.INVALID_REQUEST) for value in NOT_CHANNELS),
    *(({"type": "auth", "token": value}, ErrorCode.INVALID_REQUEST) for value in NOT_TOKENS),
]


@pytest.mark.parametrize("value, code", REFUSED)
def test_refused_commands(value: Any, code: ErrorCode) -> None:
    with pytest.raises(RequestRefused) as refused:
        LIVE.parse(json.dumps(value), LIMITS)
    assert refused.value.code == code
    validate(LIVE.refused(refused.value, TS))


@pytest.mark.parametrize(
    "message, code",
    [
        (b'{"type":"ping"}', CloseCode.UNSUPPORTED_DATA),
        ("", CloseCode.INVALID_MESSAGE),
        ('{"type":"ping","type":"ping"}', CloseCode.INVALID_MESSAGE),
        ('{"type":NaN}', CloseCode.INVALID_MESSAGE),
        ("[" * 33 + "]" * 33, CloseCode.INVALID_MESSAGE),
    ],
)
def test_what_ends_the_connection(message: str | bytes, code: CloseCode) -> None:
    with pytest.raises(ProtocolViolated) as violated:
        LIVE.parse(message, LIMITS)
    assert violated.value.code == code
