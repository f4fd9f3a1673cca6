"""Every error code and every close code of stream-v2.md, provoked over the wire; over HTTP too, where it exists."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from hub.sansio.errors import CloseCode, ErrorCode
from tests.auth.tokens import Issuer
from tests.hub_process import HubProcess, running_hub
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import BINARY, CLOSE, TEXT, RawPeer, frame, request, websocket

#: What the documents promise (stream-v2.md, "Error codes in answers", "Leaving" and the table after them).
ERROR_CODES = {0, 40001, 40002, 40003, 40004, 40005, 40006, 40100, 40101, 40102, 50000, 50001}
CLOSE_CODES = {1000, 1001, 1002, 1003, 1007, 1009, 4000, 4001, 4003, 4029, 4030, 4040}

CONFIG = """
[server]
send_buffer = "8KB"          # so that a client that does not read is behind at once
not_sent_low_water = "4KB"
drain_window = "2s"
drain_deadline = "5s"

[limits]
connections_per_ip = 0
requests_per_ip = 0
failed_logins_per_ip = 0

[tiers.anonymous]
channels_per_connection = 3
[tiers.retail]
connections_per_user = 1
channels_per_user = 2

[auth]
jwt_algorithms = ["ES256"]
jwt_key_files = ["k1={public_key}"]
expiry_grace = "0s"
leeway = "0s"

[provider]
timeout = "0.2s"

[channels]
markets = ["btc_tl"]

