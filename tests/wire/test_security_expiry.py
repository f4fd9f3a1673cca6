"""The end of rights: credentials that expire while they are used, and users who are sent away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hub.auth.key_file import change_keys, hash_key
from tests.wire.laggards import wait_until
from tests.wire.rawpeer import PATIENCE, request
from tests.wire.security import (
    DIALECTS,
    GATEWAY,
    Credentials,
    Dialect,
    Estate,
    Left,
    SourcePeer,
    Talk,
    Verdict,
    api_key,
    bearer,
    by_query,
    open_estate,
    talking,
)

dialects = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
#: Where each takes seconds: compression makes no difference to time.
plain_dialects = pytest.mark.parametrize("name", ["v2", "v2 cbor", "live"])
SECRET = "for alice's eyes"


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """Tokens are taken for a second after their end, and their connections go with them."""
    settings = [
        "auth.expiry_grace=1s",
        "auth.expiry_warning=1m",
        "server.send_buffer=8KB",
        "server.not_sent_low_water=4KB",
    ]
    with open_estate(tmp_path_factory.mktemp("estate"), *settings) as estate:
        estate.mark("alice", "bob")
        yield estate


def expiring(value: dict[str, Any]) -> bool:
    return value.get("event") == "token_expiring"


def expires_at(value: dict[str, Any]) -> int:
    return int(value["data"]["expiresAt"] if "data" in value else value["expiresAt"])


# --- expiry -------------------------------------------------------------------------------------------------


@plain_dialects
def test_is_warned_and_then_sent_away(estate: Estate, name: str) -> None:
    token = estate.token("alice", expires_in=2)
    with talking(estate, DIALECTS[name], bearer(token)) as talk:
        talk.subscribe("fills")
        warning = talk.read_until(expiring)
        assert abs(expires_at(warning) - time.time() * 1000) < 10_000
        left = talk.read_to_close()
        assert (left.code, left.reason) == (4003, "token expired") and left.farewell["code"] == 4003
        assert len([value for value in left.heard if expiring(value)]) == 1


@pytest.mark.parametrize("way", ["token", "ticket", "header"])
def test_so_is_a_stream(estate: Estate, way: str) -> None:
    credentials = bearer(token := estate.token("alice", expires_in=2))
    if way != "header":
        credentials = by_query(estate.ticket(credentials) if way == "ticket" else token, way)
    with estate.peer() as peer:
        peer.send(request("GET", credentials.target("/sse", "channels=fills"), *credentials.headers))
        assert peer.read_head()[0] == 200
        said = b"".join(peer.chunks())
        assert b"token_expiring" in said and b'"code":4003' in said.rpartition(b"event: disconnecting")[2]


@plain_dialects
def test_a_new_token_in_time_keeps_it(estate: Estate, name: str) -> None:
    """The old one's end passes without a word, and the new one's is told."""
    with talking(estate, DIALECTS[name], bearer(estate.token("alice", expires_in=2))) as talk:
        talk.subscribe("fills")
        first = talk.read_until(expiring)
        assert talk.authenticate(estate.token("alice", expires_in=5)) == Verdict(0, "alice")
        second = talk.read_until(expiring)
        assert expires_at(second) > expires_at(first)
        assert talk.authenticate(estate.token("alice", expires_in=3600)) == Verdict(0, "alice")
        wait_until(lambda: time.time() * 1000 > expires_at(second) + 2500, "the end of both tokens")
        estate.publisher.publish("fills", {"market": "btc_tl", "x": SECRET}, user="alice")
        while SECRET.encode() not in talk.text:
            talk.read()


@plain_dialects
def test_a_bad_or_old_token_does_not_keep_it(estate: Estate, name: str) -> None:
    with talking(estate, DIALECTS[name], bearer(estate.token("alice", expires_in=2))) as talk:
        talk.read_until(expiring)
        assert talk.authenticate(estate.token("alice", expires_in=-60)).code == 40101
        assert talk.authenticate(estate.token("alice")[:-4] + "AAAA").code == 40100
        assert talk.authenticate(estate.token("bob")).code == 40102
        left = talk.read_to_close()
        assert (left.code, left.reason) == (4003, "token expired")


def test_a_shorter_token_shortens_it(estate: Estate) -> None:
    with talking(estate, Dialect(), bearer(estate.token("alice"))) as talk:
        assert talk.authenticate(estate.token("alice", expires_in=1)) == Verdict(0, "alice")
        assert talk.read_to_close().code == 4003


def test_a_slow_reader_outlives_its_token_no_longer_than_others(estate: Estate) -> None:
    """However full its connection is, and however many answers wait in front."""
    credentials = bearer(estate.token("bob", expires_in=3))
    with SourcePeer(estate.hub.address, receive_buffer=2048) as peer:
        peer.upgrade("/v2", *credentials.headers)
        talk = Talk(peer, Dialect())
        talk.read()
        talk.subscribe("fills")
        connection = talk.heard[0]["connId"]
        estate.publisher.publish("fills", *[{"market": "btc_tl", "x": "y" * 200_000}] * 3, user="bob")
        give_up_at = time.monotonic() + 2 * PATIENCE
        said = b""
        while time.monotonic() < give_up_at:
            peer.send_json({"method": "ping", "id": 9})
            try:
                data = peer.socket.recv(2000)
            except ConnectionError:
                break
            said += data
            if not data or b"token expired" in said:
                break
            time.sleep(0.02)
        assert time.monotonic() < give_up_at
        wait_until(lambda: connection not in json.dumps(estate.look("/admin/connections")), "its end")
        assert said.count(b"y" * 2000) < 300


@pytest.mark.parametrize("dialect", [DIALECTS["v2"], DIALECTS["live"]], ids=["v2", "live"])
def test_may_be_kept_beyond(tmp_path_factory: pytest.TempPathFactory, dialect: Dialect) -> None:
    """`on_expiry = keep`: connections live on, new ones are not let in."""
    with open_estate(
        tmp_path_factory.mktemp("keep"), "auth.on_expiry=keep", "auth.expiry_grace=0s"
    ) as estate:
        estate.mark("alice")
        token = estate.token("alice", expires_in=2)
        with talking(estate, dialect, bearer(token)) as talk:
            talk.subscribe("fills")
            ended = time.time() + 2
            wait_until(
                lambda: estate.ask("GET", "/channels", *bearer(token).headers).status == 401,
                "the token's end",
            )
            assert time.time() > ended
            wait_until(lambda: time.time() > ended + 3, "some ticks")
            estate.publisher.publish("fills", {"x": SECRET}, user="alice")
            while SECRET.encode() not in talk.text:
                talk.read()
            assert not [
                value for value in talk.heard if value.get("event") in ("token_expiring", "disconnecting")
            ]


def test_a_ticket_ends_with_what_it_stands_for(estate: Estate) -> None:
    token = estate.token("alice", expires_in=1)
    ticket = by_query(estate.ticket(bearer(token)), "ticket")
    wait_until(
        lambda: estate.ask("GET", "/channels", *bearer(token).headers).status == 401, "the token's end"
    )
    response = estate.ask("GET", ticket.target("/channels"))
    assert (response.status, response.json()["code"]) == (401, 40101)


def test_a_ticket_has_an_end_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_estate(tmp_path_factory.mktemp("brief"), "auth.ticket_age=1s") as estate:
        begin = time.monotonic()
        ticket = by_query(estate.ticket(bearer(estate.token("alice"))), "ticket")
        wait_until(lambda: time.monotonic() > begin + 1.2, "its end")
        response = estate.ask("GET", ticket.target("/channels"))
        assert (response.status, response.json()["code"]) == (401, 40101)


def test_a_key_ends_with_its_connection(estate: Estate) -> None:
    key = estate.add_key("alice", expires_in=4)
    with talking(estate, Dialect(), api_key(key)) as talk:
        assert talk.read_to_close().code == 4003


# --- being sent away ----------------------------------------------------------------------------------------


@dialects
def test_who_is_revoked_goes_at_once(estate: Estate, dialect: Dialect) -> None:
    """And gets nothing more; everybody else stays."""
    with (
        talking(estate, dialect, bearer(estate.token("eve"))) as eve,
        talking(estate, dialect, bearer(estate.token("eve2"))) as other,
        talking(estate, dialect) as nobody,
    ):
        for talk in (eve, other):
            talk.subscribe("fills")
        nobody.subscribe("ev:1")
        assert estate.order("/admin/disconnect?userId=eve&reason=token_revoked") == {"disconnected": 1}
        estate.publisher.publish("fills", {"x": SECRET}, user="eve")
        left = eve.read_to_close()
        assert (left.code, left.reason, left.farewell["msg"]) == (4003, "token_revoked", "token_revoked")
        assert SECRET.encode() not in eve.text
        for talk in (other, nobody):
            assert not talk.subscribe("ev:2").errors


def test_streams_and_whoever_came_in_otherwise_are_revoked_too(estate: Estate) -> None:
    ticket = by_query(estate.ticket(bearer(estate.token("eve"))), "ticket")
    ways = [
        (bearer(estate.token("eve")), "127.0.0.1"),
        (ticket, "127.0.0.1"),
        (by_query(estate.token("eve")), "127.0.0.1"),
        (api_key(estate.add_key("eve")), "127.0.0.1"),
        (Credentials(("X-User-Id: eve",)), GATEWAY),
    ]
    peers = []
    for credentials, source in ways:
        peer = estate.peer(source)
        peers.append(peer)
        peer.send(request("GET", credentials.target("/sse", "channels=fills"), *credentials.headers))
        assert peer.read_head()[0] == 200
    with talking(estate, Dialect()) as talk:
        assert talk.authenticate(estate.token("eve")).code == 0
        wait_until(lambda: estate.look("/admin/connections")["total"] >= len(ways) + 1, "all connections")
        assert estate.order("/admin/disconnect?userId=eve") == {"disconnected": len(ways) + 1}
        assert talk.read_to_close().code == 4003
    for peer in peers:
        assert b'"code":4003' in b"".join(peer.chunks())
        peer.close()


def test_a_revoked_user_has_no_poll_that_waits(estate: Estate) -> None:
    """A poll is a connection, too, for as long as it waits."""
    credentials = bearer(estate.token("eve"))
    estate.mark("eve")
    cursor = estate.ask("GET", "/poll?channels=fills&wait=0", *credentials.headers).json()["cursor"]
    with estate.peer() as peer:
        peer.send(request("GET", f"/poll?channels=fills&wait=30&cursor={cursor}", *credentials.headers))
        wait_until(lambda: _waiting_polls(estate) == 1, "the poll")
        estate.order("/admin/disconnect?userId=eve")
        estate.publisher.publish("fills", {"x": SECRET}, user="eve")
        answer = peer.read_response()
        assert answer.status == 401 or SECRET.encode() not in answer.body


def _waiting_polls(estate: Estate) -> float:
    text = httpx.get(f"{estate.hub.admin_url}/metrics", trust_env=False).text
    (line,) = (line for line in text.splitlines() if line.startswith("hub_polls_waiting"))
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize(
    "query, expected",
    [("userId=", 400), ("", 400), ("connId=", 400), ("userId=*", 200), ("userId=ev", 200), ("userId=EVE", 200),
     ("userId=eve%00", 200), ("userId=eve&userId=bob", 400), ("connId=c_n1", 200), ("userId=none&connId=none", 200)],
)  # fmt: skip
def test_an_order_hits_whom_it_names(estate: Estate, query: str, expected: int) -> None:
    with talking(estate, Dialect(), bearer(estate.token("eve"))) as eve, talking(estate, Dialect()) as nobody:
        response = httpx.post(f"{estate.hub.admin_url}/admin/disconnect?{query}", trust_env=False)
        assert response.status_code == expected
        assert response.json().get("disconnected", 0) == 0
        for talk in (eve, nobody):
            assert not talk.subscribe("ev:1").errors


def test_a_reason_of_any_kind_ends_as_one(estate: Estate) -> None:
    for reason in ("x" * 500, "ı" * 300, "a\nb", '"', "", "\u2028", "\x1b[31m"):
        with talking(estate, Dialect(), bearer(estate.token("eve"))) as talk:
            response = httpx.post(
                f"{estate.hub.admin_url}/admin/disconnect",
                params={"userId": "eve", "reason": reason},
                trust_env=False,
            )
            assert response.json() == {"disconnected": 1}
            left: Left = talk.read_to_close()
            assert left.code == 4003 and reason.startswith(left.reason)


def test_a_key_that_is_taken_out_opens_no_more(estate: Estate) -> None:
    key = estate.add_key("alice")
    change_keys(estate.key_file, lambda keys: [entry for entry in keys if entry.hash != hash_key(key)])
    wait_until(lambda: estate.ask("GET", "/channels", *api_key(key).headers).status == 401, "the revocation")
    with talking(estate, Dialect(), api_key(key)) as talk:
        assert talk.read_to_close().code == 4003
