"""How often one address may ask, and fail to say who it is; and connections that have asked for nothing yet."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.wire.front_port import Client, Doorman, Served, serving
from tests.wire.rawpeer import Response, request, upgrade_request

FILES = Path(__file__).with_name("tls")
PROXY: dict[str, Any] = {"trusted_proxies": (ip_network("127.0.0.0/8"),)}
WHO = request("GET", "/who")
ORIGIN = "https://app.example.com"


def of(address: str, asked: bytes = WHO) -> bytes:
    """A request that a proxy passes on for ``address``."""
    return asked.replace(b"\r\n\r\n", f"\r\nX-Forwarded-For: {address}\r\n\r\n".encode(), 1)


def login(token: str, asked: bytes = WHO) -> bytes:
    return asked.replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {token}\r\n\r\n".encode(), 1)


def check_limited(response: Response, wait: int) -> None:
    assert (response.status, response.json()["code"]) == (429, 40004) and response.json()["msg"]
    assert response.headers["retry-after"] == str(wait)
    assert response.headers["cache-control"] == "no-store"


# --- requests -------------------------------------------------------------------------------------------------


async def test_requests_of_one_address_on_one_connection(mock_clock: MockClock) -> None:
    async with serving(requests_per_address=3.0) as served, served.client() as client:
        for _ in range(6):
            assert (await client.ask(WHO)).status == 200
        for _ in range(2):
            check_limited(await client.ask(WHO), 1)
        mock_clock.jump(1.0)
        assert [(await client.ask(WHO)).status for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize("target", ["/who", "/file", "/nowhere", "/stream", "/poll"])
async def test_requests_of_one_address_on_many_connections(mock_clock: MockClock, target: str) -> None:
    async with serving(requests_per_address=0.25) as served:
        assert (await served.ask(request("GET", target))).status == (404 if target == "/nowhere" else 200)
        check_limited(await served.ask(request("GET", target)), 4)
        check_limited(await served.ask(upgrade_request("/v2")), 4)
        check_limited(await served.ask(request("POST", "/direct", body=b"x")), 4)
        mock_clock.jump(4.0)
        assert (await served.ask(upgrade_request("/v2"))).status == 101
        assert served.port.statistics().refused == {"requests_per_ip": 3}


async def test_a_connection_lives_on_after_a_refusal(mock_clock: MockClock) -> None:
    async with serving(requests_per_address=0.5) as served, served.client() as client:
        assert (await client.ask(WHO)).status == 200
        for asked in (WHO, upgrade_request("/v2"), WHO, request("POST", "/direct")):
            check_limited(await client.ask(asked), 2)
        mock_clock.jump(2.0)
        assert (await client.ask(upgrade_request("/v2"))).status == 101
    async with serving(requests_per_address=0.5) as served, served.client() as client:
        await served.ask(WHO)
        check_limited(await client.ask(WHO), 2)
        mock_clock.jump(2.0)
        assert (await client.ask(WHO)).status == 200


async def test_a_refusal_of_head_has_no_body(mock_clock: MockClock) -> None:
    async with serving(requests_per_address=0.5) as served, served.client() as client:
        await served.ask(WHO)
        for _ in range(2):
            response = await client.ask(request("HEAD", "/who"))
            assert response.status == 429 and int(response.headers["content-length"]) > 0
        check_limited(await client.ask(WHO), 2)


async def test_it_is_refused_before_the_body_and_before_credentials(mock_clock: MockClock) -> None:
    doorman = Doorman()
    async with serving(requests_per_address=0.5, authenticator=doorman) as served:
        assert (await served.ask(WHO)).status == 200
        async with served.client() as client:
            asked = login("none", request("POST", "/echo", "Content-Length: 1000000"))
            check_limited(await client.ask(asked), 2)  # of the body nothing was sent
            assert await client.has_ended()
        assert len(doorman.asked) == 1


async def test_each_address_has_its_own_limit(mock_clock: MockClock) -> None:
    async with serving(requests_per_address=0.5, **PROXY) as served, served.client() as client:
        for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "[2001:db8:0:1::1]:80"):
            assert (await client.ask(of(address))).status == 200
            check_limited(await client.ask(of(address)), 2)
        check_limited(await client.ask(of("2001:db8::2")), 2)  # the same network of one customer
        assert (await client.ask(WHO)).status == 200  # the proxy itself
        check_limited(await client.ask(of("6.6.6.6, 192.0.2.1")), 2)


async def test_a_page_of_a_configured_origin_may_read_the_refusal(mock_clock: MockClock) -> None:
    async with serving(requests_per_address=0.5, cors_origins=(ORIGIN,)) as served:
        async with served.client() as client:
            asked = request("GET", "/who", f"Origin: {ORIGIN}")
            assert (await client.ask(asked)).status == 200
            for response in (await client.ask(asked), await served.ask(asked)):
                check_limited(response, 2)
                assert response.headers["access-control-allow-origin"] == ORIGIN
                assert "retry-after" in response.headers["access-control-expose-headers"]


async def test_the_log_is_not_flooded(mock_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="hub")
    async with serving(requests_per_address=0.001) as served, served.client() as client:
        for _ in range(5):
            await client.ask(WHO)
        mock_clock.jump(10.0)
        await client.ask(WHO)
    told = [(line.getMessage(), line.__dict__["limit"], line.__dict__["count"]) for line in caplog.records]
    assert told == [("limit reached", "requests_per_ip", 1), ("limit reached", "requests_per_ip", 4)]
    assert {line.__dict__["address"] for line in caplog.records} == {"127.0.0.1"}


# --- failed logins --------------------------------------------------------------------------------------------


async def test_who_fails_too_often_is_told_so(mock_clock: MockClock) -> None:
    doorman = Doorman()
    async with serving(authenticator=doorman, failed_logins_per_address=1.0) as served:
        async with served.client() as client:
            asked = [login("none"), login("old"), login("none", request("POST", "/direct", body=b"x"))]
            for bad in asked:
                assert (await client.ask(bad)).status == 401
            assert (await served.ask(login("none", upgrade_request("/v2")))).status == 101
            for bad in asked:
                check_limited(await client.ask(bad), 1)
            check_limited(await served.ask(login("none", upgrade_request("/v2"))), 1)
            assert served.port.statistics().refused == {"logins_per_ip": 4}
            assert (await client.ask(login("alice"))).status == 200  # who may have the same address by chance
            assert (await client.ask(WHO)).status == 200
            mock_clock.jump(1.0)
            assert (await client.ask(login("none"))).status == 401
            check_limited(await client.ask(login("none")), 1)


async def test_what_is_our_own_trouble_is_no_failure(mock_clock: MockClock) -> None:
    async with serving(authenticator=Doorman(), failed_logins_per_address=0.25) as served:
        async with served.client() as client:
            for _ in range(5):
                assert (await client.ask(login("down"))).status == 503
            assert (await client.ask(login("none"))).status == 401
            check_limited(await client.ask(login("none")), 4)


async def test_failures_of_others_do_not_count(mock_clock: MockClock) -> None:
    async with serving(authenticator=Doorman(), failed_logins_per_address=0.25, **PROXY) as served:
        async with served.client() as client:
            assert (await client.ask(of("192.0.2.1", login("none")))).status == 401
            check_limited(await client.ask(of("192.0.2.1", login("none"))), 4)
            assert (await client.ask(of("192.0.2.2", login("none")))).status == 401


async def test_without_the_limit_one_may_fail_for_ever(mock_clock: MockClock) -> None:
    async with serving(authenticator=Doorman(), failed_logins_per_address=0.0) as served:
        async with served.client() as client:
            for _ in range(50):
                assert (await client.ask(login("none"))).status == 401


# --- connections that have asked for nothing yet --------------------------------------------------------------


async def test_connections_without_a_request(mock_clock: MockClock) -> None:
    async with serving(pending_per_address=2) as served:
        async with connected(served, 2) as silent:
            async with served.client() as client:
                response = await client.read_response()
                assert (response.status, response.json()["code"]) == (429, 40004)
                assert await client.has_ended()
            assert (await silent[0].ask(WHO)).status == 200
            assert (await served.ask(WHO)).status == 200  # in the place of the one that has asked
            async with connected(served, 1):
                async with served.client() as client:
                    assert (await client.read_response()).status == 429
        assert served.port.statistics().refused == {"pending_per_ip": 2}


async def test_a_proxys_connections_are_not_counted(mock_clock: MockClock) -> None:
    async with serving(pending_per_address=1, **PROXY) as served, connected(served, 5):
        assert (await served.ask(WHO)).status == 200


async def test_tls_handshakes_count(mock_clock: MockClock) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(FILES / "certificate.pem", FILES / "key.pem")
    async with serving(pending_per_address=2, tls=context) as served:
        async with connected(served, 2) as silent:
            async with served.client() as client:
                assert await client.has_ended()  # without a word, which would cost a handshake
            assert served.port.statistics().refused == {"pending_per_ip": 1}
            stream = trio.SSLStream(
                silent[0].stream,
                ssl.create_default_context(cafile=FILES / "certificate.pem"),
                server_hostname="localhost",
                https_compatible=True,
            )
            await stream.do_handshake()
            async with served.client() as client:
                assert await client.has_ended()  # the one with a handshake has not asked for anything
            assert (await Client(stream).ask(WHO)).status == 200
            async with connected(served, 1):
                assert served.port.statistics().refused == {"pending_per_ip": 2}


@asynccontextmanager
async def connected(served: Served, count: int) -> AsyncIterator[list[Client]]:
    """Connections that the port has accepted."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(served.client()) for _ in range(count)]
        await trio.testing.wait_all_tasks_blocked(0.01)
        yield clients


# --- leaving --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [WHO, request("POST", "/direct", body=b"x")])
async def test_idle_connections_end_when_the_port_is_drained(mock_clock: MockClock, asked: bytes) -> None:
    async with serving() as served, served.client() as client:
        assert (await client.ask(asked)).status == 200
        await trio.testing.wait_all_tasks_blocked()
        await served.port.drain()
        assert await client.has_ended()


async def test_who_asks_while_the_port_is_drained(mock_clock: MockClock) -> None:
    async with serving() as served, served.client() as first, served.client() as second:
        async with connected(served, 1):
            await served.port.drain()
            response = await first.ask(upgrade_request("/v2"))
            assert (response.status, response.json()["code"]) == (503, 50001)
            assert (await second.ask(request("POST", "/direct", body=b"x"))).status == 200
            assert await second.has_ended()