[namespaces.plain]
pattern = "ev:*"
[namespaces.ticker]
pattern = "ticker@{market}"
snapshot = "last"
[namespaces.slow]
pattern = "slow:*"
lag_limit = 10
on_lag = "close"
[namespaces.fills]
pattern = "fills"
private = true
[namespaces.positions]
pattern = "positions"
private = true
available = false
[namespaces.staff]
pattern = "staff:*"
allow = ["role:staff"]
[namespaces.silent]
pattern = "silent:*"
snapshot = "last"
provider = "http://127.0.0.1:{silent_port}/state/{channel}"
"""


@attrs.frozen
class Bench:
    """A hub with an issuer of tokens whom it trusts, and a back end that does not answer."""

    hub: HubProcess
    issuer: Issuer
    config: Path

    # --- clients ------------------------------------------------------------------------------------------

    def bearer(self, user: str = "alice", **claims: Any) -> tuple[str, ...]:
        return (f"Authorization: Bearer {self.issuer.token(user, **claims)}",)

    def ask(self, *frames: Mapping[str, Any], headers: tuple[str, ...] = ()) -> Any:
        """Sends frames over one `/v2`; the answer to the last."""
        answer = None
        with websocket(self.hub.address, "/v2", *headers) as peer:
            for value in frames:
                peer.send_json(value)
                answer = peer.read_json()
        return answer

    def get(self, target: str, headers: tuple[str, ...] = (), method: str = "GET") -> tuple[int, Any]:
        with RawPeer(self.hub.address) as peer:
            response = peer.ask(request(method, target, *headers, "Connection: close"))
        return response.status, response.json()

    def order(self, path: str) -> None:
        with httpx.Client(base_url=self.hub.admin_url, trust_env=False) as client:
            assert client.post(path).status_code in (200, 202)

    @contextmanager
    def other_hub(self, *settings: str) -> Iterator[Bench]:
        """Another hub of the same kind, which may be led astray."""
        with running_hub(self.config, *settings) as hub:
            yield attrs.evolve(self, hub=hub)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("codes")
    issuer = Issuer("ES256")
    public_key, config = folder / "issuer.pem", folder / "hub.toml"
    public_key.write_text(issuer.public_pem)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts; nobody answers
        text = CONFIG.replace("{public_key}", str(public_key))
        config.write_text(text.replace("{silent_port}", str(silent.getsockname()[1])))
        with running_hub(config) as hub:
            hub.expected_errors.add("snapshot failed")
            yield Bench(hub, issuer, config)


def subscribe(*channels: str, id_: int = 1) -> dict[str, Any]:
    return {"method": "subscribe", "params": list(channels), "id": id_}


def ping(id_: int = 1) -> dict[str, Any]:
    return {"method": "ping", "id": id_}


def auth(token: str) -> dict[str, Any]:
    return {"method": "auth", "params": [token], "id": 2}


# --- error codes --------------------------------------------------------------------------------------------


def too_many_pings(bench: Bench) -> Any:
    return bench.ask(*map(ping, range(1, 7)))


def too_many_requests(bench: Bench) -> tuple[int, Any]:
    with bench.other_hub("limits.requests_per_ip=1") as other:
        for _ in range(2):
            assert other.get("/history/ev:1")[0] == 200
        return other.get("/history/ev:1")


def another_users_token(bench: Bench) -> Any:
    return bench.ask(auth(bench.issuer.token("bob")), headers=bench.bearer("alice"))


@contextmanager
def full_hub(bench: Bench) -> Iterator[Bench]:
    """One channel is all there is room for, and it is in use."""
    with bench.other_hub("limits.channels_total=1") as other, websocket(other.hub.address) as holder:
        holder.send_json(subscribe("ev:1"))
        assert holder.read_json()["code"] == 0
        yield other


def no_room(bench: Bench) -> Any:
    with full_hub(bench) as other:
        return other.ask(subscribe("ev:2"))


def no_room_over_http(bench: Bench) -> tuple[int, Any]:
    with full_hub(bench) as other:
        return other.get("/poll?channels=ev:2&wait=0")


@attrs.frozen
class Refusal:
    """An error code: what provokes it on `/v2`, and over HTTP with which status."""

    code: int
    how: str
    over_v2: Callable[[Bench], Any]
    over_http: Callable[[Bench], tuple[int, Any]] | None = None
    status: int = 0


REFUSALS = [
    Refusal(0, "a subscribe", lambda b: b.ask(subscribe("ev:1")), lambda b: b.get("/history/ev:1"), 200),
    Refusal(0, "a part of a subscribe", lambda b: b.ask(subscribe("ev:1", "nonsense"))),
    Refusal(40001, "no namespace's name", lambda b: b.ask(subscribe("nonsense")),
            lambda b: b.get("/poll?channels=nonsense"), 400),
    Refusal(40001, "not a name", lambda b: b.ask(subscribe("ev: 1")), lambda b: b.get("/history/ev:%201"), 400),
    Refusal(40001, "a name of 65 characters", lambda b: b.ask(subscribe("ev:" + "x" * 62))),
    Refusal(40002, "unknown market", lambda b: b.ask(subscribe("ticker@doge_tl")),
            lambda b: b.get("/snapshot/ticker@doge_tl"), 404),
    Refusal(40002, "positions", lambda b: b.ask(subscribe("positions"), headers=b.bearer()),
            lambda b: b.get("/history/positions", b.bearer()), 404),
    Refusal(40003, "a fourth channel", lambda b: b.ask(subscribe("ev:1", "ev:2", "ev:3"), subscribe("ev:4", id_=2)),
            lambda b: b.get("/poll?channels=ev:1,ev:2,ev:3,ev:4"), 400),
    Refusal(40003, "a user's third channel",
            lambda b: b.ask(subscribe("ev:1", "ev:2"), subscribe("ev:3", id_=2), headers=b.bearer("many"))),
    Refusal(40004, "a sixth ping in a second", too_many_pings, too_many_requests, 429),
    Refusal(40005, "no id", lambda b: b.ask({"method": "ping"}), lambda b: b.get("/poll?channels=ev:1&wait=x"), 400),
    Refusal(40005, "a bad lastSeq", lambda b: b.ask({**subscribe("ev:1"), "lastSeq": {"ev:1": -1}}),
            lambda b: b.get("/sse?channels=ev:1&lastSeq={"), 400),
    Refusal(40006, "unknown method", lambda b: b.ask({"method": "dance", "id": 1}),
            lambda b: b.get("/poll?channels=ev:1", method="POST"), 405),
    Refusal(40100, "a private channel", lambda b: b.ask(subscribe("fills")),
            lambda b: b.get("/poll?channels=fills"), 401),
    Refusal(40100, "staff's channel, for nobody", lambda b: b.ask(subscribe("staff:1")),
            lambda b: b.get("/history/staff:1"), 401),
    Refusal(40100, "a token that is none", lambda b: b.ask(auth("x.y.z")),
            lambda b: b.get("/history/ev:1?token=x.y.z"), 401),
    Refusal(40101, "a token of yesterday", lambda b: b.ask(auth(b.issuer.token("alice", expires_in=-86400))),
            lambda b: b.get("/history/ev:1", b.bearer(expires_in=-86400)), 401),
    Refusal(40102, "staff's channel", lambda b: b.ask(subscribe("staff:1"), headers=b.bearer("mallory")),
            lambda b: b.get("/history/staff:1", b.bearer("mallory")), 403),
    Refusal(40102, "another user's token", another_users_token),
    Refusal(50000, "a back end that does not answer", lambda b: b.ask(subscribe("silent:1")),
            lambda b: b.get("/snapshot/silent:1"), 500),
    Refusal(50000, "the same, on a stream", lambda b: b.ask(subscribe("silent:2")),
            lambda b: b.get("/sse?channels=silent:2"), 500),
    Refusal(50001, "no room for another channel", no_room, no_room_over_http, 503),
]  # fmt: skip


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: f"{refusal.code}, {refusal.how}")
def test_error_code(bench: Bench, refusal: Refusal) -> None:
    answer = refusal.over_v2(bench)
    if refusal.code:
        assert answer["code"] == refusal.code and answer["msg"]
        for error in answer.get("data", {}).get("errors", []):
            assert error["code"] == refusal.code and error["msg"] and error["channel"]
    else:
        assert answer.get("code", 0) == 0


@pytest.mark.parametrize(
    "refusal",
    [refusal for refusal in REFUSALS if refusal.over_http is not None],
    ids=lambda refusal: f"{refusal.code}, {refusal.how}",
)
def test_error_code_over_http(bench: Bench, refusal: Refusal) -> None:
    assert refusal.over_http is not None
    status, body = refusal.over_http(bench)
    assert status == refusal.status
    assert body.get("code", 0) == refusal.code and (not refusal.code or body["msg"])


def test_no_error_code_is_missing() -> None:
    assert {refusal.code for refusal in REFUSALS} == ERROR_CODES == {0, *map(int, ErrorCode)}


# --- close codes --------------------------------------------------------------------------------------------

End = tuple[list[Any], int, str]


def sending(data: bytes, *headers: str) -> Callable[[Bench], End]:
    """A client that sends ``data`` and reads to the end."""

    def provoke(bench: Bench) -> End:
        with websocket(bench.hub.address, "/v2", *headers) as peer:
            peer.send(data)
            return peer.read_to_close()

    return provoke


def drained(path: str) -> Callable[[Bench], End]:
    def provoke(bench: Bench) -> End:
        with bench.other_hub() as other, websocket(other.hub.address) as peer:
            other.order(path)
            end = peer.read_to_close()
            peer.send_frame(CLOSE, end[1].to_bytes(2, "big"))
            assert other.hub.wait_exit() == 0
            return end

    return provoke


def idle(bench: Bench) -> End:
    settings = ["limits.idle_timeout=1s", "transports.websocket.ping_interval=60s"]
    with bench.other_hub(*settings) as other, websocket(other.hub.address) as peer:
        return peer.read_to_close()


def not_reading(bench: Bench) -> End:
    publisher = Publisher(bench.hub)
    with websocket(bench.hub.address, receive_buffer=4096) as peer:
        peer.send_json(subscribe("slow:1"))
        assert peer.read_json()["code"] == 0
        for _ in range(20):
            publisher.publish("slow:1", *["x" * 2000] * 20)
        publisher.close()
        return peer.read_to_close()


def with_headers(make: Callable[[Bench], tuple[str, ...]]) -> Callable[[Bench], End]:
    """A client that is sent away because of what it brought."""

    def provoke(bench: Bench) -> End:
        with websocket(bench.hub.address, "/v2", *make(bench)) as peer:
            return peer.read_to_close()

    return provoke


def revoked(bench: Bench) -> End:
    with websocket(bench.hub.address, "/v2", *bench.bearer("eve")) as peer:
        bench.order("/admin/disconnect?userId=eve&reason=token_revoked")
        end = peer.read_to_close()
        assert end[2] == "token_revoked"
        return end


def flooding(bench: Bench) -> End:
    with websocket(bench.hub.address) as peer:
        peer.send(frame(TEXT, json.dumps(ping()).encode()) * 60)
        events, code, reason = peer.read_to_close()
        assert [event["code"] for event in events if event.get("id") and "code" in event] == [40004] * 10
        assert events[-1]["retryAfterMs"] == 30_000
        return events, code, reason


def one_too_many(bench: Bench) -> End:
    with ExitStack() as stack:
        peers = [
            stack.enter_context(websocket(bench.hub.address, "/v2", *bench.bearer("twin"))) for _ in range(2)
        ]
        end = peers[1].read_to_close()
        assert end[0][-1]["retryAfterMs"] > 0
        return end


def maintained(bench: Bench) -> End:
    events, code, reason = drained("/admin/drain?maintenance=60s")(bench)
    assert events[-1]["retryAfterMs"] >= 60_000
    return events, code, reason


@attrs.frozen
class Leaving:
    """A close code: what provokes it, and whether the client is told in words before."""

    code: int
    how: str
    provoke: Callable[[Bench], End]
    is_told: bool = True


LEAVINGS = [
    Leaving(1000, "the client closes", sending(frame(CLOSE, (1000).to_bytes(2, "big"))), is_told=False),
    Leaving(1001, "a drain", drained("/admin/drain")),
    Leaving(1001, "a client that says nothing", idle),
    Leaving(1002, "an unmasked frame", sending(frame(TEXT, b"{}", is_masked=False)), is_told=False),
    Leaving(1002, "a reserved bit", sending(frame(TEXT, b"{}", reserved=2)), is_told=False),
    Leaving(1003, "binary on JSON", sending(frame(BINARY, b"\xa0"))),
    Leaving(1007, "text that is not UTF-8", sending(frame(TEXT, b"\xff")), is_told=False),
    Leaving(1009, "a frame of more than 4 KB", sending(frame(TEXT, b"x" * 4097))),
    Leaving(4000, "a client that does not read", not_reading),
    Leaving(4001, "invalid JSON", sending(frame(TEXT, b"{"))),
    Leaving(4003, "a forged token", with_headers(lambda b: (f"Authorization: Bearer {Issuer('ES256').token('a')}",))),
    Leaving(4003, "an expired token", with_headers(lambda b: b.bearer(expires_in=-86400))),
    Leaving(4003, "a token that expires", with_headers(lambda b: b.bearer("brief", expires_in=2))),
    Leaving(4003, "an operator's word", revoked),
    Leaving(4029, "sixty pings in a second", flooding),
    Leaving(4030, "a user's second connection", one_too_many),
    Leaving(4040, "maintenance", maintained),
]  # fmt: skip


@pytest.mark.parametrize("leaving", LEAVINGS, ids=lambda leaving: f"{leaving.code}, {leaving.how}")
def test_close_code(bench: Bench, leaving: Leaving) -> None:
    events, code, reason = leaving.provoke(bench)
    assert code == leaving.code
    told = [event for event in events if event.get("event") == "disconnecting"]
    if leaving.is_told:
        assert told == events[-1:]
        assert told[0].keys() == {"event", "code", "msg", "retryAfterMs"}
        assert (told[0]["code"], told[0]["msg"]) == (code, reason) and reason
    else:
        assert not told


def test_no_close_code_is_missing() -> None:
    sent = {int(code) for code in CloseCode} - {CloseCode.ABNORMAL}  # which is never sent
    assert {leaving.code for leaving in LEAVINGS} == CLOSE_CODES == sent


# --- the same, on a stream that has no close codes ------------------------------------------------------------


@contextmanager
def stream(bench: Bench, *headers: str) -> Iterator[RawPeer]:
    """An open `/sse` in `/v2`'s format."""
    with RawPeer(bench.hub.address) as peer:
        peer.send(request("GET", "/sse?channels=ev:1&format=v2", *headers))
        assert peer.read_head()[0] == 200
        assert b'"connected"' in peer.read_until(b"\n\n\r\n")
        yield peer


