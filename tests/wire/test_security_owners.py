"""What is one user's is nobody else's: by no door, no cursor, no number, no name, and no payload."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from hub.sansio.cursor import encode_cursor
from hub.sansio.publication import Position
from tests.wire.rawpeer import Response, request
from tests.wire.security import (
    DIALECTS,
    DOORS,
    NOBODY,
    Credentials,
    Dialect,
    Estate,
    Verdict,
    bearer,
    by_query,
    open_estate,
    talking,
    try_doors,
)

SECRET = "alice-bought-the-farm"  # what only Alice may read
dialects = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with open_estate(tmp_path_factory.mktemp("estate")) as estate:
        estate.mark("mallory", "alice", "bob")
        for channel in PRIVATE:
            market = channel.partition("@")[2] or "btc_tl"
            estate.publisher.publish(channel, *[order(SECRET, market)] * 5, user="alice")
        estate.publisher.publish("user:alice:notes", *[SECRET] * 5)
        yield estate


PRIVATE = ("orders", "orders@eth_tl", "fills", "fills@eth_tl")
OWN = "user:alice:notes"


def order(order_id: str, market: str = "btc_tl") -> dict[str, str]:
    return {"orderId": order_id, "market": market, "status": "new"}


def mallory(estate: Estate, **claims: Any) -> Credentials:
    return bearer(estate.token("mallory", **claims))


def alice(estate: Estate) -> Credentials:
    return bearer(estate.token("alice"))


def position_of(estate: Estate, channel: str) -> Position:
    """Where Alice's channel stands."""
    body = ask(estate, f"/history/{channel}", alice(estate)).json()
    return Position(body["epoch"], body["seq"])


def ask(estate: Estate, path: str, credentials: Credentials, *fields: str) -> Response:
    return estate.ask("GET", credentials.target(path, *fields), *credentials.headers)


def test_alice_reads_what_is_hers(estate: Estate) -> None:
    """Else nothing below would prove anything."""
    for channel in (*PRIVATE, OWN):
        assert SECRET in ask(estate, f"/history/{channel}", alice(estate)).body.decode()
        with talking(estate, Dialect(), alice(estate)) as talk:
            assert not talk.subscribe(channel, lastSeq={channel: 0}).errors
            while SECRET.encode() not in talk.text:
                talk.read()


# --- channels that every user has for himself ---------------------------------------------------------------


@dialects
def test_a_subscriber_gets_his_own(estate: Estate, dialect: Dialect) -> None:
    """By name, by the owner's numbers and epoch, by the owner's cursor; and nothing follows later."""
    seen = {name: position_of(estate, name) for name in PRIVATE}
    resumes: list[dict[str, Any]] = [
        {},
        {"lastSeq": dict.fromkeys(PRIVATE, 0)},
        {"lastSeq": {name: {"seq": 0, "epoch": at.epoch} for name, at in seen.items()}},
        {"lastSeq": {name: {"seq": at.seq - 1, "epoch": at.epoch} for name, at in seen.items()}},
        {"cursor": encode_cursor((name, Position(at.epoch, 1)) for name, at in seen.items())},
        {"cursor": encode_cursor([(OWN, position_of(estate, OWN)), *seen.items()])},
    ]
    for resume in resumes:
        with talking(estate, dialect, mallory(estate)) as talk:
            outcome = talk.subscribe(*PRIVATE, **resume)
            assert outcome.positions.keys() == set(PRIVATE)
            assert outcome.positions["fills"]["epoch"] != seen["fills"].epoch
            estate.publisher.publish("orders", order(SECRET), user="alice")
            estate.publisher.publish("fills", order("mallory's"), user="mallory")
            while b"mallory's" not in talk.text:
                talk.read()
            assert SECRET.encode() not in talk.text


@dialects
def test_the_anonymous_get_none(estate: Estate, dialect: Dialect) -> None:
    for resume in ({}, {"lastSeq": dict.fromkeys((*PRIVATE, OWN), 0)}):
        with talking(estate, dialect) as talk:
            outcome = talk.subscribe(*PRIVATE, OWN, **resume)
            assert not outcome.positions
            assert outcome.errors == dict.fromkeys((*PRIVATE, OWN), 40100)


