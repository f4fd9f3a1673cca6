"""Credentials at every door: what is not valid is refused everywhere alike, and is never repeated by the hub."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.auth.tokens import Issuer, encode_json, encode_segment
from tests.wire.rawpeer import request
from tests.wire.security import (
    DIALECTS,
    DOORS,
    GATEWAY,
    IN_BAND,
    NOBODY,
    PROXY,
    STRANGER,
    Credentials,
    Estate,
    Verdict,
    api_key,
    bearer,
    by_query,
    open_estate,
    serving,
    talking,
    try_doors,
)

REFUSED, EXPIRED = Verdict(40100), Verdict(40101)
DAY = 86_400


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with open_estate(tmp_path_factory.mktemp("estate")) as estate:
        estate.mark("alice", "bob")
        yield estate


def forge(estate: Estate, header: dict[str, Any], signature: Callable[[bytes], bytes]) -> str:
    """Alice's token with a header and a signature of one's own."""
    _, claims, _ = estate.token("alice").split(".")
    text = f"{encode_json(header)}.{claims}"
    return f"{text}.{encode_segment(signature(text.encode()))}"


def hmac_with(secret: str) -> Callable[[bytes], bytes]:
    return lambda text: hmac.new(secret.encode(), text, hashlib.sha256).digest()


def tampered(token: str, **claims: object) -> str:
    head, body, signature = token.split(".")
    present = json.loads(base64.urlsafe_b64decode(body + "=="))
    return f"{head}.{encode_json({**present, **claims})}.{signature}"


def stranger(algorithm: str = "RS256", kid: str | None = "k1") -> Issuer:
    return Issuer(algorithm, kid)


def with_header(header: bytes) -> str:
    return f"{encode_segment(header)}.e30.AAAA"


def no_signature(_text: bytes) -> bytes:
    return b""


#: What is shown as a token, and the verdict of every door.
TOKENS: dict[str, tuple[Callable[[Estate], str], Verdict]] = {
    "alice's": (lambda e: e.token("alice"), Verdict(0, "alice")),
    "alice's, of the fetched key": (lambda e: e.token("alice", issuer=e.jwks), Verdict(0, "alice")),
    "of two audiences": (lambda e: e.token("alice", aud=["shop", "hub"]), Verdict(0, "alice")),
    "of an unknown tier": (lambda e: e.token("alice", tier="root"), Verdict(0, "alice")),
    "forged": (lambda e: e.token("alice", issuer=stranger()), REFUSED),
    "forged for the fetched key": (lambda e: e.token("alice", issuer=stranger("ES256", "j1")), REFUSED),
    "forged without a kid": (lambda e: e.token("alice", issuer=stranger(kid=None)), REFUSED),
    "of an unknown kid": (lambda e: e.token("alice", issuer=Issuer("RS256", "k2", key=e.pem.key)), REFUSED),
    "of the other key's kid": (lambda e: e.token("alice", issuer=Issuer("RS256", "j1", key=e.pem.key)), REFUSED),
    "of a kid that is a path": (
        lambda e: e.token("alice", issuer=Issuer("RS256", "../../dev/null", key=e.pem.key)), REFUSED),
    "of a kid that is a list": (lambda e: e.pem.sign({"sub": "alice", "exp": 9e9}, kid=["k1"]), REFUSED),
    "expired": (lambda e: e.token("alice", expires_in=-DAY), EXPIRED),
    "expired, of the fetched key": (lambda e: e.token("alice", issuer=e.jwks, expires_in=-DAY), EXPIRED),
    "not yet valid": (lambda e: e.token("alice", nbf=int(time.time()) + DAY), REFUSED),
    "from the future": (lambda e: e.token("alice", iat=int(time.time()) + DAY), REFUSED),
    "without an end": (lambda e: e.token("alice", exp=None), REFUSED),
    "of an end that is none": (lambda e: e.token("alice", exp="never"), REFUSED),
    "of a boolean end": (lambda e: e.token("alice", exp=True), REFUSED),
    "of another issuer": (lambda e: e.token("alice", iss="https://login.evil"), REFUSED),
    "of no issuer": (lambda e: e.token("alice", iss=None), REFUSED),
    "for another audience": (lambda e: e.token("alice", aud="shop"), REFUSED),
    "for no audience": (lambda e: e.token("alice", aud=None), REFUSED),
    "for an audience alike": (lambda e: e.token("alice", aud="hub2"), REFUSED),
    "of nobody": (lambda e: e.token(None), REFUSED),
    "of an empty user": (lambda e: e.token(""), REFUSED),
    "of a user that is a list": (lambda e: e.token(["alice"]), REFUSED),
    "of a user that looks like alice": (lambda e: e.token("alice "), REFUSED),
    "of a user with a line break": (lambda e: e.token('alice\n{"level":"error"}'), REFUSED),
    "of a user of 129 characters": (lambda e: e.token("x" * 129), REFUSED),
    "with bob's name put in": (lambda e: tampered(e.token("alice"), sub="bob"), REFUSED),
    "with a later end put in": (lambda e: tampered(e.token("alice", expires_in=-DAY), exp=9_000_000_000), REFUSED),
    "alg none": (lambda e: forge(e, {"alg": "none"}, no_signature), REFUSED),
    "alg none, signed": (lambda e: forge(e, {"alg": "none", "kid": "k1"}, lambda text: b"x" * 32), REFUSED),
    "alg None": (lambda e: forge(e, {"alg": "None", "kid": "k1"}, lambda text: b"x" * 32), REFUSED),
    "alg null": (lambda e: forge(e, {"alg": None, "kid": "k1"}, lambda text: b"x" * 32), REFUSED),
    "no alg": (lambda e: forge(e, {"kid": "k1"}, lambda text: b"x" * 32), REFUSED),
    "HS256 with the public key": (
        lambda e: forge(e, {"alg": "HS256", "kid": "k1"}, hmac_with(e.pem.public_pem)), REFUSED),
    "HS256 with the public key, stripped": (
        lambda e: forge(e, {"alg": "HS256"}, hmac_with(e.pem.public_pem.strip())), REFUSED),
    "HS256 with nothing": (lambda e: forge(e, {"alg": "HS256", "kid": "k1"}, hmac_with("")), REFUSED),
    "RS256 said to be HS256": (lambda e: e.pem.sign({"sub": "alice", "exp": 9e9}, alg="HS256"), REFUSED),
    "RS256 said to be ES256": (
        lambda e: e.keep(e.pem.sign({"sub": "alice", "exp": 9e9}, alg="ES256", kid="j1")), REFUSED),
    "ES256 with zeros": (lambda e: forge(e, {"alg": "ES256", "kid": "j1"}, lambda text: bytes(64)), REFUSED),
    "a key of its own in the header": (
        lambda e: (lambda own: e.token("alice", issuer=own) and own.sign(
            {"sub": "alice", "iss": "https://login.test", "aud": "hub", "exp": 9_000_000_000}, jwk=own.jwk()
        ))(stranger(kid="k3")), REFUSED),
    "a place for keys in the header": (
        lambda e: stranger().sign({"sub": "alice", "exp": 9e9}, jku="http://127.0.0.1:9/jwks.json"), REFUSED),
    "claims that are a list": (lambda e: e.pem.sign(["alice"]), REFUSED),
    "claims that are a text": (lambda e: e.pem.sign("alice"), REFUSED),
    "a header nested beyond reason": (lambda e: with_header(b"[" * 2700), REFUSED),
    "a header that is no JSON": (lambda e: with_header(bytes(range(128, 160))), REFUSED),
    "a header with half a character": (
        lambda e: with_header(rb'{"alg":"RS256","kid":"\ud800"}'), REFUSED),
    "no token": (lambda e: "x.y.z", REFUSED),
    "one word": (lambda e: "alice", REFUSED),
    "two parts": (lambda e: e.token("alice").rpartition(".")[0], REFUSED),
    "four parts": (lambda e: e.token("alice") + ".x", REFUSED),
    "padded": (lambda e: e.token("alice") + "==", REFUSED),
    "with a signature cut": (lambda e: e.token("alice")[:-2], REFUSED),
    "an API key": (lambda e: e.add_key("alice"), REFUSED),
    "a ticket": (lambda e: e.ticket(bearer(e.token("alice"))), REFUSED),
}  # fmt: skip
#: Those that are not one word of a header.
QUERY_TOKENS: dict[str, str] = {
    "empty": "",
    "a zero byte": "x\0y.z.w",
    "not ASCII": "ä.ö.ü",
    "a million dots": "." * 10_000,
    "9 KB": f"{'e' * 3000}.{'y' * 3000}.{'J' * 3000}",
}


@pytest.mark.parametrize("name", TOKENS)
def test_every_door_says_the_same_of_a_token(estate: Estate, name: str) -> None:
    make, verdict = TOKENS[name]
    token = estate.keep(make(estate))
    assert try_doors(estate, bearer(token), secret=token) == dict.fromkeys(DOORS, verdict)
    assert try_doors(estate, by_query(token), secret=token) == dict.fromkeys(DOORS, verdict)
    assert try_doors(estate, bearer(token), doors=IN_BAND, secret=token) == dict.fromkeys(IN_BAND, verdict)


@pytest.mark.parametrize("name", QUERY_TOKENS)
def test_every_door_says_the_same_of_what_is_no_token(estate: Estate, name: str) -> None:
    verdicts = try_doors(estate, by_query(QUERY_TOKENS[name]))
    assert verdicts == dict.fromkeys(DOORS, REFUSED)


def test_a_token_of_8_kb_is_one_and_beyond_is_none(estate: Estate) -> None:
    def token(size: int) -> str:
        return estate.token("alice", padding="x" * size)

    good, bad = token(5500), token(5700)
    assert len(good) < 8192 < len(bad)
    assert try_doors(estate, bearer(good), secret=good) == dict.fromkeys(DOORS, Verdict(0, "alice"))
    assert try_doors(estate, bearer(bad), secret=bad) == dict.fromkeys(DOORS, REFUSED)


def test_a_token_larger_than_heads_may_be(estate: Estate) -> None:
    token = estate.keep("x" * 20_000)
    for path in ("/v2", "/live", "/sse?channels=fills", "/poll?channels=fills", "/ticket"):
        response = estate.ask("GET", path, f"Authorization: Bearer {token}")
        assert response.status == 431
        assert b"xxx" not in response.body


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("token", [None, 5, "", ["x"], {"a": 1}, True])
def test_what_is_no_text_is_no_token_in_band(estate: Estate, dialect: Any, token: object) -> None:
    with talking(estate, dialect) as talk:
        assert talk.authenticate(token).code in (40005, 40100)
        assert talk.subscribe("fills").errors == {"fills": 40100}


# --- several at once ----------------------------------------------------------------------------------------


def test_the_first_credentials_count_and_no_other_is_tried(estate: Estate) -> None:
    """Header before ticket before token; what is refused there is not mended by what comes after it."""
    good, bobs = estate.token("alice"), estate.token("bob")
    bad = estate.keep(tampered(good, sub="bob"))
    cases = [
        (Credentials(bearer(good).headers, by_query(bobs).query), Verdict(0, "alice")),
        (Credentials(bearer(bad).headers, by_query(bobs).query), REFUSED),
        (Credentials(bearer(good).headers, by_query(bad).query), Verdict(0, "alice")),
        (Credentials(("Authorization: Bearer",), by_query(bobs).query), REFUSED),
        (Credentials(("Authorization: Bearer ",), by_query(bobs).query), REFUSED),
        (Credentials(api_key(estate.add_key("bob")).headers, by_query(good).query), Verdict(0, "bob")),
        (Credentials(("Authorization: ApiKey nonsense",), by_query(good).query), REFUSED),
        (Credentials((), (*by_query("nonsense", "ticket").query, *by_query(good).query)), REFUSED),
    ]
    for credentials, verdict in cases:
        assert try_doors(estate, credentials) == dict.fromkeys(DOORS, verdict), credentials


@pytest.mark.parametrize("field", ["token", "ticket"])
def test_a_field_that_comes_twice_is_refused(estate: Estate, field: str) -> None:
    good = estate.token("alice") if field == "token" else "nonsense"
    once = by_query(good, field).query[0]
    spelled = once.replace(field, f"%{ord(field[0]):02x}{field[1:]}", 1)
    for query in [(once, once), (once, f"{field}="), (f"{field}=", once), (once, spelled), (field, once)]:
        assert try_doors(estate, Credentials((), query)) == dict.fromkeys(DOORS, REFUSED), query


def test_a_header_that_comes_twice_is_refused(estate: Estate) -> None:
    good, bobs = estate.token("alice"), estate.token("bob")
    for headers in [
        (*bearer(good).headers, *bearer(bobs).headers),
        (*bearer(good).headers, *bearer(good).headers),
        (*bearer(good).headers, "authorization: Basic eDp5"),
        (*api_key(estate.add_key("bob")).headers, *bearer(good).headers),
    ]:
        assert try_doors(estate, Credentials(headers)) == dict.fromkeys(DOORS, REFUSED), headers


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "BeArEr"])
def test_schemes_are_read_in_any_case(estate: Estate, scheme: str) -> None:
    headers = (f"AUTHORIZATION:   {scheme}   {estate.token('alice')}  ",)
    assert try_doors(estate, Credentials(headers)) == dict.fromkeys(DOORS, Verdict(0, "alice"))


def test_another_scheme_is_somebody_elses(estate: Estate) -> None:
    headers = ("Authorization: Basic YWxpY2U6c2VjcmV0",)
    assert try_doors(estate, Credentials(headers)) == dict.fromkeys(DOORS, Verdict(0))
    good = Credentials(headers, by_query(estate.token("alice")).query)
    assert try_doors(estate, good) == dict.fromkeys(DOORS, Verdict(0, "alice"))


def test_no_credentials_are_nobody(estate: Estate) -> None:
    assert try_doors(estate, NOBODY) == dict.fromkeys(DOORS, Verdict(0))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_all_doors_agree_whatever_is_shown(estate: Estate, data: st.DataObject) -> None:
    """In any mixture, in any order, from anywhere: one verdict, so that no door is the weak one."""
    good, bobs = estate.token("alice"), estate.token("bob")
    lines = [
        f"Authorization: Bearer {good}", f"authorization: bearer {bobs}", "Authorization: Bearer x.y.z", "Authorization:",
        "Authorization: Basic YTpi", "Authorization: ApiKey guess", "Authorization: Bearer", f"Authorization: {good}",
        f"Authorization:Bearer\t{good}", "X-User-Id: bob", "X-User-Id: alice", "X_User_Id: bob", "X-User-Tier: mm",
        f"X-Forwarded-For: {GATEWAY}", f"Cookie: token={bobs}", f"X-Authorization: Bearer {bobs}",
        f"Proxy-Authorization: Bearer {bobs}", f"Sec-WebSocket-Protocol: {good}", f"Referer: http://h/?token={bobs}",
    ]  # fmt: skip
    fields = {
        "token": [f"token={good}", f"token={bobs}", "token=", "token", "token=x.y.z", f"%74oken={bobs}", f"token=%20{good}",
                  f"token={good}%00", f"token={good}#x", f"token=Bearer+{good}"],
        "TOKEN": [f"TOKEN={bobs}", f"Token={bobs}"],
        "token[]": [f"token[]={bobs}", f"token.={bobs}", f";token={bobs}", f"%00token={bobs}"],
        "userId": ["userId=bob"],
        "access_token": [f"access_token={bobs}", f"authorization=Bearer+{bobs}", f"api_key={bobs}"],
    }  # fmt: skip
    headers = data.draw(st.lists(st.sampled_from(lines), max_size=3))
    names = data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True))
    query = tuple(data.draw(st.sampled_from(fields[name])) for name in names)
    source = data.draw(st.sampled_from([STRANGER, PROXY, GATEWAY]))
    verdicts = try_doors(estate, Credentials(tuple(headers), query), source=source)
    assert len(set(verdicts.values())) == 1, verdicts
    if source != GATEWAY and not any(good in line or bobs in line for line in (*headers, *query)):
        assert {verdict.user for verdict in verdicts.values()} == {None}


# --- API keys and tickets -----------------------------------------------------------------------------------


def test_keys_are_taken_and_refused_at_every_door(estate: Estate) -> None:
    good = estate.add_key("bob")
    assert try_doors(estate, api_key(good), secret=good) == dict.fromkeys(DOORS, Verdict(0, "bob"))
    old = estate.add_key("bob", expires_in=-60)
    assert try_doors(estate, api_key(old), secret=old) == dict.fromkeys(DOORS, EXPIRED)
    for key in (
        good[:-1],
        good + "x",
        good.swapcase(),
        hashlib.sha256(good.encode()).hexdigest(),
        "",
        "x" * 5000,
        "ä",
    ):
        credentials = api_key(key)
        verdicts = try_doors(estate, credentials, secret=key if len(key) > 8 else "")
        assert verdicts == dict.fromkeys(DOORS, REFUSED), key


def test_a_key_in_a_place_for_tokens_is_none(estate: Estate) -> None:
    key = estate.add_key("bob")
    for credentials in (by_query(key), by_query(key, "ticket"), bearer(key)):
        assert try_doors(estate, credentials, secret=key) == dict.fromkeys(DOORS, REFUSED)


def test_a_ticket_opens_one_door_once(estate: Estate) -> None:
    for name in DOORS:
        ticket = estate.ticket(bearer(estate.token("alice")))
        (verdict,) = (
            try_doors(estate, by_query(ticket, "ticket"), doors=[name], secret=ticket).values()
            if name != "ticket"
            else (Verdict(0, "alice"),)
        )
        if name == "ticket":
            response = estate.ask("POST", by_query(ticket, "ticket").target("/ticket"))
            assert (response.status, response.json()["code"]) == (403, 40102)
        assert verdict == Verdict(0, "alice")
        again = try_doors(estate, by_query(ticket, "ticket"), secret=ticket)
        assert again == dict.fromkeys(DOORS, REFUSED)


def test_a_ticket_that_nobody_made(estate: Estate) -> None:
    ticket = estate.ticket(bearer(estate.token("alice")))
    for forged in ("", "x", ticket[:-1], ticket + "x", ticket.swapcase(), ticket + "%00", "ä" * 40):
        verdicts = try_doors(estate, by_query(forged, "ticket"))
        assert verdicts == dict.fromkeys(DOORS, REFUSED), forged
    # None of which has used up the good one.
    assert try_doors(estate, by_query(ticket, "ticket"), doors=["sse"])["sse"] == Verdict(0, "alice")


def test_a_ticket_is_for_those_who_have_shown_who_they_are(estate: Estate) -> None:
    response = estate.ask("POST", "/ticket")
    assert (response.status, response.json()["code"]) == (401, 40100)
    assert estate.ask("GET", "/ticket", *bearer(estate.token("alice")).headers).status == 405


def test_one_ticket_many_takers_one_gets_in(estate: Estate) -> None:
    ticket = estate.ticket(bearer(estate.token("alice")))
    target = by_query(ticket, "ticket").target("/history/fills")
    peers = [estate.peer() for _ in range(20)]
    for peer in peers:
        peer.send(request("GET", target, "Connection: close"))
    statuses = [peer.read_response().status for peer in peers]
    for peer in peers:
        peer.close()
    assert sorted(statuses) == [200] + [401] * 19


# --- refusals say nothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ("GET /history/fills HTTP/1.1", "Host: h", "Authorization : Bearer {secret}"),
        ("GET /history/fills HTTP/1.1", "Host: h", "Authorization\0: Bearer {secret}"),
        ("GET /v2?token={secret} x HTTP/1.1", "Host: h"),
        ("GET  /v2?token={secret} HTTP/1.1", "Host: h"),
        ("GET /v2?token={secret}\x01 HTTP/1.1", "Host: h"),
        ("GET /v2?token={secret}", "Host: h"),
        ("Bearer {secret}", "Host: h"),
        ("GET http://[::1/v2?token={secret} HTTP/1.1", "Host: h"),
        ("GET /history/fills HTTP/1.1", "Host: h", "Content-Length: {secret}"),
        ("GET /history/fills HTTP/1.1", "Host: h", "Transfer-Encoding: {secret}"),
        ("GET /poll?channels=fills&token={secret}&token={secret} HTTP/1.1", "Host: h", "Connection: close"),
        ("GET /nowhere?token={secret} HTTP/1.1", "Host: h", "Connection: close"),
        ("BREW /poll?token={secret} HTTP/1.1", "Host: h", "Connection: close"),
        ("POST /poll?token={secret} HTTP/1.1", "Host: h", "Connection: close"),
        ("GET /v2?token={secret} HTTP/1.1", "Host: h"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "kept alive"])
def test_a_request_that_is_none_is_not_quoted(estate: Estate, lines: tuple[str, ...], is_first: bool) -> None:
    secret = estate.token("alice")
    data = "\r\n".join((*lines, "", "")).format(secret=secret).encode("latin-1")
    with estate.peer() as peer:
        if not is_first:
            assert peer.ask(request("GET", "/history/ev:1")).status == 200
        peer.send(data)
        response = peer.read_response()
        assert 400 <= response.status < 600 and response.status != 500
        assert secret.encode() not in peer.heard
        assert secret.rpartition(".")[2].encode()[:40] not in peer.heard


def test_refusals_tell_nothing_of_why(estate: Estate) -> None:
    """A forger must not learn which part of a token was wrong."""
    bad = [make(estate) for make, verdict in TOKENS.values() if verdict == REFUSED]
    answers = {estate.ask("GET", "/history/fills", f"Authorization: Bearer {token}").body for token in bad}
    assert answers == {b'{"code":40100,"msg":"invalid token"}'}


# --- the issuer's keys --------------------------------------------------------------------------------------


def test_keys_that_cannot_be_had_are_nobodys_fault(tmp_path: Any) -> None:
    """No token is thrown away because its issuer cannot be asked: clients come back with it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts; nobody answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/jwks.json"
        with open_estate(tmp_path, f"auth.jwks_url={url}", "auth.jwks_timeout=0.2s") as estate:
            estate.hub.expected_errors.add("JWKS unavailable")
            estate.mark("alice")
            theirs = bearer(estate.token("alice", issuer=estate.jwks))
            for path in ("/sse?channels=fills", "/poll?channels=fills", "/history/fills", "/snapshot/orders"):
                response = estate.ask("GET", path, *theirs.headers)
                assert (response.status, response.json()["code"]) == (503, 50001)
                assert int(response.headers["retry-after"]) > 0
            for dialect in DIALECTS.values():
                with talking(estate, dialect, theirs) as talk:
                    left = talk.read_to_close()
                    assert left.code == left.farewell["code"] != 4003
                    assert left.code in (4000, 4040) and left.farewell["retryAfterMs"] > 0
                with talking(estate, dialect) as talk:
                    assert talk.authenticate(estate.token("alice", issuer=estate.jwks)).code == 50001
                    assert talk.authenticate(estate.token("alice")) == Verdict(0, "alice")
            assert try_doors(estate, bearer(estate.token("alice"))) == dict.fromkeys(
                DOORS, Verdict(0, "alice")
            )


