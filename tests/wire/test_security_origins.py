"""Pages of other sites: what a browser may be made to do at a hub by whom it does not trust."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.hub_process import HubProcess
from tests.wire.rawpeer import RawPeer, Response, request
from tests.wire.security import Credentials, Dialect, Estate, bearer, open_estate, talking

APP = "https://app.example.com"
#: Origins that are not `http(s)://hub.localhost`, however near they come.
FOREIGN = [
    "https://evil.example", "http://hub.localhost.evil.example", "http://evilhub.localhost", "http://hub.localhost@evil.example",
    "http://evil.example/hub.localhost", "http://hub.localhost:81", "https://hub.localhost:80", "null", "", "hub.localhost", "//hub.localhost",
    "http://", "http://hub.localhost/", "http://hub.localhost?", "http://hub.localhost#", "http://hub.localhost, http://hub.localhost",
    "https://evil.example http://hub.localhost", "file://", "file://hub.localhost", "ws://hub.localhost", "chrome-extension://hub.localhost",
    "http://hub.localhost.", "http://hub.localhost:", "http://hub.localhost:080", "http://[::1]", "http://hub\u00a0.test",
    "https://app.example.com", "javascript:alert(1)", "data:text/html,x", "*",
]  # fmt: skip
OWN = [
    "http://hub.localhost",
    "https://hub.localhost",
    "HTTP://HUB.LOCALHOST",
    "http://hub.localhost:80",
    "https://hub.localhost:443",
]
WEBSOCKETS = ["/v2", "/live"]


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with open_estate(tmp_path_factory.mktemp("estate")) as estate:
        estate.mark("alice")
        yield estate


@pytest.fixture(scope="module")
def open_to_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with open_estate(tmp_path_factory.mktemp("app"), f'server.cors_origins=["{APP}"]') as estate:
        estate.mark("alice")
        yield estate


def upgrade(hub: HubProcess, path: str, *headers: str, host: str = "hub.localhost") -> Response:
    """The answer to a handshake; 101 has no body."""
    lines = [
        f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13", *headers, "", "",
    ]  # fmt: skip
    with RawPeer(hub.address) as peer:
        peer.send("\r\n".join(lines).encode())
        status, answer = peer.read_head()
        body = b"" if status == 101 else peer.read(int(answer["content-length"]))
        return Response(status, answer, body)


def check_forbidden(response: Response) -> None:
    assert (response.status, response.json()["code"]) == (403, 40102)
    assert "access-control-allow-origin" not in response.headers


# --- WebSockets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WEBSOCKETS)
@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_opens_no_websocket(estate: Estate, path: str, origin: str) -> None:
    """Not with good credentials either: they may be the browser's user's, and not the page's."""
    for headers in ((), bearer(estate.token("alice")).headers):
        check_forbidden(upgrade(estate.hub, path, f"Origin: {origin}", *headers))


@pytest.mark.parametrize("path", WEBSOCKETS)
@pytest.mark.parametrize("origin", OWN)
def test_the_hubs_own_page_does(estate: Estate, path: str, origin: str) -> None:
    assert upgrade(estate.hub, path, f"Origin: {origin}").status == 101


@pytest.mark.parametrize("path", WEBSOCKETS)
def test_programs_have_no_origin(estate: Estate, path: str) -> None:
    assert upgrade(estate.hub, path).status == 101


@pytest.mark.parametrize("path", WEBSOCKETS)
def test_own_means_the_same_port_and_address(estate: Estate, path: str) -> None:
    port = estate.hub.address[1]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        assert upgrade(estate.hub, path, f"Origin: http://{host}", host=host).status == 101
        check_forbidden(upgrade(estate.hub, path, f"Origin: http://{host}1", host=host))
        check_forbidden(upgrade(estate.hub, path, "Origin: http://evil.example", host=host))
    check_forbidden(upgrade(estate.hub, path, f"Origin: http://localhost:{port}", host=f"127.0.0.1:{port}"))


@pytest.mark.parametrize(
    "origin, host",
    [("http://a.b", "a.b@hub.localhost"), ("http://hub.localhost", "hub.localhost/x"), ("http://hub.localhost", "hub.localhost, evil.example"),
     ("http://", ""), ("null", "null"), ("http://a b", "a b"), ("http://hub.localhost", "evil.example hub.localhost")],
)  # fmt: skip
def test_a_host_that_is_none_is_nobodys(estate: Estate, origin: str, host: str) -> None:
    response = upgrade(estate.hub, "/v2", f"Origin: {origin}", host=host)
    assert response.status in (400, 403)