@pytest.mark.parametrize("format_", ["live", "v2"])
def test_http_gives_a_user_his_own(estate: Estate, format_: str) -> None:
    for channel in PRIVATE:
        at = position_of(estate, channel)
        cursor = encode_cursor([(channel, Position(at.epoch, 0))])
        last_seq = quote(json.dumps({channel: {"seq": 0, "epoch": at.epoch}}))
        for credentials, status in ((mallory(estate), 200), (NOBODY, 401)):
            answers = [
                ask(
                    estate,
                    "/poll",
                    credentials,
                    f"channels={channel}",
                    *fields,
                    "wait=0",
                    f"format={format_}",
                )
                for fields in ((), (f"cursor={cursor}",), (f"lastSeq={last_seq}",))
            ]
            answers += [
                ask(estate, f"/history/{channel}", credentials, f"after={after}", f"format={format_}")
                for after in ("0", str(at.seq - 1), cursor)
            ]
            if channel.startswith("orders"):
                answers.append(ask(estate, f"/snapshot/{channel}", credentials))
            for answer in answers:
                assert answer.status == status
                assert SECRET not in answer.body.decode()
                # What is one user's is kept by no cache that others are served from.
                cache = answer.headers.get("cache-control", "no-store" if status == 401 else "")
                assert "no-store" in cache or "private" in cache or "no-cache" in cache


@pytest.mark.parametrize("format_", ["live", "v2"])
def test_a_stream_gives_a_user_his_own(estate: Estate, format_: str) -> None:
    channels = f"channels={','.join(PRIVATE)}"
    at = {name: position_of(estate, name) for name in PRIVATE}
    cursor = encode_cursor((name, Position(position.epoch, 0)) for name, position in at.items())
    credentials = mallory(estate)
    for headers in ((), (f"Last-Event-ID: {cursor}",)):
        with estate.peer() as peer:
            target = credentials.target("/sse", channels, f"format={format_}")
            peer.send(request("GET", target, *credentials.headers, *headers))
            assert peer.read_head()[0] == 200
            estate.publisher.publish("fills", order(SECRET), user="alice")
            estate.publisher.publish("fills", order("mallory's"), user="mallory")
            peer.read_until(b"mallory's")
            assert SECRET.encode() not in peer.heard


def test_an_etag_of_the_owner_opens_nothing(estate: Estate) -> None:
    for path in ("/snapshot/orders", "/history/orders"):
        etag = ask(estate, path, alice(estate)).headers["etag"]
        for tags in (etag, f"W/{etag}"):
            answer = estate.ask("GET", path, *mallory(estate).headers, f"If-None-Match: {tags}")
            assert answer.status == 200 and SECRET not in answer.body.decode()
            assert estate.ask("GET", path, f"If-None-Match: {tags}").status == 401


def test_the_list_of_channels_names_nobody_elses(estate: Estate) -> None:
    for credentials in (mallory(estate), NOBODY):
        body = ask(estate, "/channels", credentials).body.decode()
        assert "alice" not in body
        assert all(not entry["private"] or credentials != NOBODY for entry in json.loads(body)["channels"])
    names = [entry["channel"] for entry in ask(estate, "/channels", alice(estate)).json()["channels"]]
    assert OWN in names


# --- channels with their owner in the name ------------------------------------------------------------------


@dialects
def test_a_channel_with_an_owner_is_closed_to_others(estate: Estate, dialect: Dialect) -> None:
    at = position_of(estate, OWN)
    resumes: list[dict[str, Any]] = [
        {},
        {"lastSeq": {OWN: {"seq": 0, "epoch": at.epoch}}},
        {"cursor": encode_cursor([(OWN, Position(at.epoch, 0))])},
    ]
    for resume in resumes:
        with talking(estate, dialect, mallory(estate)) as talk:
            assert talk.subscribe(OWN, **resume).errors == {OWN: 40102}
            assert SECRET.encode() not in talk.text


def test_a_channel_with_an_owner_is_closed_over_http(estate: Estate) -> None:
    at = position_of(estate, OWN)
    cursor = encode_cursor([(OWN, Position(at.epoch, 0))])
    for spelled in (OWN, quote(OWN, safe=""), OWN.replace("alice", "%61lice")):
        for credentials, status, code in ((mallory(estate), 403, 40102), (NOBODY, 401, 40100)):
            for answer in (
                ask(estate, "/poll", credentials, f"channels={spelled}", f"cursor={cursor}", "wait=0"),
                ask(estate, "/sse", credentials, f"channels={spelled}", f"cursor={cursor}"),
                ask(estate, f"/history/{spelled}", credentials),
                ask(estate, f"/snapshot/{spelled}", credentials),
            ):
                assert (answer.status, answer.json()["code"]) == (status, code)
                assert SECRET not in answer.body.decode()