def test_a_set_of_keys_with_poison_in_it(tmp_path: Any) -> None:
    """Symmetric and private keys in the issuer's set make nobody of their owners."""
    good, own = Issuer("ES256", "j1"), stranger("RS256", "p1")
    secret = encode_segment(b"s" * 32)
    private = {**own.jwk(), "d": "AQAB"}
    body = json.dumps(
        {
            "keys": [
                {"kty": "oct", "k": secret, "kid": "o1", "alg": "HS256"},
                private,
                {"kty": "RSA"},
                5,
                good.jwk(),
            ]
        }
    )
    with serving(body.encode()) as url, open_estate(tmp_path, f"auth.jwks_url={url}") as estate:
        estate.mark("alice")
        hs = forge(estate, {"alg": "HS256", "kid": "o1"}, hmac_with("s" * 32))
        for token, verdict in [
            (estate.token("alice", issuer=good), Verdict(0, "alice")),
            (estate.token("alice", issuer=own), REFUSED),
            (hs, REFUSED),
        ]:
            assert try_doors(estate, bearer(token), secret=token) == dict.fromkeys(DOORS, verdict)


def test_a_gateways_word_does_not_mend_a_bad_token(estate: Estate) -> None:
    """Who brings credentials is judged by them, also behind the gateway."""
    credentials = Credentials((*bearer("x.y.z").headers, "X-User-Id: alice"))
    for source in (STRANGER, GATEWAY):
        assert try_doors(estate, credentials, source=source) == dict.fromkeys(DOORS, REFUSED)