def last_event(peer: RawPeer) -> Any:
    """The last event of a stream that ends well."""
    *_, last = [chunk for chunk in peer.chunks() if b"data: " in chunk]
    return json.loads(last.partition(b"data: ")[2])


@pytest.mark.parametrize(
    "code, path", [(1001, "/admin/drain"), (4040, "/admin/drain?maintenance=60s")], ids=["1001", "4040"]
)
def test_a_drain_on_a_stream(bench: Bench, code: int, path: str) -> None:
    with bench.other_hub() as other, stream(other) as peer:
        other.order(path)
        told = last_event(peer)
        assert other.hub.wait_exit() == 0
    assert (told["event"], told["code"]) == ("disconnecting", code)


def test_4003_on_a_stream(bench: Bench) -> None:
    with stream(bench, *bench.bearer("eve")) as peer:
        bench.order("/admin/disconnect?userId=eve")
        assert last_event(peer)["code"] == 4003
    status, body = bench.get("/sse?channels=ev:1", bench.bearer(expires_in=-86400))
    assert (status, body["code"]) == (401, 40101)


def test_4030_on_a_stream(bench: Bench) -> None:
    """It is refused before it begins: 429, and where to go on."""
    with stream(bench, *bench.bearer("triplet")):
        with RawPeer(bench.hub.address) as peer:
            response = peer.ask(request("GET", "/sse?channels=ev:1", *bench.bearer("triplet")))
    assert (response.status, response.json()["code"]) == (429, 40004)
    assert int(response.headers["retry-after"]) > 0