#: User ids that could be taken for something else: another user, a pattern, a path, a separator.
ODD_USERS = [
    "*", "{user}", "..", ".", "../alice", "alice:", ":alice", "alice:notes", "alice@btc_tl", "@", "-", "_",
    "alice%2fnotes", "alice%3Anotes", "Alice", "ALICE", "al ice", "alice\u0301", "аlice", "alice,bob", "alice;bob",
    '"alice"', "'alice'", "alice\\", "alice#", "alice?x=1", "alice&userId=bob", "user:alice:notes", "anonymous",
    "null", "None", "0", "system", "alice.", "alice-", "x" * 128, "ä" * 128, "💰",
    unicodedata.normalize("NFC", "josé"), unicodedata.normalize("NFD", "josé"),
]  # fmt: skip


@pytest.mark.parametrize("user", ODD_USERS)
def test_odd_users_are_themselves_and_nobody_else(estate: Estate, user: str) -> None:
    estate.mark(user)
    credentials = bearer(estate.token(user))
    assert try_doors(estate, credentials) == dict.fromkeys(DOORS, Verdict(0, user))
    names = [OWN, "user:alice:x", "user::x", "user:*:x", f"user:{user}:x", f"user:{user}"]
    with talking(estate, Dialect(), credentials) as talk:
        outcome = talk.subscribe(*names)
        assert set(outcome.positions) <= {f"user:{user}:x"}
        assert set(outcome.errors) >= {OWN, "user:alice:x", "user::x"}
        assert set(outcome.errors.values()) <= {40001, 40102}
        assert SECRET.encode() not in talk.text
    for name in names[:2]:
        assert ask(estate, f"/history/{name}", credentials).status == 403


def test_users_that_differ_by_case_or_by_form_are_different_ones(estate: Estate) -> None:
    """What one of them is sent, the other does not get."""
    pairs = [("carol", "Carol"), ("café", unicodedata.normalize("NFD", "café")), ("dan", "dan.")]
    for one, other in pairs:
        estate.mark(one, other)
        estate.publisher.publish("orders", order(f"secret of {one}"), user=one)
        body = ask(estate, "/history/orders", bearer(estate.token(other))).body.decode()
        assert "secret of" not in body


# --- becoming somebody --------------------------------------------------------------------------------------


@dialects
def test_a_connection_stays_its_users(estate: Estate, dialect: Dialect) -> None:
    with talking(estate, dialect, mallory(estate)) as talk:
        assert talk.authenticate(estate.token("alice")).code == 40102
        assert talk.authenticate(estate.token("alice", tier="mm", permissions=["staff"])).code == 40102
        assert talk.subscribe("fills", "members:1", OWN, "staff:1").errors == {OWN: 40102, "staff:1": 40102}
        assert talk.authenticate(estate.token("mallory")) == Verdict(0, "mallory")
        position = talk.subscribe("fills").positions["fills"]
        assert position["epoch"] != position_of(estate, "fills").epoch


@dialects
def test_who_was_nobody_becomes_one_and_stays_it(estate: Estate, dialect: Dialect) -> None:
    with talking(estate, dialect) as talk:
        assert talk.subscribe("fills", OWN).errors == {"fills": 40100, OWN: 40100}
        assert talk.authenticate(estate.token("mallory")) == Verdict(0, "mallory")
        assert talk.authenticate(estate.token("alice")).code == 40102
        outcome = talk.subscribe("fills", OWN)
        assert outcome.errors == {OWN: 40102} and outcome.positions.keys() == {"fills"}


def test_a_ticket_is_worth_what_its_owner_is(estate: Estate) -> None:
    ticket = by_query(estate.ticket(mallory(estate)), "ticket")
    assert ask(estate, f"/history/{OWN}", ticket).status == 403
    # Shown beside another's token it counts as its owner's, not as the token's.
    ticket = by_query(estate.ticket(mallory(estate)), "ticket")
    both = Credentials((), (*ticket.query, *by_query(estate.token("alice")).query))
    assert ask(estate, f"/history/{OWN}", both).status == 403


# --- who may have which namespace ---------------------------------------------------------------------------