@pytest.mark.parametrize(
    "headers",
    [
        ("Host: hub.localhost", "Host: evil.example", "Origin: http://hub.localhost"),
        ("Host: hub.localhost", "Origin: http://hub.localhost", "Origin: http://evil.example"),
        ("Host: hub.localhost", "Origin: http://evil.example", "Origin: http://hub.localhost"),
        ("Host: evil.example", "X-Forwarded-Host: hub.localhost", "Origin: http://hub.localhost"),
        ("Host: evil.example", "Forwarded: host=hub.localhost", "Origin: http://hub.localhost"),
    ],
)
def test_two_words_about_the_origin_are_none(estate: Estate, headers: tuple[str, ...]) -> None:
    lines = [
        "GET /v2 HTTP/1.1", *headers, "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13", "", "",
    ]  # fmt: skip
    with RawPeer(estate.hub.address) as peer:
        assert peer.ask("\r\n".join(lines).encode()).status in (400, 403)


def test_configured_origins_are_exact(open_to_app: Estate) -> None:
    hub = open_to_app.hub
    for path in WEBSOCKETS:
        assert upgrade(hub, path, f"Origin: {APP}").status == 101
        assert upgrade(hub, path, "Origin: http://hub.localhost").status == 101
        for origin in (f"{APP}:443", f"{APP}/", "http://app.example.com", "https://evil.app.example.com", "null",
                       f"{APP}.evil.example", "https://appxexample.com", f"{APP}, {APP}", f"{APP} {APP}"):  # fmt: skip
            check_forbidden(upgrade(hub, path, f"Origin: {origin}"))


def test_what_follows_the_handshake_is_the_users(open_to_app: Estate) -> None:
    credentials = bearer(open_to_app.token("alice"))
    with talking(open_to_app, Dialect(), Credentials((*credentials.headers, f"Origin: {APP}"))) as talk:
        assert not talk.subscribe("fills").errors


# --- plain HTTP ---------------------------------------------------------------------------------------------

READING = ["/poll?channels=ev:1&wait=0", "/history/ev:1", "/channels", "/snapshot/makers:1", "/nowhere"]


@pytest.mark.parametrize("path", [*READING, "/sse?channels=ev:1"])
def test_foreign_pages_may_not_read_answers(estate: Estate, open_to_app: Estate, path: str) -> None:
    def headers_of(at: Estate, origin: str) -> dict[str, str]:
        with at.peer() as peer:
            peer.send(request("GET", path, f"Origin: {origin}"))
            return peer.read_head()[1]

    for origin in ("https://evil.example", "null", "http://hub.localhost"):
        assert not [name for name in headers_of(estate, origin) if name.startswith("access-control")]
        told = headers_of(open_to_app, origin)
        assert not [name for name in told if name.startswith("access-control")]
        assert "origin" in told["vary"]
    told = headers_of(open_to_app, APP)
    assert told["access-control-allow-origin"] == APP
    assert "access-control-allow-credentials" not in told
    assert "origin" in told["vary"]


@pytest.mark.parametrize("origin", FOREIGN)
def test_foreign_pages_get_no_tickets(estate: Estate, origin: str) -> None:
    """A form of any site can post; the answer has to be a refusal, not merely unreadable."""
    credentials = bearer(estate.token("alice"))
    for headers in ((), ("Content-Type: text/plain",), ("Content-Type: application/x-www-form-urlencoded",)):
        response = estate.ask(
            "POST", "/ticket", f"Origin: {origin}", *credentials.headers, *headers, body=b"a=b"
        )
        check_forbidden(response)
        by_url = estate.ask(
            "POST", f"/ticket?token={estate.token('alice')}", f"Origin: {origin}", body=b"a=b"
        )
        check_forbidden(by_url)


def test_own_and_configured_pages_get_tickets(estate: Estate, open_to_app: Estate) -> None:
    for at, origin in (
        (estate, "http://hub.localhost"),
        (open_to_app, "http://hub.localhost"),
        (open_to_app, APP),
    ):
        response = at.ask("POST", "/ticket", f"Origin: {origin}", *bearer(at.token("alice")).headers)
        assert response.status == 200
        at.keep(response.json()["ticket"])
        assert response.headers.get("access-control-allow-origin") == (APP if origin == APP else None)
    check_forbidden(
        open_to_app.ask("POST", "/ticket", "Origin: null", *bearer(open_to_app.token("alice")).headers)
    )


