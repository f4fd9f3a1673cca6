"""What the public port refuses, byte by byte (live-envelope.md, "Bodies"): always JSON, always a fitting status."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from tests.hub_process import HubProcess
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import RawPeer, Response, request, upgrade_request

HOST = "Host: hub.localhost"
GOOD = request("GET", "/history/ev:http")


def check_refusal(response: Response, *statuses: int) -> None:
    assert response.status in statuses, (response.status, response.body)
    assert response.headers["content-type"].startswith("application/json")
    body = response.json()
    assert body.keys() >= {"code", "msg"} and isinstance(body["code"], int) and body["msg"]


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


MALFORMED = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "words": b"hello there\r\n\r\n",
    "no version": head("GET /", HOST),
    "no target": head("GET HTTP/1.1", HOST),
    "version of letters": head("GET / HTTP/x.y", HOST),
    "a space in the target": head("GET /a b HTTP/1.1", HOST),
    "a target that is not ASCII": head("GET /\xe4 HTTP/1.1", HOST),
    "a target with NUL": head("GET /\0 HTTP/1.1", HOST),
    "a header without colon": head("GET / HTTP/1.1", HOST, "nonsense"),
    "a header without name": head("GET / HTTP/1.1", HOST, ": x"),
    "a space before the colon": head("GET / HTTP/1.1", HOST, "X : y"),
    "NUL in a header": head("GET / HTTP/1.1", HOST, "X: a\0b"),
    "CR in a header": head("GET / HTTP/1.1", HOST, "X: a\rb"),
    "no Host": head("GET / HTTP/1.1"),
    "two Hosts": head("GET / HTTP/1.1", HOST, HOST),
    "CL and TE": head("POST / HTTP/1.1", HOST, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "TE and CL": head("POST / HTTP/1.1", HOST, "Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n",
    "two CLs": head("POST / HTTP/1.1", HOST, "Content-Length: 1", "Content-Length: 2") + b"xy",
    "two CLs alike": head("POST / HTTP/1.1", HOST, "Content-Length: 2", "Content-Length: 2") + b"xy",
    "two CLs in a line": head("POST / HTTP/1.1", HOST, "Content-Length: 2, 2") + b"xy",
    "two CLs, one in capitals": head("POST / HTTP/1.1", HOST, "content-length: 2", "CONTENT-LENGTH: 2") + b"xy",
    "negative CL": head("POST / HTTP/1.1", HOST, "Content-Length: -1"),
    "signed CL": head("POST / HTTP/1.1", HOST, "Content-Length: +2") + b"xy",
    "CL of letters": head("POST / HTTP/1.1", HOST, "Content-Length: ten"),
    "vast CL": head("POST / HTTP/1.1", HOST, "Content-Length: " + "9" * 5000),
    "CL on GET with TE": head("GET /poll HTTP/1.1", HOST, "Content-Length: 0", "Transfer-Encoding: chunked"),
}  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_heads_are_400_once_and_the_end(hub: HubProcess, data: bytes) -> None:
    with RawPeer(hub.address) as peer:
        peer.send(data + GOOD)
        response = peer.read_response()
        assert peer.read_to_end() == b""
    check_refusal(response, 400)
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_heads_on_a_kept_alive_connection(hub: HubProcess, data: bytes) -> None:
    with RawPeer(hub.address) as peer:
        assert peer.ask(GOOD).status == 200
        peer.send(data + GOOD)
        response = peer.read_response()
        assert peer.read_to_end() == b""
    check_refusal(response, 400)


@pytest.mark.parametrize("name", ["words", "CL and TE", "two Hosts"])
def test_a_good_request_before_a_malformed_one_in_the_same_packet_is_answered(
    hub: HubProcess, name: str
) -> None:
    with RawPeer(hub.address) as peer:
        peer.send(GOOD + GOOD + MALFORMED[name])
        assert [peer.read_response().status for _ in range(2)] == [200, 200]
        check_refusal(peer.read_response(), 400)
        assert peer.read_to_end() == b""


@pytest.mark.parametrize(
    "data, status",
    [
        (head("POST / HTTP/1.1", HOST, "Transfer-Encoding: gzip"), 501),
        (head("POST / HTTP/1.1", HOST, "Transfer-Encoding: identity"), 501),
        (head("POST / HTTP/1.1", HOST, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 501),
        (head("GET / HTTP/3.0", HOST), 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
)
def test_what_this_port_does_not_speak(hub: HubProcess, data: bytes, status: int) -> None:
    with RawPeer(hub.address) as peer:
        peer.send(data)
        check_refusal(peer.read_response(), status, 400)
        assert peer.read_to_end() == b""
    with RawPeer(hub.address) as peer:
        assert peer.ask(GOOD).status == 200
        check_refusal(peer.ask(data), status, 400)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /" + b"a" * 200_000,
        head("GET / HTTP/1.1", HOST, "X: " + "y" * 20_000),
        head("GET / HTTP/1.1", HOST, *(f"X-{n}: y" for n in range(3000))),
        b"A" * 20_000,
    ],
    ids=["target", "endless target", "header", "headers", "method"],
)
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "kept alive"])
def test_a_head_that_is_too_large_is_431(hub: HubProcess, data: bytes, is_first: bool) -> None:
    with RawPeer(hub.address) as peer:
        if not is_first:
            assert peer.ask(GOOD).status == 200
        peer.send(data)
        response = peer.read_response()
    check_refusal(response, 431, *([400] if data[:2] == b"AA" else []))


def test_a_head_of_nearly_the_limit_is_taken(hub: HubProcess) -> None:
    for _ in range(2):
        with RawPeer(hub.address) as peer:
            for _ in range(2):
                assert peer.ask(request("GET", "/history/ev:http", "X: " + "y" * 16_000)).status == 200


SLOW = b"GET /history/ev:http HTTP/1.1\r\nHost: hub.test\r\nX: "


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "kept alive"])
@pytest.mark.parametrize("is_dripping", [True, False], ids=["dripping", "silent"])
def test_a_slow_head_is_408(hub: HubProcess, is_first: bool, is_dripping: bool) -> None:
    with RawPeer(hub.address) as peer:
        if not is_first:
            assert peer.ask(GOOD).status == 200
        peer.send(SLOW)
        if is_dripping:
            drip(peer)
        check_refusal(peer.read_response(), 408)
        assert peer.read_to_end() == b""


def drip(peer: RawPeer) -> None:
    """A byte now and then until the hub answers; a bounded number of them."""
    peer.socket.settimeout(0.2)
    for _ in range(40):
        try:
            if peer.read_more():
                break
        except TimeoutError:
            peer.send(b"y")
    else:
        pytest.fail("the head went on for 8 s, where 1 s is allowed")
    peer.socket.settimeout(10)


def test_a_head_that_begins_late_still_has_its_time(hub: HubProcess) -> None:
    """`first_byte_timeout` (2 s here) ends with the first byte."""
    with RawPeer(hub.address) as peer:
        peer.socket.settimeout(1.5)
        with pytest.raises(TimeoutError):
            peer.read_more()
        peer.socket.settimeout(10)
        peer.send(SLOW)
        check_refusal(peer.read_response(), 408)


def test_no_byte_at_all_is_closed_without_a_word(hub: HubProcess) -> None:
    with RawPeer(hub.address) as peer:
        assert peer.read_to_end() == b""


@pytest.mark.parametrize(
    "method, target, status, allow",
    [
        ("GET", "/nowhere", 404, None),
        ("GET", "/v2/", 404, None),
        ("GET", "/v3", 404, None),
        ("GET", "*", 404, None),
        ("POST", "/nowhere", 404, None),
        ("GET", "/healthz", 404, None),
        ("GET", "/readyz", 404, None),
        ("GET", "/metrics", 404, None),
        ("POST", "/publish", 404, None),
        ("GET", "/admin/connections", 404, None),
        ("POST", "/admin/drain", 404, None),
        ("GET", "/snapshot", 404, None),
        ("GET", "/history", 404, None),
        ("GET", "/%2e%2e/etc/passwd", 404, None),
        ("GET", "/history/../poll", 400, None),
        ("POST", "/poll", 405, {"GET"}),
        ("PUT", "/poll", 405, {"GET"}),
        ("DELETE", "/sse", 405, {"GET"}),
        ("POST", "/snapshot/state:1", 405, {"GET"}),
        ("PATCH", "/history/ev:1", 405, {"GET"}),
        ("OPTIONS", "/poll", 405, {"GET"}),
        ("TRACE", "/poll", 405, {"GET"}),
        ("CONNECT", "/poll", 405, {"GET"}),
        ("BREW", "/poll", 405, {"GET"}),
        ("POST", "/", 405, {"GET", "HEAD"}),
        ("POST", "/v2", 405, {"GET"}),
        ("POST", "/live", 405, {"GET"}),
        ("GET", "/v2", 426, None),
        ("GET", "/live", 426, None),
        ("GET", "/poll", 400, None),
        ("GET", "/poll?channels=", 400, None),
        ("GET", "/poll?channels=,,", 400, None),
    ],
)
def test_paths_and_methods(
    hub: HubProcess, method: str, target: str, status: int, allow: set[str] | None
) -> None:
    with RawPeer(hub.address) as peer:
        for _ in range(2):
            response = peer.ask(request(method, target))
            check_refusal(response, status)
            if allow is not None:
                assert set(response.headers["allow"].split(", ")) >= allow
            if status == 426:
                assert response.headers["upgrade"].lower() == "websocket"
            if response.headers.get("connection", "").endswith("close"):
                assert peer.read_to_end() == b""
                break


@pytest.mark.parametrize("path", ["/sse", "/poll"])
@pytest.mark.parametrize(
    "query, code",
    [
        ("", 40005),
        ("channels=nowhere", 40001),
        ("channels=ev:1,nowhere", 40001),
        ("channels=ev:%ff", 40005),
        ("channels=ev:%00", 40001),
        ("channels=ev:%ed%a0%80", 40005),
        ("channels=trades@doge_usdt", 40002),
        ("channels=fills", 40100),
        ("channels=positions", 40002),
        ("channels=" + ",".join(f"ev:{n}" for n in range(51)), 40003),
        ("channels=" + ",".join(f"ev:{n}" for n in range(201)), 40005),
        ("channels=ev:1&format=xml", 40005),
        ("channels=ev:1&format=", 40005),
        ("channels=ev:1&format=live&format=v2", 40005),
        ("channels=ev:1&cursor=x", 40005),
        ("channels=ev:1&cursor=%ff", 40005),
        ("channels=ev:1&cursor=%C3%A4", 40005),
        ("channels=ev:1&cursor=" + "A" * 2049, 40005),
        ("channels=ev:1&cursor=gQE", 40005),
        ("channels=ev:1&cursor=!!!!", 40005),
        ("channels=ev:1&lastSeq=7", 40005),
        ("channels=ev:1&lastSeq=%7B", 40005),
        ("channels=ev:1&lastSeq=NaN", 40005),
        ("channels=ev:1&lastSeq=%5B%5D", 40005),
        ("channels=ev:1&lastSeq=%7B%22ev:1%22:-1%7D", 40005),
        ("channels=ev:1&lastSeq=%7B%22ev:1%22:1.5%7D", 40005),
        ("channels=ev:1&lastSeq=%7B%22ev:1%22:1,%22ev:1%22:2%7D", 40005),
        ("channels=ev:1&lastSeq=%7B%22%5Cud800%22:%22x%22%7D", 40005),
        ("channels=ev:1&lastSeq=" + "%5B" * 2000, 40005),
    ],
)
def test_bad_queries_are_refused_before_anything_begins(
    http: httpx.Client, path: str, query: str, code: int
) -> None:
    check_query(http, f"{path}?{query}", code)


@pytest.mark.parametrize(
    "target",
    [
        *(
            f"/poll?channels=ev:1&wait={wait}"
            for wait in ("-1", "x", "nan", "inf", "1e9", "61", "", "1_0", "0x1")
        ),
        *(
            f"/history/ev:1?limit={limit}"
            for limit in ("0", "-1", "x", "1.5", "", "9" * 5000, "%C2%B2", "1_0")
        ),
        *(
            f"/history/ev:1?after={after}"
            for after in ("-1", "1.5", "", "9" * 5000, "%C2%B2", "+1", "x", "1_0")
        ),
        "/history/ev:1?format=xml",
        "/history/ev:1?after=1&after=2",
    ],
)
def test_bad_numbers_are_400(http: httpx.Client, target: str) -> None:
    check_query(http, target, 40005)


@pytest.mark.parametrize(
    "target, status, code",
    [
        ("/history/nowhere", None, 40001),
        ("/history/ev:%ff", None, 40001),
        ("/history/ev:1%2F2", None, 40001),
        ("/history/", None, 40001),
        ("/history/fills", 401, 40100),
        ("/history/positions", 404, 40002),
        ("/snapshot/nowhere", None, 40001),
        ("/snapshot/fills", 401, 40100),
        ("/snapshot/trades@doge_usdt", 404, 40002),
        ("/snapshot/ev:1", 404, 40002),
    ],
)
def test_bad_channels_are_named(http: httpx.Client, target: str, status: int | None, code: int) -> None:
    response = http.get(target)
    assert response.json().keys() == {"code", "msg", "channel"} and response.json()["code"] == code
    assert response.status_code == status if status else response.status_code in (400, 404)


def check_query(http: httpx.Client, target: str, code: int) -> None:
    with http.stream("GET", target) as response:  # an answer that would not end must not be awaited
        assert 400 <= response.status_code < 500
        assert response.headers["content-type"] == "application/json"
        body = json.loads(response.read())
    assert body["code"] == code and body["msg"]


# --- WebSocket handshakes -----------------------------------------------------------------------------------


def handshake(**changes: str | None) -> bytes:
    headers: dict[str, str | None] = {
        "Host": "hub.test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    return head(
        "GET /v2 HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value is not None)
    )


@pytest.mark.parametrize(
    "data, status",
    [
        (handshake(Upgrade=None), 426),
        (handshake(Upgrade="h2c"), 426),
        (handshake(Connection=None), 426),
        (handshake(Connection="keep-alive"), 426),
        (handshake(Sec_WebSocket_Version="8"), 426),
        (handshake(Sec_WebSocket_Version="0"), 426),
        (handshake(Sec_WebSocket_Version="14"), 426),
        (handshake(Sec_WebSocket_Version="13, 8"), 426),
        (handshake(Sec_WebSocket_Version=None), 426),
        (handshake(Sec_WebSocket_Version="thirteen"), 426),
        (handshake(Sec_WebSocket_Key=None), 400),
        (handshake(Sec_WebSocket_Key=""), 400),
        (handshake(Sec_WebSocket_Key="short"), 400),
        (handshake(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ"), 400),
        (handshake(Sec_WebSocket_Key="\xe4"), 400),
        (handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), 426),
        (handshake().replace(b"/v2", b"/poll"), 400),
        (handshake().replace(b"/v2", b"/nowhere"), 404),
        (handshake().replace(b"GET", b"POST"), 405),
    ],
)
def test_bad_handshakes(hub: HubProcess, data: bytes, status: int) -> None:
    with RawPeer(hub.address) as peer:
        response = peer.ask(data)
    check_refusal(response, status)
    if b"Version: 13" not in data:
        assert response.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize(
    "data",
    [
        handshake(Upgrade="WebSocket"),
        handshake(Connection="keep-alive, upgrade"),
        handshake(Origin="https://hub.test"),
        handshake(User_Agent="\xe4\xff"),
        handshake(Cookie="\xff"),
        handshake(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"),
        handshake(Host="HUB.test:80"),
        handshake().replace(b"/v2", b"/v2?token=SECRET-a&x=%ff"),
        handshake().replace(b"/v2", b"http://hub.test/v2"),
    ],
)
def test_good_handshakes(hub: HubProcess, data: bytes) -> None:
    with RawPeer(hub.address) as peer:
        peer.send(data)
        status, headers = peer.read_head()
        assert status == 101 and headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert ("sec-websocket-extensions" in headers) == (b"permessage-deflate" in data)
        assert peer.read_json()["event"] == "connected"


@pytest.mark.parametrize(
    "data",
    [
        handshake(Host="\xff"),
        handshake(Host="xn--\xff"),
        handshake(Host="a" * 300),
        handshake(Host="a..b"),
        handshake(Host=""),
        handshake(Sec_WebSocket_Protocol="\xff"),
        handshake(Sec_WebSocket_Protocol=", ,"),
        handshake(Sec_WebSocket_Protocol="x y"),
        handshake(Sec_WebSocket_Extensions="\xff"),
        handshake(Sec_WebSocket_Extensions=";;;=,"),
        handshake(Connection="Upgrade, \xff"),
        handshake(X="y").replace(b"X: y", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
        handshake().replace(b"\r\n", b"\n"),
        handshake(Content_Length="5") + b"hello",
        handshake(Transfer_Encoding="chunked") + b"0\r\n\r\n",
        handshake(Content_Length="0"),
        handshake(Expect="100-continue"),
    ],
)
def test_odd_handshakes_are_accepted_or_refused(hub: HubProcess, data: bytes) -> None:
    with RawPeer(hub.address) as peer:
        peer.send(data)
        status, headers = peer.read_head()
        if status == 101:
            assert peer.read_json()["event"] == "connected"
        else:
            check_refusal(Response(status, headers, peer.read(int(headers["content-length"]))), 400)


# --- HTTP as it may be --------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(hub: HubProcess) -> None:
    targets = ["/history/ev:http", "/nowhere", "/history/ev:http?limit=1", "/poll", "/v2", "/history/ev:http"]
    with RawPeer(hub.address) as peer:
        peer.send(b"".join(request("GET", target) for target in targets[:4]))
        assert [peer.read_response().status for _ in range(4)] == [200, 404, 200, 400]
        peer.send(b"".join(request("GET", target) for target in targets[4:]))
        assert peer.read_response().status == 426


def test_bodies_nobody_asked_for_are_passed_over(hub: HubProcess) -> None:
    chunked = head("GET /history/ev:http HTTP/1.1", HOST, "Transfer-Encoding: chunked")
    with RawPeer(hub.address) as peer:
        peer.send(request("GET", "/history/ev:http", body=b"GET /nowhere HTTP/1.1\r\n\r\n"))
        peer.send(chunked + b"5;x=y\r\nhello\r\n3\r\nyou\r\n0\r\nTrailer: x\r\n\r\n")
        peer.send(request("GET", "/nowhere"))
        assert [peer.read_response().status for _ in range(3)] == [200, 200, 404]


@pytest.mark.parametrize(
    "chunk", [b"x\r\n", b"-1\r\n", b"5\r\nhelloX\r\n", b"0x5\r\nhello\r\n", b"f" * 30 + b"\r\n"]
)
def test_bad_chunks_end_the_connection(hub: HubProcess, chunk: bytes) -> None:
    with RawPeer(hub.address) as peer:
        peer.send(
            head("GET /poll?channels=ev:http&wait=0 HTTP/1.1", HOST, "Transfer-Encoding: chunked")
            + chunk
            + GOOD
        )
        while peer.read_more():
            pass
        assert peer.buffer.count(b"HTTP/1.1 ") <= 2 and b"firstSeq" not in peer.buffer


def test_http_1_0(hub: HubProcess) -> None:
    with RawPeer(hub.address) as peer:
        response = peer.ask(b"GET /history/ev:http HTTP/1.0\r\n\r\n")
        assert response.status == 200 and response.json()["channel"] == "ev:http"
        assert peer.read_to_end() == b""


def test_head_has_no_body(hub: HubProcess) -> None:
    with RawPeer(hub.address) as peer:
        for target, status in (("/poll", 405), ("/nowhere", 404), ("/", 200)):
            peer.send(request("HEAD", target))
            assert peer.read_response(is_head=True).status in (status, 404 if target == "/" else status)
        assert peer.ask(GOOD).status == 200


def test_expect_continue(hub: HubProcess, publisher: Publisher) -> None:
    body = b'{"channel":"ev:expect","data":1}'
    with RawPeer(hub.admin_address) as peer:
        for _ in range(2):
            peer.send(
                head("POST /publish HTTP/1.1", HOST, "Expect: 100-continue", f"Content-Length: {len(body)}")
            )
            assert peer.read_head()[0] == 100
            peer.send(body)
            assert peer.read_response().status == 200


@pytest.mark.parametrize(
    "headers", [["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"]]
)
def test_an_upgrade_to_http_2_is_passed_over(hub: HubProcess, headers: list[str]) -> None:
    with RawPeer(hub.address) as peer:
        for _ in range(2):
            assert peer.ask(request("GET", "/history/ev:http", *headers)).status == 200


def test_the_absolute_form_is_taken(hub: HubProcess) -> None:
    """RFC 9112, section 3.2.2: a server must."""
    with RawPeer(hub.address) as peer:
        assert peer.ask(request("GET", "http://hub.test/history/ev:http?limit=5")).status == 200


def test_an_escaped_channel_is_taken(http: httpx.Client) -> None:
    assert http.get("/history/ev%3Ahttp").json()["channel"] == "ev:http"


def test_half_closed_clients_get_their_answer(hub: HubProcess) -> None:
    """As of ``printf ... | nc``: the request is whole, and only our reading half has ended."""
    with RawPeer(hub.address) as peer:
        peer.send(request("GET", "/history/ev:http"))
        peer.socket.shutdown(1)
        assert peer.read_response().status == 200


def test_no_refusal_repeats_what_was_secret(hub: HubProcess) -> None:
    requests = [
        upgrade_request("/v2?token=SECRET-b", "Authorization: Bearer SECRET-c"),
        upgrade_request("/v2?token=SECRET-d").replace(b"13", b"12"),
        request("GET", "/poll?channels=nowhere&token=SECRET-e", "Authorization: Bearer SECRET-f"),
        request("GET", "/sse?token=SECRET-g"),
        request("GET", "/history/ev:1?token=SECRET-h"),
        request("GET", "/nowhere?token=SECRET-i"),
        b"GET /poll?token=SECRET-j HTTP/1.1\r\nAuthorization Bearer SECRET-k\r\n\r\n",
        b"GET /poll?token=SECRET-l HTTP/9.9\r\nHost: h\r\n\r\n",
        request("GET", "/poll?channels=ev:1&cursor=SECRET-m"),
        request("GET", "/poll?channels=ev:1&lastSeq=SECRET-n"),
    ]
    for data in requests:
        with RawPeer(hub.address) as peer:
            peer.send(data)
            peer.read_head()
    assert "SECRET" not in "\n".join(hub.raw_log)


Naming = Callable[[str], str]