ALLOWED: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nobody": ({}, set()),
    "a user": ({"user": "mallory"}, {"members"}),
    "a market maker": ({"user": "mallory", "tier": "mm"}, {"members", "makers"}),
    "one of the staff": ({"user": "mallory", "permissions": ["staff"]}, {"members", "staff"}),
    "one of the staff, in words": ({"user": "mallory", "permissions": "read staff"}, {"members", "staff"}),
    "an auditor": ({"user": "mallory", "permissions": ["auditor"]}, {"members", "bobs"}),
    "bob": ({"user": "bob"}, {"members", "bobs"}),
    "a bob by another name": ({"user": "Bob"}, {"members"}),
    "a name like a role": ({"user": "role:staff"}, {"members"}),
    "a role like a user": ({"user": "mallory", "permissions": ["user:bob", "role:staff", "tier:mm"]}, {"members"}),
    "a role nested": ({"user": "mallory", "permissions": [["staff"], {"staff": 1}]}, {"members"}),
    "a role in an object": ({"user": "mallory", "permissions": {"staff": True}}, {"members"}),
    "a role that begins alike": ({"user": "mallory", "permissions": ["staffer", "staf", "Staff"]}, {"members"}),
    "a tier that is none": ({"user": "mallory", "tier": ["mm"]}, {"members"}),
    "a tier in capitals": ({"user": "mallory", "tier": "MM"}, {"members"}),
}  # fmt: skip
NAMESPACES = {"members", "makers", "staff", "bobs"}


@pytest.mark.parametrize("name", ALLOWED)
def test_namespaces_are_for_whom_they_are_meant(estate: Estate, name: str) -> None:
    claims, allowed = ALLOWED[name]
    credentials = bearer(estate.token(**claims)) if claims else NOBODY
    refusal = 40102 if claims else 40100
    channels = {namespace: f"{namespace}:1" for namespace in NAMESPACES}
    epoch = estate.publisher.publish("makers:1", SECRET)[0]["epoch"]
    for namespace in NAMESPACES - {"makers"}:
        estate.publisher.publish(channels[namespace], SECRET)
    refused = {channels[namespace]: refusal for namespace in NAMESPACES - allowed}
    for dialect in DIALECTS.values():
        for resume in ({}, {"lastSeq": {name: {"seq": 0, "epoch": epoch} for name in channels.values()}}):
            with talking(estate, dialect, credentials) as talk:
                outcome = talk.subscribe(*channels.values(), **resume)
                assert outcome.errors == refused
                assert outcome.positions.keys() == {channels[namespace] for namespace in allowed}
    for namespace, channel in channels.items():
        cursor = encode_cursor([(channel, Position(epoch, 0))])
        answers = [
            ask(estate, "/poll", credentials, f"channels={channel}", f"cursor={cursor}", "wait=0"),
            ask(estate, f"/history/{channel}", credentials),
        ]
        if namespace == "makers":
            answers.append(ask(estate, f"/snapshot/{channel}", credentials))
        for answer in answers:
            assert answer.status == (200 if namespace in allowed else 403 if claims else 401)
            assert (SECRET in answer.body.decode()) == (namespace in allowed)
        if namespace not in allowed:
            stream = ask(estate, "/sse", credentials, f"channels=ev:1,{channel}", f"cursor={cursor}")
            assert (stream.status, stream.json()["code"]) == (403 if claims else 401, refusal)
    listed = {entry["channel"] for entry in ask(estate, "/channels", credentials).json()["channels"]}
    assert {channels[namespace] for namespace in NAMESPACES - allowed}.isdisjoint(listed)


@dialects
def test_rights_that_a_new_token_has_not_end_at_once(estate: Estate, dialect: Dialect) -> None:
    channel = estate.name("staff")
    with talking(estate, dialect, mallory(estate, permissions=["staff"])) as talk:
        assert not talk.subscribe(channel, "ev:1").errors
        estate.publisher.publish(channel, "before")
        talk.read_until(lambda value: value.get("data") == "before")
        assert talk.authenticate(estate.token("mallory")) == Verdict(0, "mallory")
        estate.publisher.publish(channel, "after")
        estate.publisher.publish("ev:1", "the end")
        talk.read_until(lambda value: value.get("data") == "the end")
        assert b"after" not in talk.text
        (revoked,) = (value for value in talk.heard if value.get("event") == "unsubscribed")
        assert channel in json.dumps(revoked) and "40102" in json.dumps(revoked)
        assert talk.subscribe(channel, lastSeq={channel: 0}).errors == {channel: 40102}