@pytest.mark.parametrize("path", [*READING[:-1], "/sse?channels=ev:1", "/ticket"])
def test_preflights(estate: Estate, open_to_app: Estate, path: str) -> None:
    asks = ("Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization")
    assert estate.ask("OPTIONS", path, f"Origin: {APP}", *asks).status == 405
    granted = open_to_app.ask("OPTIONS", path, f"Origin: {APP}", *asks)
    assert granted.status == 204
    assert granted.headers["access-control-allow-origin"] == APP
    assert "authorization" in granted.headers["access-control-allow-headers"]
    assert "x-user-id" not in granted.headers["access-control-allow-headers"].lower()
    for origin in ("https://evil.example", "null", f"{APP}.evil.example"):
        refused = open_to_app.ask("OPTIONS", path, f"Origin: {origin}", *asks)
        assert "access-control-allow-origin" not in refused.headers


def test_no_host_is_no_origin_of_ours(estate: Estate) -> None:
    """HTTP/1.0 needs no Host; who sends an Origin none the less is refused, and no error of ours is logged."""
    for origin in ("http://a.b", "http://", "null", ""):
        for path in ("/ticket", "/poll", "/nowhere"):
            with estate.peer() as peer:
                peer.send(f"POST {path} HTTP/1.0\r\nOrigin: {origin}\r\n\r\n".encode())
                assert peer.read_response().status in (400, 403)
    assert not estate.hub.take_errors()


# --- the operators' port ------------------------------------------------------------------------------------

LOOKING = ["/admin/connections", "/admin/channels", "/admin/nodes", "/metrics", "/healthz", "/readyz"]
ORDERING = ["/publish", "/admin/disconnect?userId=alice", "/admin/drain"]


def ask_operators(hub: HubProcess, method: str, path: str, *headers: str, body: bytes = b"") -> Response:
    with RawPeer(hub.admin_address) as peer:
        lines = [
            f"{method} {path} HTTP/1.1",
            *headers,
            "Connection: close",
            f"Content-Length: {len(body)}",
            "",
            "",
        ]
        return peer.ask("\r\n".join(lines).encode() + body)


@pytest.mark.parametrize("path", ORDERING)
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1", "https://localhost"]
)
def test_no_page_gives_an_operators_orders(estate: Estate, path: str, origin: str) -> None:
    host = "Host: {}:{}".format(*estate.hub.admin_address)
    body = b'{"channel":"ev:page","data":1}'
    for kind in ("application/json", "text/plain"):
        headers = (host, f"Origin: {origin}", f"Content-Type: {kind}")
        check_forbidden(ask_operators(estate.hub, "POST", path, *headers, body=body))
    assert estate.look("/readyz")["status"] == "ready"
    assert "ev:page" not in {entry["channel"] for entry in estate.look("/admin/channels")["channels"]}


@pytest.mark.parametrize("path", LOOKING)
def test_a_name_that_was_rebound_reads_nothing_of_operators(estate: Estate, path: str) -> None:
    """A page's own name may come to mean 127.0.0.1: then its GETs have no Origin, and only Host tells."""
    hub = estate.hub
    for host in (
        "evil.example",
        f"evil.example:{hub.admin_address[1]}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
    ):
        refused = ask_operators(hub, "GET", path, f"Host: {host}")
        assert refused.status in (403, 421) and b"conn" not in refused.body.lower().replace(
            b"connection", b""
        )
    for name in ("127.0.0.1", "localhost", "[::1]"):
        for host in (name, f"{name}:{hub.admin_address[1]}"):
            assert ask_operators(hub, "GET", path, f"Host: {host}").status == 200


@pytest.mark.parametrize("path", ORDERING)
def test_a_name_that_was_rebound_orders_nothing(estate: Estate, path: str) -> None:
    refused = ask_operators(
        estate.hub, "POST", path, "Host: evil.example", body=b'{"channel":"ev:page","data":1}'
    )
    assert refused.status in (403, 421)


def test_no_preflight_helps_with_operators(open_to_app: Estate) -> None:
    """Origins that may read the public port are no operators."""
    hub = open_to_app.hub
    host = "Host: {}:{}".format(*hub.admin_address)
    for path in (*LOOKING, "/publish"):
        for method in ("OPTIONS", "GET"):
            answer: Any = ask_operators(hub, method, path, host, f"Origin: {APP}")
            assert "access-control-allow-origin" not in answer.headers
