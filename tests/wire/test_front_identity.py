"""Who asks is found out once for each request, before any handler sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network

import pytest
import trio
from trio.testing import MockClock

from hub.app.front.guard import Head, RequestGuard
from hub.app.front.peers import make_peer
from tests.wire.front_port import Doorman, Served, serving
from tests.wire.rawpeer import Response, request, upgrade_request

LOOPBACK = (ip_network("127.0.0.0/8"),)


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def check_refusal(response: Response, status: int, code: int) -> None:
    assert (response.status, response.json()["code"]) == (status, code) and response.json()["msg"]
    assert response.headers["content-type"] == "application/json"


async def test_each_request_of_a_connection_has_its_own_identity(mock_clock: MockClock) -> None:
    doorman = Doorman()
    async with serving(authenticator=doorman) as served, served.client() as client:
        for path in ("GET /who", "POST /direct", "GET /who", "POST /who"):
            method, target = path.split()
            for headers, user in (((), None), ((bearer("alice"),), "alice"), ((), None)):
                response = await client.ask(request(method, target, *headers, body=b"x" * (method == "POST")))
                assert response.json()["user"] == user
        assert len(doorman.asked) == 12  # once each


async def test_without_an_authenticator_everybody_is_anonymous(mock_clock: MockClock) -> None:
    async with serving() as served:
        for asked in (request("GET", "/who", bearer("x")), upgrade_request("/v2", bearer("x"))):
            assert (await served.ask(asked)).json()["user"] is None


REFUSED = [("none", 401, 40100, "Bearer"), ("old", 401, 40101, 'Bearer error="invalid_token"'), ("down", 503, 50001, None)]  # fmt: skip


@pytest.mark.parametrize("token, status, code, challenge", REFUSED)
async def test_refused_credentials_are_answered_and_the_connection_goes_on(
    mock_clock: MockClock, token: str, status: int, code: int, challenge: str | None
) -> None:
    doorman = Doorman()
    async with serving(authenticator=doorman) as served, served.client() as client:
        for method, target in (("GET", "/who"), ("POST", "/direct"), ("GET", "/poll"), ("GET", "/stream")):
            body = b"x" if method == "POST" else b""
            response = await client.ask(request(method, target, bearer(token), body=body))
            check_refusal(response, status, code)
            assert response.headers.get("www-authenticate") == challenge
            assert ("retry-after" in response.headers) == (status == 503)
        assert (await client.ask(request("GET", "/who", bearer("alice")))).json()["user"] == "alice"


@pytest.mark.parametrize("token, status, code, challenge", REFUSED)
async def test_a_websocket_is_told_by_its_handler(
    mock_clock: MockClock, token: str, status: int, code: int, challenge: str | None
) -> None:
    async with serving(authenticator=Doorman()) as served:
        for asked in (upgrade_request("/v2", bearer(token)), upgrade_request(f"/v2?token={token}")):
            response = await served.ask(asked)
            assert response.status == 101
            assert (response.json()["refusal"], response.json()["user"]) == (code, None)
        response = await served.ask(upgrade_request("/v2?token=alice"))
        assert (response.json()["refusal"], response.json()["user"]) == (None, "alice")


async def test_what_needs_no_identity_looks_at_no_credentials(mock_clock: MockClock) -> None:
    doorman = Doorman()
    async with serving(authenticator=doorman, cors_origins=("*",)) as served, served.client() as client:
        assert (await client.ask(request("GET", "/file", bearer("none")))).status == 200
        assert (await client.ask(request("GET", "/nowhere", bearer("none")))).status == 404
        assert (await client.ask(request("PUT", "/who", bearer("none")))).status == 405
        assert (await client.ask(request("OPTIONS", "/who", bearer("none")))).status == 204
        assert doorman.asked == []


async def test_who_takes_too_long_to_be_found_out(mock_clock: MockClock) -> None:
    doorman = Doorman()
    async with serving(authenticator=doorman, identify_timeout=3.0) as served:
        async with served.client() as http, served.client() as websocket:
            await http.stream.send_all(request("GET", "/who", bearer("slow")))
            await websocket.stream.send_all(upgrade_request("/v2", bearer("slow")))
            await doorman.wait_asked(2)
            mock_clock.jump(3.0)
            check_refusal(await http.read_response(), 503, 50001)
            assert (await websocket.read_response()).json()["refusal"] == 50001


# --- behind a gateway -----------------------------------------------------------------------------------------

SPOOFED = ("X-User-Id: mallory", "x-USER-tier: mm", "X-User-Id: eve")
ASKED = [
    pytest.param(request("GET", "/who", *SPOOFED), id="http"),
    pytest.param(request("POST", "/direct", *SPOOFED, body=b"x"), id="direct"),
    pytest.param(upgrade_request("/v2", *SPOOFED), id="websocket"),
]


@pytest.mark.parametrize("asked", ASKED)
async def test_a_gateways_headers_are_gone_unless_it_is_one(mock_clock: MockClock, asked: bytes) -> None:
    async with serving(authenticator=Doorman()) as served:
        described = (await served.ask(asked)).json()
        assert (described["user"], described["tier"]) == (None, "anonymous")
        assert not [name for name in described["headers"] if "user" in name]
    # Whom a trusted proxy names is a client, and no gateway.
    near = {"trusted_proxies": LOOPBACK, "gateway_networks": (ip_network("10.0.0.0/8"),)}
    async with serving(authenticator=Doorman(), **near) as served:
        head, _, body = asked.partition(b"\r\n\r\n")
        described = (await served.ask(head + b"\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n" + body)).json()
        assert (described["user"], described["peer"]) == (None, "10.0.0.1")


@pytest.mark.parametrize("asked", ASKED)
async def test_a_gateway_is_handed_on(mock_clock: MockClock, asked: bytes) -> None:
    async with serving(authenticator=Doorman(), gateway_networks=LOOPBACK) as served:
        described = (await served.ask(asked)).json()
        assert (described["user"], described["tier"]) == ("mallory, eve", "mm")


@pytest.mark.parametrize(
    "peer, is_there", [("127.0.0.1", True), ("::ffff:127.0.0.2", True), ("10.0.0.1", False)]
)
def test_what_the_http_server_gets_has_them_only_from_a_gateway(peer: str, is_there: bool) -> None:
    guard = RequestGuard(peer=make_peer(peer, proxies=(), gateways=LOOPBACK), max_head=1000)
    guard.feed(request("GET", "/who", *SPOOFED))
    head = guard.next_event()
    assert isinstance(head, Head)
    assert (b"user" in head.clean.lower()) == ("x-user-id" in head.request.headers) == is_there


# --- a WebSocket after plain requests -------------------------------------------------------------------------


async def test_a_connection_that_was_kept_alive_can_become_a_websocket(mock_clock: MockClock) -> None:
    """Gateways keep connections to the hub, and give them to whoever comes next."""
    doorman = Doorman()
    async with serving(authenticator=doorman) as served, served.client() as client:
        for _ in range(2):
            assert (await client.ask(request("GET", "/who"))).status == 200
        response = await client.ask(upgrade_request("/v2", bearer("alice")) + b"early")
        assert (response.status, response.json()["user"]) == (101, "alice")
        assert await client.read(5) == b"early"
        await client.stream.send_all(b"late")
        assert await client.read(4) == b"late"


async def test_pipelined_requests_are_answered_before_the_upgrade(mock_clock: MockClock) -> None:
    async with serving() as served, served.client() as client:
        await client.stream.send_all(request("GET", "/who") * 2 + upgrade_request("/v2") + b"early")
        assert [(await client.read_response()).status for _ in range(3)] == [200, 200, 101]
        assert await client.read(5) == b"early"


async def test_a_bad_upgrade_on_a_kept_alive_connection(mock_clock: MockClock) -> None:
    async with serving() as served, served.client() as client:
        assert (await client.ask(request("GET", "/who"))).status == 200
        bad = upgrade_request("/v2").replace(b"Version: 13", b"Version: 8")
        check_refusal(await client.ask(bad), 426, 40005)
    async with serving() as served, served.client() as client:
        assert (await client.ask(request("GET", "/who", "Connection: close"))).status == 200
        assert await client.has_ended()


# --- how many at once -----------------------------------------------------------------------------------------


async def test_users_are_not_counted_by_their_address(mock_clock: MockClock) -> None:
    async with serving(authenticator=Doorman(), connections_per_address=2, connections=5) as served:
        async with attached(served, 2):
            for target in ("/v2", "/stream"):
                await check_full(served, target, 429)
            async with attached(served, 3, bearer("alice")):
                for target in ("/v2", "/stream"):
                    await check_full(served, target, 503, bearer("alice"))
                    await check_full(served, target, 503)
        async with attached(served, 2), attached(served, 3, bearer("alice")):
            pass
        assert served.port.statistics().refused == {"connections_per_ip": 2, "connections": 4}


async def test_whose_credentials_are_refused_is_anonymous(mock_clock: MockClock) -> None:
    async with serving(authenticator=Doorman(), connections_per_address=1) as served:
        async with attached(served, 1, bearer("none")):
            await check_full(served, "/v2", 429)


async def check_full(served: Served, target: str, status: int, *headers: str) -> None:
    make = upgrade_request if target == "/v2" else lambda *rest: request("GET", *rest)
    response = await served.ask(make(target, *headers))
    check_refusal(response, status, 40004 if status == 429 else 50001)
    assert int(response.headers["retry-after"]) > 0 and response.headers["link"].startswith("</poll>;")
    assert (await served.ask(request("GET", "/poll", *headers))).status == 200  # the way out


@asynccontextmanager
async def attached(served: Served, count: int, *headers: str) -> AsyncIterator[None]:
    """So many WebSockets for as long as the block runs; then their places are free again."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(served.client()) for _ in range(count)]
        for client in clients:
            assert (await client.ask(upgrade_request("/v2", *headers))).status == 101
        yield
        for client in clients:
            assert isinstance(client.stream, trio.SocketStream)
            await client.stream.send_eof()
            assert await client.has_ended()