def test_a_cursor_of_better_times_is_worth_nothing_now(estate: Estate) -> None:
    channel = estate.name("staff")
    estate.publisher.publish(channel, *[SECRET] * 3)
    staff = mallory(estate, permissions=["staff"])
    cursor = ask(estate, "/poll", staff, f"channels={channel}", "wait=0").json()["cursor"]
    estate.publisher.publish(channel, SECRET)
    assert ask(estate, "/poll", staff, f"channels={channel}", f"cursor={cursor}").json()["events"]
    for path in ("/poll", "/sse"):
        answer = ask(estate, path, mallory(estate), f"channels={channel}", f"cursor={cursor}")
        assert (answer.status, answer.json()["code"]) == (403, 40102)
        # A cursor that names it does not bring it in beside others.
    answer = ask(estate, "/poll", mallory(estate), "channels=ev:1", f"cursor={cursor}", "wait=0")
    assert answer.status == 200 and SECRET not in answer.body.decode()


# --- payloads and names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "market",
    ["*", "../x", "btc_tl@x", "{market}", "x" * 5000, "", "BTC_TL", "eth_tl ", " eth_tl", "eth_tl\n", "eth_tl\0",
     "doge_tl", "btc_tl,eth_tl", "btc_tl\u2028", "bıc_tl", "eth%5ftl", "orders@eth_tl"],
)  # fmt: skip
def test_a_payload_chooses_none_but_a_channel_of_its_namespace(estate: Estate, market: str) -> None:
    user = estate.name("payload")
    before = {entry["channel"] for entry in _channels(estate)}
    estate.publisher.publish("orders", order("odd", market), user=user)
    made = {entry["channel"] for entry in _channels(estate) if entry["userId"] == user}
    assert made == {"orders"}
    assert {entry["channel"] for entry in _channels(estate)} <= before | {"orders"}
    body = ask(estate, "/history/orders", bearer(estate.token(user))).json()
    assert [event["data"]["market"] for event in body["events"]] == [market]


def _channels(estate: Estate) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = estate.look("/admin/channels")["channels"]
    return rows


def test_a_payload_goes_to_the_channel_of_the_whole_value(estate: Estate) -> None:
    """A key that is there twice is read in one way, whoever reads it."""
    body = '{"channel":"orders","user":"twice","data":{"orderId":"1","market":"btc_tl","status":"new","market":"eth_tl"}}'
    result = estate.publisher.post(body).json()["results"][0]
    made = [entry["channel"] for entry in _channels(estate) if entry["userId"] == "twice"]
    assert "code" in result or len(made) <= 2


ODD_NAMES = [
    "ev:\n{\"level\":\"error\"}", "ev:\r\nSet-Cookie: x=1", "ev:\x1b[31m", "ev:\0", "ev:\u2028x", "ev:\x85x", "ev:ä",
    "ev: x", "ev:x y", 'ev:"', "ev:\\", "ev:<script>", "ev:%00", "ev:/../x", "", " ", "\n", "ev:" + "x" * 70,
    "user:alice\n:x", "fills\n", "\ufefffills", "FILLS", "fills@", "fills@btc_tl@eth_tl", "orders@*", "__proto__",
]  # fmt: skip


@dialects
def test_odd_names_are_refused_and_the_log_stays_whole(estate: Estate, dialect: Dialect) -> None:
    lines = len(estate.hub.log)
    with talking(estate, dialect, mallory(estate)) as talk:
        assert not talk.subscribe(*ODD_NAMES).positions
    for name in ODD_NAMES:
        for path in (f"/history/{quote(name, safe='')}", f"/snapshot/{quote(name, safe='')}"):
            assert ask(estate, path, mallory(estate)).status in (400, 404)
        assert ask(estate, "/poll", mallory(estate), f"channels={quote(name, safe='')}").status == 400
        result = estate.publisher.post(json.dumps({"channel": name, "data": 1, "user": "mallory"})).json()[
            "results"
        ][0]
        assert result["code"] in (40001, 40005)
    for line in estate.hub.raw_log[lines:]:
        assert line.isprintable() and isinstance(json.loads(line), dict)
        assert "Set-Cookie" not in line and "<script>" not in line
