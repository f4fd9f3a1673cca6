"""Who says who somebody is, or from where: believed of the configured networks, and of nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.rawpeer import request, upgrade_request
from tests.wire.security import (
    DOORS,
    GATEWAY,
    NOBODY,
    PROXY,
    STRANGER,
    Credentials,
    Estate,
    Verdict,
    api_key,
    bearer,
    open_estate,
    try_doors,
)


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with open_estate(tmp_path_factory.mktemp("estate")) as estate:
        estate.mark("alice", "bob", "josé")
        yield estate


@pytest.fixture(scope="module")
def bobs_key(estate: Estate) -> str:
    return estate.add_key("bob")


#: Ways to write that one is Alice, all of which a gateway's own header could be confused with.
SPELLINGS = {
    "plain": ("X-User-Id: alice",),
    "with a tier": ("X-User-Id: alice", "X-User-Tier: mm"),
    "capitals": ("X-USER-ID: alice",),
    "small": ("x-user-id: alice",),
    "mixed": ("x-UsEr-iD: alice",),
    "underscores": ("X_User_Id: alice",),
    "one underscore": ("X-User_Id: alice",),
    "folded onto another": ("X-Other: 1", " X-User-Id: alice"),
    "folded itself": ("X-User-Id:", " alice"),
    "tabs": ("X-User-Id:\talice\t",),
    "twice": ("X-User-Id: alice", "X-User-Id: alice"),
    "named by Connection": ("X-User-Id: alice", "Connection: X-User-Id"),
    "by a proxy's word": ("X-User-Id: alice", f"X-Forwarded-For: {GATEWAY}"),
    "by a proxy's other word": ("X-User-Id: alice", f"Forwarded: for={GATEWAY}"),
    "by all words": ("X-User-Id: alice", f"X-Real-IP: {GATEWAY}", f"Client-IP: {GATEWAY}", f"Via: 1.1 {GATEWAY}"),
}  # fmt: skip


@pytest.mark.parametrize("source", [STRANGER, PROXY], ids=["stranger", "proxy"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_nobody_but_the_gateway_says_who_somebody_is(
    estate: Estate, bobs_key: str, name: str, source: str
) -> None:
    """Not even the proxy, whose word about addresses is believed."""
    headers = SPELLINGS[name]
    for credentials, user in (
        (NOBODY, None),
        (bearer(estate.token("bob")), "bob"),
        (api_key(bobs_key), "bob"),
    ):
        both = Credentials((*headers, *credentials.headers))
        assert try_doors(estate, both, source=source) == dict.fromkeys(DOORS, Verdict(0, user))


@pytest.mark.parametrize(
    "line", ["X-User-Id : alice", "X-User-Id\t: alice", " X-User-Id: alice", "X-User-Id\0: alice", ": alice"]
)
def test_headers_that_are_none_are_refused(estate: Estate, line: str) -> None:
    """Before anybody could read them in two ways; the first line after the request is no continuation either."""
    for source in (STRANGER, PROXY, GATEWAY):
        for target in ("/history/fills", "/v2"):
            with estate.peer(source) as peer:
                response = peer.ask(f"GET {target} HTTP/1.1\r\n{line}\r\nHost: h\r\n\r\n".encode())
                assert response.status == 400


@pytest.mark.parametrize(
    "headers, user",
    [
        (("X-User-Id: alice",), "alice"),
        (("x-uSER-id:   alice  ", "X-User-Tier: mm"), "alice"),
        (("X-User-Id: jos\u00c3\u00a9",), "josé"),  # UTF-8, as bytes on the wire
        ((), None),
        (("X-User-Tier: mm",), None),
        (("X_User_Id: alice",), None),
    ],
)
def test_the_gateway_is_believed(estate: Estate, headers: tuple[str, ...], user: str | None) -> None:
    verdicts = try_doors(estate, Credentials(headers), source=GATEWAY)
    assert verdicts == dict.fromkeys(DOORS, Verdict(0, user))


@pytest.mark.parametrize(
    "headers",
    [
        ("X-User-Id:",),
        ("X-User-Id: alice", "X-User-Id: bob"),
        ("X-User-Id: alice, bob",),
        ("X-User-Id: alice,",),
        ("X-User-Id: alice", "x-user-id: alice"),
        (f"X-User-Id: {'x' * 129}",),
        ("X-User-Id: jos\u00e9",),  # Latin-1
        ("X-User-Id: a\tb",),
        ("X-User-Id: a\u00c2\u0085b",),  # a line break of Unicode, in UTF-8
    ],
)
def test_a_gateway_that_is_unclear_is_not_believed(estate: Estate, headers: tuple[str, ...]) -> None:
    """Two names in one are a client's that came through: whose is whose nobody can tell."""
    verdicts = try_doors(estate, Credentials(headers), source=GATEWAY)
    assert verdicts == dict.fromkeys(DOORS, Verdict(40100))


@pytest.mark.parametrize("tier, expected", [("mm", "mm"), ("root", "retail"), ("anonymous", "retail"), ("", "retail"),
                                            ("retail, mm", "retail"), ("MM", "retail")])  # fmt: skip
def test_a_tier_that_there_is_not_is_the_default(estate: Estate, tier: str, expected: str) -> None:
    headers = ("X-User-Id: alice", f"X-User-Tier: {tier}")
    status = estate.ask("GET", "/history/makers:1", *headers, source=GATEWAY).status
    assert status == (200 if expected == "mm" else 403)
    assert estate.ask("GET", "/history/makers:1", *headers).status == 401


def test_without_networks_no_header_says_anything(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_estate(tmp_path_factory.mktemp("estate"), "auth.gateway_networks=[]") as estate:
        estate.mark("alice")
        for source in (STRANGER, PROXY, GATEWAY):
            credentials = Credentials(("X-User-Id: alice", "X-User-Tier: mm"))
            assert try_doors(estate, credentials, source=source) == dict.fromkeys(DOORS, Verdict(0))


def test_a_kept_connection_is_judged_request_by_request(estate: Estate) -> None:
    """Who was somebody a request ago is not now."""
    for source, first in (
        (GATEWAY, "X-User-Id: alice"),
        (STRANGER, bearer(estate.token("alice")).headers[0]),
    ):
        with estate.peer(source) as peer:
            assert peer.ask(request("GET", "/channels", first)).json()["user"] == "alice"
            assert peer.ask(request("GET", "/channels")).json()["user"] is None
            other = bearer(estate.token("bob")).headers[0]
            assert peer.ask(request("GET", "/channels", other)).json()["user"] == "bob"
            # All in one write, and then a WebSocket on the same connection.
            peer.send(
                request("GET", "/channels", first) + request("GET", "/channels") + upgrade_request("/v2")
            )
            assert [peer.read_response().json()["user"] for _ in range(2)] == ["alice", None]
            assert peer.read_head()[0] == 101
            assert peer.read_json()["event"] == "connected"
            peer.send_json({"method": "subscribe", "params": ["fills"], "id": 1})
            assert peer.read_json()["code"] == 40100
