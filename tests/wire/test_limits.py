"""What one client, one address and all together may use; idle clients; and what operators can do about clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from tests.hub_process import HubProcess, running_hub
from tests.wire.conftest import CONFIG
from tests.wire.laggards import wait_until
from tests.wire.rawpeer import (
    CLOSE,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    RawPeer,
    Response,
    request,
    upgrade_request,
    websocket,
)

ORIGIN = "https://app.example.com"
POLL = request("GET", "/poll?channels=ev:1&wait=0")


@pytest.fixture(scope="module")
def address_hub() -> Iterator[HubProcess]:
    """Few of everything for one address or connection, and one origin whose pages may read answers."""
    settings = [
        "limits.connections_per_ip=2",
        "limits.pending_per_ip=4",
        "tiers.anonymous.channels_per_connection=3",
        "server.first_byte_timeout=30s",
        f'server.cors_origins=["{ORIGIN}"]',
    ]
    with running_hub(CONFIG, *settings) as hub:
        yield hub


@pytest.fixture(scope="module")
def total_hub() -> Iterator[HubProcess]:
    """Two connections in all; as many channels as one likes."""
    with running_hub(CONFIG, "limits.connections=2", "tiers.anonymous.channels_per_connection=0") as hub:
        yield hub


@pytest.fixture(scope="module")
def idle_hub() -> Iterator[HubProcess]:
    settings = [
        "limits.idle_timeout=2s",
        "transports.websocket.ping_interval=1s",
        "server.user_timeout=0",
        "server.keep_alive_timeout=1s",
    ]
    with running_hub(CONFIG, *settings) as hub:
        yield hub


@contextmanager
def sse(hub: HubProcess, channels: str = "ev:1") -> Iterator[RawPeer]:
    with RawPeer(hub.address) as peer:
        peer.send(request("GET", f"/sse?channels={channels}"))
        status, _ = peer.read_head()
        assert status == 200
        yield peer


def ask(hub: HubProcess, data: bytes) -> Response:
    with RawPeer(hub.address) as peer:
        return peer.ask(data)


def status_of(hub: HubProcess, data: bytes) -> int:
    """The status alone, of an answer that may be endless."""
    with RawPeer(hub.address) as peer:
        peer.send(data)
        return peer.read_head()[0]


STREAMING = [
    pytest.param(upgrade_request("/v2"), id="v2"),
    pytest.param(upgrade_request("/live"), id="live"),
    pytest.param(request("GET", "/sse?channels=ev:1"), id="sse"),
]


# --- connections --------------------------------------------------------------------------------------------


def check_refusal(response: Response, status: int, code: int) -> None:
    assert response.status == status and response.json()["code"] == code and response.json()["msg"]
    assert int(response.headers["retry-after"]) > 0
    target, _, relation = response.headers["link"].partition(";")
    assert target == "</poll>" and "rel=" in relation


@pytest.mark.parametrize("asked", STREAMING)
def test_connections_of_one_address(address_hub: HubProcess, asked: bytes) -> None:
    wait_for_connections(address_hub, 0)
    with websocket(address_hub.address), sse(address_hub) as second:
        check_refusal(ask(address_hub, asked), 429, 40004)
        second.close()
        wait_until(lambda: status_of(address_hub, asked) in (101, 200), "a place to be free again")


@pytest.mark.parametrize("which", ["address_hub", "total_hub"])
def test_who_is_sent_to_polling_can_poll(which: str, request: pytest.FixtureRequest) -> None:
    hub: HubProcess = request.getfixturevalue(which)
    wait_for_connections(hub, 0)
    with websocket(hub.address), websocket(hub.address):
        assert ask(hub, upgrade_request("/v2")).headers["link"].startswith("</poll>")
        assert ask(hub, POLL).status == 200


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_place_is_free_again_however_its_holder_left(address_hub: HubProcess, how: str) -> None:
    wait_for_connections(address_hub, 0)
    for _ in range(3):
        with ExitStack() as stack:
            peers = [stack.enter_context(websocket(address_hub.address)) for _ in range(2)]
            assert ask(address_hub, upgrade_request("/v2")).status == 429
            for peer in peers:
                getattr(peer, how)()
        wait_until(lambda: status_of(address_hub, upgrade_request("/v2")) == 101, "a place to be free")
        wait_for_connections(address_hub, 0)


def test_a_refused_handshake_takes_no_place(address_hub: HubProcess) -> None:
    wait_for_connections(address_hub, 0)
    for _ in range(5):
        assert ask(address_hub, request("GET", "/v2")).status == 426
        assert ask(address_hub, request("GET", "/sse?channels=nonsense")).status == 400
    with websocket(address_hub.address), websocket(address_hub.address):
        pass


@pytest.mark.parametrize("asked", STREAMING)
def test_connections_in_all(total_hub: HubProcess, asked: bytes) -> None:
    wait_for_connections(total_hub, 0)
    with websocket(total_hub.address, "/live"), sse(total_hub) as second:
        check_refusal(ask(total_hub, asked), 503, 50001)
        second.close()
        wait_until(lambda: status_of(total_hub, asked) in (101, 200), "a place to be free again")


def test_connections_that_have_asked_for_nothing_yet(address_hub: HubProcess) -> None:
    poll = request("GET", "/poll?channels=ev:1&wait=0", "Connection: close")
    with ExitStack() as stack:
        silent = [stack.enter_context(RawPeer(address_hub.address)) for _ in range(4)]
        silent[3].send(b"GET /poll")  # half a head is not a request either
        with RawPeer(address_hub.address) as peer:  # refused without having asked
            check_refusal(peer.read_response(), 429, 40004)
            assert peer.read_to_end() == b""
        assert silent[0].ask(poll).status == 200
        assert silent[3].ask(poll.removeprefix(b"GET /poll")).status == 200
        wait_until(lambda: pends(address_hub, poll) == 200, "the places to be free again")


def pends(hub: HubProcess, data: bytes) -> int:
    """As `status_of`, where the hub may have refused and gone before it reads."""
    try:
        return status_of(hub, data)
    except ConnectionError:
        return 429


def wait_for_connections(hub: HubProcess, count: int) -> None:
    wait_until(lambda: len(connections(hub)) == count, f"{count} connections")


def connections(hub: HubProcess) -> list[dict[str, Any]]:
    body = admin(hub, "GET", "/admin/connections").json()
    assert body["total"] == len(body["connections"])
    return list(body["connections"])


def admin(hub: HubProcess, method: str, path: str, **headers: str) -> httpx.Response:
    with httpx.Client(base_url=hub.admin_url, trust_env=False) as client:
        return client.request(method, path, headers=headers)


def admin_post(hub: HubProcess, item: dict[str, Any]) -> None:
    assert httpx.post(f"{hub.admin_url}/publish", json=item, trust_env=False).status_code == 200


# --- channels -----------------------------------------------------------------------------------------------


def test_channels_of_one_websocket(address_hub: HubProcess) -> None:
    names = [f"ev:{number}" for number in range(5)]
    with websocket(address_hub.address) as peer:

        def call(method: str, *params: str) -> Any:
            peer.send_json({"method": method, "params": params, "id": 1})
            return peer.read_json()

        answer = call("subscribe", *names)
        assert (answer["code"], answer["msg"]) == (0, "partial")
        assert answer["data"]["subscribed"] == names[:3]
        assert [(error["channel"], error["code"]) for error in answer["data"]["errors"]] == [
            ("ev:3", 40003),
            ("ev:4", 40003),
        ]
        assert call("subscribe", *names[:3])["msg"] == "ok"  # again the same ones: they take no place twice
        assert call("subscribe", "ev:3")["code"] == 40003
        call("unsubscribe", "ev:0")
        assert call("subscribe", "ev:3")["msg"] == "ok"


def test_channels_of_one_live_websocket(address_hub: HubProcess) -> None:
    with websocket(address_hub.address, "/live") as peer:
        peer.send_json({"type": "subscribe", "channels": ["ev:1", "ev:2", "ev:3", "ev:4"]})
        data = peer.read_json()["data"]
        assert data["channels"] == ["ev:1", "ev:2", "ev:3"]
        assert [(error["channel"], error["code"]) for error in data["errors"]] == [("ev:4", 40003)]


@pytest.mark.parametrize("path", ["/sse", "/poll"])
def test_channels_of_one_http_request(address_hub: HubProcess, path: str) -> None:
    response = ask(address_hub, request("GET", f"{path}?channels=ev:1,ev:2,ev:3,ev:4&wait=0"))
    assert 400 <= response.status < 500 and response.json()["code"] == 40003
    # Named twice is not twice as many.
    assert status_of(address_hub, request("GET", f"{path}?channels=ev:1,ev:2,ev:3,ev:1&wait=0")) == 200


def names_of(count: int) -> list[str]:
    return [f"ev:{number}" for number in range(count)]


@pytest.mark.parametrize("path", ["/v2", "/live"])
def test_params_of_one_command(total_hub: HubProcess, path: str) -> None:
    wait_for_connections(total_hub, 0)

    def command(count: int) -> dict[str, Any]:
        if path == "/v2":
            return {"method": "subscribe", "params": names_of(count), "id": 7}
        return {"type": "subscribe", "channels": names_of(count)}

    with websocket(total_hub.address, path) as peer:
        peer.send_json(command(201))
        answer = peer.read_json()
        assert answer.get("code", answer.get("data", {}).get("code")) == 40005
        peer.send_json(command(200))
        data = peer.read_json()["data"]
        assert data.get("subscribed", data.get("channels")) == names_of(200)
        assert not data.get("errors")


@pytest.mark.parametrize("path", ["/sse", "/poll"])
def test_params_of_one_http_request(total_hub: HubProcess, path: str) -> None:
    wait_for_connections(total_hub, 0)
    response = ask(total_hub, request("GET", f"{path}?channels={','.join(names_of(201))}&wait=0"))
    assert response.status == 400 and response.json()["code"] == 40005
    # 200 may be asked for; whether their cursor fits is another limit.
    response_status, code = head_and_code(total_hub, path, names_of(200))
    assert response_status == 200 or code == 40003


def head_and_code(hub: HubProcess, path: str, names: list[str]) -> tuple[int, int]:
    with RawPeer(hub.address) as peer:
        peer.send(request("GET", f"{path}?channels={','.join(names)}&wait=0"))
        status, headers = peer.read_head()
        if status == 200:
            return status, 0
        body = Response(status, headers, peer.read(int(headers["content-length"]))).json()
        return status, body["code"]


# --- idle clients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v2", "/live"])
def test_who_answers_no_ping_is_closed_and_who_does_stays(idle_hub: HubProcess, path: str) -> None:
    with websocket(idle_hub.address, path) as alive, websocket(idle_hub.address, path) as silent:
        seen = set()
        closed = None
        while closed is None:
            # Both get the pings; only one of them answers.
            opcode, payload = alive.read_frame()
            if opcode == PING:
                alive.send_frame(PONG, payload)
            opcode, payload = silent.read_frame()
            seen.add(opcode)
            if opcode == CLOSE:
                closed = int.from_bytes(payload[:2], "big")
        assert seen == {PING, TEXT, CLOSE} and closed in (1001, 4000)
        for _ in range(2):  # as much as the limit later
            while (message := alive.read_frame())[0] != PING:
                assert message[0] == TEXT
            alive.send_frame(PONG, message[1])
        alive.send_json({"method": "ping", "id": 1} if path == "/v2" else {"type": "ping"})
        while (answer := alive.read_json()).get("method", answer.get("event")) != "pong":
            assert answer["event"] == "heartbeat"


def test_anything_said_counts_as_a_sign_of_life(idle_hub: HubProcess) -> None:
    with websocket(idle_hub.address) as peer:
        for number in range(1, 4):
            assert peer.read_frame() == (PING, b"")  # never answered as such
            peer.send_json({"method": "ping", "id": number})
            assert peer.read_json()["id"] == number


def test_a_stream_of_events_is_never_idle(idle_hub: HubProcess) -> None:
    with sse(idle_hub) as peer, websocket(idle_hub.address) as silent:
        silent.read_to_close()
        chunks = peer.chunks()
        next(chunks)
        for _ in range(3):
            assert next(chunks).startswith(b":")


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(request("GET", "/history/ev:1", "Connection: close"), id="Connection: close"),
        pytest.param(b"GET /history/ev:1 HTTP/1.0\r\nHost: hub.test\r\n\r\n", id="HTTP/1.0"),
        pytest.param(request("GET", "/history/ev:1"), id="idle for the keep-alive timeout"),
    ],
)
def test_an_ended_connection_needs_no_client_to_close_it(idle_hub: HubProcess, said: bytes) -> None:
    wait_for_connections(idle_hub, 0)
    with ExitStack() as stack:
        descriptors = idle_hub.descriptors()
        peers = [stack.enter_context(RawPeer(idle_hub.address)) for _ in range(20)]
        for peer in peers:
            assert peer.ask(said).status == 200
        for peer in peers:
            assert peer.read_to_end() == b""
        wait_until(
            lambda: idle_hub.descriptors() < descriptors + 10, "the sockets to be closed", PATIENCE / 4
        )


# --- pages of other sites -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target, status",
    [
        ("/poll?channels=ev:1&wait=0", 200),
        ("/sse?channels=ev:1", 200),
        ("/snapshot/state:1", None),
        ("/history/ev:1", 200),
        ("/poll?channels=", 400),
        ("/nowhere", 404),
    ],
)
def test_pages_of_a_configured_origin_may_read(
    address_hub: HubProcess, target: str, status: int | None
) -> None:
    wait_for_connections(address_hub, 0)
    with RawPeer(address_hub.address) as peer:
        peer.send(request("GET", target, f"Origin: {ORIGIN}"))
        found, headers = peer.read_head()
    assert status is None or found == status
    assert headers["access-control-allow-origin"] == ORIGIN and headers["vary"].lower() == "origin"
    assert "link" in headers["access-control-expose-headers"]


def test_a_refused_stream_may_be_read_too(address_hub: HubProcess) -> None:
    wait_for_connections(address_hub, 0)
    with sse(address_hub), sse(address_hub):
        response = ask(address_hub, request("GET", "/sse?channels=ev:1", f"Origin: {ORIGIN}"))
    assert (response.status, response.headers["access-control-allow-origin"]) == (429, ORIGIN)


@pytest.mark.parametrize("origin", ["https://evil.example.com", ORIGIN + ".evil.com", ORIGIN.upper(), "null"])
def test_pages_of_other_origins_may_not(address_hub: HubProcess, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        response = ask(
            address_hub,
            request(method, "/poll?channels=ev:1&wait=0", f"Origin: {origin}", "Connection: close"),
        )
        assert "access-control-allow-origin" not in response.headers
        assert response.headers["vary"].lower() == "origin"


def test_a_cache_is_told_that_answers_differ_by_origin(address_hub: HubProcess) -> None:
    """Else the answer to a request without an Origin is given to a page, which cannot read it."""
    admin_post(address_hub, {"channel": "state:cached", "data": 1})
    response = ask(address_hub, request("GET", "/snapshot/state:cached"))
    assert "max-age" in response.headers["cache-control"]
    assert response.headers.get("vary", "").lower() == "origin"


def test_preflight(address_hub: HubProcess) -> None:
    asked = request(
        "OPTIONS",
        "/poll?channels=ev:1",
        f"Origin: {ORIGIN}",
        "Access-Control-Request-Method: GET",
        "Access-Control-Request-Headers: authorization,last-event-id",
    )
    headers = (response := ask(address_hub, asked)).headers
    assert response.status == 204 and headers["access-control-allow-origin"] == ORIGIN
    assert "GET" in headers["access-control-allow-methods"]
    allowed = {name.strip() for name in headers["access-control-allow-headers"].lower().split(",")}
    assert {"authorization", "last-event-id"} <= allowed


def test_without_configured_origins_nothing_is_said(total_hub: HubProcess) -> None:
    response = ask(total_hub, request("GET", "/poll?channels=ev:1&wait=0", f"Origin: {ORIGIN}"))
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert ask(total_hub, request("OPTIONS", "/poll", f"Origin: {ORIGIN}")).status == 405


# --- operators ----------------------------------------------------------------------------------------------


def test_connections_and_channels_are_shown_and_ended(address_hub: HubProcess) -> None:
    wait_for_connections(address_hub, 0)
    with RawPeer(address_hub.address) as peer, websocket(address_hub.address, "/live") as other:
        peer.upgrade("/v2")
        connection_id = peer.read_json()["connId"]
        peer.send_json({"method": "subscribe", "params": ["ev:shown"], "id": 1})
        peer.read_json()
        wait_for_connections(address_hub, 2)
        (row,) = [row for row in connections(address_hub) if row["connId"] == connection_id]
        assert (row["transport"], row["channels"], row["blocked"]) == ("websocket", {"ev:shown": 0}, False)
        channels = admin(address_hub, "GET", "/admin/channels").json()["channels"]
        (shown,) = [channel for channel in channels if channel["channel"] == "ev:shown"]
        assert (shown["subscriptions"], shown["seq"]) == (1, 0) and shown["epoch"]
        path = f"/admin/disconnect?connId={connection_id}&reason=token_revoked"
        assert admin(address_hub, "POST", path).json() == {"disconnected": 1}
        events, code, reason = peer.read_to_close()
        assert (events[-1]["event"], events[-1]["code"], code) == ("disconnecting", 4003, 4003)
        assert events[-1]["msg"] == reason == "token_revoked"
        peer.send_frame(CLOSE, (4003).to_bytes(2, "big"))
        wait_for_connections(address_hub, 1)
        assert admin(address_hub, "POST", path).json() == {"disconnected": 0}
        other.send_json({"type": "ping"})
        while other.read_json()["event"] != "pong":
            pass


def test_an_event_stream_can_be_ended_too(address_hub: HubProcess) -> None:
    wait_for_connections(address_hub, 0)
    with sse(address_hub) as peer:
        (row,) = connections(address_hub)
        assert row["transport"] == "sse"
        admin(address_hub, "POST", f"/admin/disconnect?connId={row['connId']}&code=4040")
        *_, last = (chunk for chunk in peer.chunks() if not chunk.startswith(b":"))
        assert b'"disconnecting"' in last and b"4040" in last


@pytest.mark.parametrize(
    "query", ["", "?connId=", "?connId=x&code=1000", "?connId=x&code=5000", "?connId=x&code=a"]
)
def test_whom_and_with_which_code_must_be_said(address_hub: HubProcess, query: str) -> None:
    response = admin(address_hub, "POST", f"/admin/disconnect{query}")
    assert response.status_code == 400 and response.json()["code"] == 40005


@pytest.mark.parametrize(
    "path", ["/publish", "/admin/disconnect?connId=x", "/admin/drain", "/nowhere", "/healthz"]
)
@pytest.mark.parametrize("origin", [ORIGIN, "null", ""])
def test_pages_give_no_orders(address_hub: HubProcess, path: str, origin: str) -> None:
    assert admin(address_hub, "POST", path, origin=origin).status_code == 403
    assert admin(address_hub, "GET", "/readyz").status_code == 200


def test_not_ready_while_it_drains() -> None:
    settings = ["server.drain_deadline=30s"]
    with running_hub(CONFIG, *settings) as hub, websocket(hub.address) as held:
        assert admin(hub, "GET", "/readyz").json()["status"] == "ready"
        assert admin(hub, "POST", "/admin/drain").status_code == 202
        _, code, _ = held.read_to_close()  # and the answer to it is kept back, so that the drain goes on
        response = admin(hub, "GET", "/readyz")
        assert (code, response.status_code, response.json()["status"]) == (1001, 503, "draining")
        assert admin(hub, "GET", "/healthz").status_code == 200
        held.send_frame(CLOSE, (1001).to_bytes(2, "big"))
        assert hub.wait_exit() == 0
