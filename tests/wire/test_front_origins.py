"""Pages of other sites: no WebSockets and no commands, unless their origin is configured."""

from __future__ import annotations

import re

import pytest
from trio.testing import MockClock

from hub.app.front.origins import is_same_origin
from tests.wire.front_port import Doorman, serving
from tests.wire.rawpeer import Response, request, upgrade_request

ORIGIN = "https://app.example.com"

SAME = [
    ("http://hub.test", "hub.test"),
    ("https://hub.test", "hub.test"),
    ("https://hub.test", "hub.test:443"),
    ("http://hub.test:80", "hub.test"),
    ("http://hub.test:8080", "hub.test:8080"),
    ("https://hub.test:8080", "hub.test:8080"),
    ("HTTPS://Hub.TEST", "hUB.test"),
    ("http://127.0.0.1:8080", "127.0.0.1:8080"),
    ("http://[::1]:8080", "[::1]:8080"),
    ("https://[::1]", "[::1]"),
]
OTHER = [
    ("https://hub.test.evil.example", "hub.test"),
    ("https://evil.example", "hub.test"),
    ("https://hub.test@evil.example", "hub.test"),
    ("https://hub.test:8443", "hub.test"),
    ("https://hub.test", "hub.test:8443"),
    ("http://hub.test:443", "hub.test"),
    ("http://hub.test", "hub.test:443"),
    ("http://localhost:8080", "127.0.0.1:8080"),
    ("http://[::1]:8080", "[::2]:8080"),
    ("null", "null"),
    ("", ""),
    ("null", "hub.test"),
    ("https://hub.test/", "hub.test"),
    ("https://hub.test, https://evil.example", "hub.test"),
    ("https://hub.test https://evil.example", "hub.test"),
    ("hub.test", "hub.test"),
    ("//hub.test", "hub.test"),
    ("file://hub.test", "hub.test"),
    ("capacitor://localhost", "localhost"),
    ("https://hub.test:x", "hub.test:x"),
]


@pytest.mark.parametrize("origin, host", SAME)
def test_the_hubs_own_pages(origin: str, host: str) -> None:
    assert is_same_origin(origin, host)


@pytest.mark.parametrize("origin, host", OTHER)
def test_other_pages(origin: str, host: str) -> None:
    assert not is_same_origin(origin, host)


def asks(origin: str | None) -> list[bytes]:
    """What a page of ``origin`` must not get at: a WebSocket, and commands on each kind of path."""
    headers = () if origin is None else (f"Origin: {origin}",)
    commands = [request("POST", path, *headers, body=b"x") for path in ("/who", "/direct")]
    return [at_host(asked, "hub.test") for asked in (upgrade_request("/v2", *headers), *commands)]


def at_host(asked: bytes, host: str) -> bytes:
    return re.sub(rb"Host: [^\r]+", f"Host: {host}".encode(), asked, count=1)


def check_refusal(response: Response) -> None:
    assert (response.status, response.json()["code"]) == (403, 40102) and response.json()["msg"]
    assert response.headers["content-type"] == "application/json"
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "https://hub.test:8443"])
@pytest.mark.parametrize("configured", [(), (ORIGIN,)])
async def test_pages_of_other_origins_are_refused(
    mock_clock: MockClock, origin: str, configured: tuple[str, ...]
) -> None:
    doorman = Doorman()
    async with serving(cors_origins=configured, authenticator=doorman) as served:
        async with served.client() as kept:
            assert (await kept.ask(request("GET", "/who", f"Origin: {origin}"))).status == 200
            check_refusal(await kept.ask(asks(origin)[1]))
        for asked in asks(origin):
            check_refusal(await served.ask(asked))
        assert len(doorman.asked) == 1  # a ticket in the URL is not used up


@pytest.mark.parametrize("origin", [None, "http://hub.test", "https://hub.test"])
async def test_programs_and_the_hubs_own_pages_may(mock_clock: MockClock, origin: str | None) -> None:
    async with serving() as served:
        assert [(await served.ask(asked)).status for asked in asks(origin)] == [101, 200, 200]


@pytest.mark.parametrize("configured", [(ORIGIN,), ("https://other.example", ORIGIN), ("*",)])
async def test_pages_of_configured_origins_may(mock_clock: MockClock, configured: tuple[str, ...]) -> None:
    async with serving(cors_origins=configured) as served:
        assert [(await served.ask(asked)).status for asked in asks(ORIGIN)] == [101, 200, 200]
        for asked in asks(ORIGIN)[1:]:
            assert (await served.ask(asked)).headers["access-control-allow-origin"] == ORIGIN


async def test_any_is_any(mock_clock: MockClock) -> None:
    async with serving(cors_origins=("*",)) as served:
        for origin in ("null", "file://", "https://evil.example"):
            assert [(await served.ask(asked)).status for asked in asks(origin)] == [101, 200, 200]


async def test_operators_take_no_commands_of_pages_of_any_origin(mock_clock: MockClock) -> None:
    async with serving(takes_commands_of_pages=False) as served:
        for asked in asks("http://localhost")[1:]:
            for host in ("localhost", "hub.test"):  # and none where a name was made to mean this machine
                assert (await served.ask(at_host(asked, host))).status == 403


async def test_a_page_asks_before_it_posts(mock_clock: MockClock) -> None:
    asked = request(
        "OPTIONS",
        "/who",
        f"Origin: {ORIGIN}",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization",
    )
    async with serving(cors_origins=(ORIGIN,), authenticator=Doorman()) as served:
        response = await served.ask(asked)
        assert (response.status, response.body) == (204, b"")
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert "POST" in response.headers["access-control-allow-methods"].split(", ")
        assert "authorization" in response.headers["access-control-allow-headers"].split(", ")
        posted = request("POST", "/who", f"Origin: {ORIGIN}", "Authorization: Bearer alice", body=b"x")
        assert (await served.ask(posted)).json()["user"] == "alice"
