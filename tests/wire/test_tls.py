"""The public port with TLS of its own: the same protocols, over a stream without a fast path.

``tls/`` holds a self-signed certificate for localhost and 127.0.0.1, and its key, valid for a hundred years::

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem \
        -out certificate.pem -days 36500 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import websockets.sync.client
from httpx_sse import connect_sse

from tests.hub_process import HubProcess, running_hub
from tests.wire.conftest import CONFIG
from tests.wire.laggards import KINDS, PRIMING, Laggard, fill, metric, publish, wait_until
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import CLOSE, PATIENCE, RawPeer, request, upgrade_request

Naming = Callable[[str], str]
FILES = Path(__file__).with_name("tls")
SETTINGS = [
    f"server.tls_certificate={FILES / 'certificate.pem'}",
    f"server.tls_key={FILES / 'key.pem'}",
    "server.send_buffer=8KB",
    "server.not_sent_low_water=4KB",
    "server.user_timeout=0",
]


class TlsPeer(RawPeer):
    """The client made of bytes, over TLS. Unless ``is_lenient``, an end without close_notify is an error."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        receive_buffer: int = 0,
        context: ssl.SSLContext | None = None,
        is_lenient: bool = True,
    ) -> None:
        super().__init__(address, receive_buffer=receive_buffer)
        context = context or client_context()
        try:
            self.socket: socket.socket = context.wrap_socket(
                self.socket, server_hostname="localhost", suppress_ragged_eofs=is_lenient
            )
        except OSError:
            self.socket.close()
            raise


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=FILES / "certificate.pem")


@contextmanager
def secure_websocket(hub: HubProcess, path: str = "/v2") -> Iterator[TlsPeer]:
    peer = TlsPeer(hub.address)
    with peer:
        peer.upgrade(path)
        if path == "/v2":
            assert peer.read_json()["event"] == "connected"
        yield peer


@pytest.fixture(scope="module")
def tls_hub() -> Iterator[HubProcess]:
    with running_hub(CONFIG, *SETTINGS) as hub:
        yield hub


@pytest.fixture(scope="module")
def publisher(tls_hub: HubProcess) -> Iterator[Publisher]:
    publisher = Publisher(tls_hub)
    yield publisher
    publisher.close()


# --- what works ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_event_comes(
    tls_hub: HubProcess, publisher: Publisher, name: Naming, kind: str, version: ssl.TLSVersion
) -> None:
    context, channel = client_context(), name("ev")
    context.minimum_version = context.maximum_version = version
    with TlsPeer(tls_hub.address, context=context) as peer:
        client = Laggard(peer, kind, channel)
        for head in range(100, 1100, 100):
            publish(publisher, channel, 100, size=300)
            client.read_up_to(head)
        assert client.runs == [("events", 1, 1000)] and not client.system


def test_stock_clients(tls_hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel, url = name("state"), tls_hub.public_url
    assert url.startswith("https://127.0.0.1:") and tls_hub.websocket_url.startswith("wss://")
    publisher.publish(channel, "first")
    with websockets.sync.client.connect(
        f"{tls_hub.websocket_url}/v2", ssl=client_context(), proxy=None
    ) as socket:
        assert json.loads(socket.recv())["event"] == "connected"
        socket.send(json.dumps({"method": "subscribe", "params": [channel], "id": 1}))
        assert json.loads(socket.recv())["data"]["subscribed"] == [channel]
        assert json.loads(socket.recv())["data"] == "first"
    with httpx.Client(base_url=url, verify=client_context(), trust_env=False) as client:
        cursor = client.get(f"/poll?channels={channel}").json()["cursor"]
        publisher.publish(channel, "second")
        (event,) = client.get(f"/poll?channels={channel}&cursor={cursor}").json()["events"]
        assert event["data"] == "second"
        assert client.get(f"/snapshot/{channel}").json()["data"] == "second"
        assert client.get("/nowhere").status_code == 404
        with connect_sse(client, "GET", "/sse", params={"channels": channel}) as source:
            events = (json.loads(event.data)["event"] for event in source.iter_sse())
            assert [next(events), next(events)] == ["subscribed", "snapshot"]


def test_a_long_history_comes_whole(tls_hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    publish(publisher, channel, 1000, size=900)
    with TlsPeer(tls_hub.address, receive_buffer=4096) as peer:
        response = peer.ask(request("GET", f"/history/{channel}?limit=1000"))
    assert [event["seq"] for event in response.json()["events"]] == list(range(1, 1001))


# --- slow readers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_dropped_is_told_exactly(
    tls_hub: HubProcess, publisher: Publisher, name: Naming, kind: str
) -> None:
    channel, before, head = name("ev"), dropped(tls_hub), PRIMING + 256 + 500
    with TlsPeer(tls_hub.address, receive_buffer=2048) as peer:
        laggard = Laggard(peer, kind, channel)
        fill(tls_hub, publisher, channel)
        publish(publisher, channel, 256 + 500)
        wait_until(lambda: dropped(tls_hub) - before >= 500, "what is beyond the limit to be dropped")
        laggard.wake()
        laggard.read_up_to(head)
    assert laggard.runs == [
        ("events", 1, PRIMING),
        ("drop", PRIMING + 1, head - 256),
        ("events", head - 255, head),
    ]
    (warning,) = laggard.system_data("slow_consumer")
    assert 100 < warning["dropped"] <= 500
    assert dropped(tls_hub) - before == 500


@pytest.mark.parametrize("kind", KINDS)
def test_a_hopeless_client_learns_why(
    tls_hub: HubProcess, publisher: Publisher, name: Naming, kind: str
) -> None:
    channel, before = name("replay"), metric(tls_hub, "ws_slow_consumer_disconnects_total")
    with TlsPeer(tls_hub.address, receive_buffer=2048) as peer:
        laggard = Laggard(peer, kind, channel)
        fill(tls_hub, publisher, channel)
        publish(publisher, channel, 1500)
        wait_until(
            lambda: metric(tls_hub, "ws_slow_consumer_disconnects_total") == before + 1, "it to be given up"
        )
        laggard.wake()
        laggard.read_to_end()
    (farewell,) = laggard.system_data("disconnecting")
    assert farewell["code"] == 4000 and laggard.close_code in (4000, None)
    ((run, first, _),) = laggard.runs
    assert (run, first) == ("events", 1)


def dropped(hub: HubProcess) -> float:
    return metric(hub, "ws_messages_dropped_total", reason="slow_consumer")


# --- what is refused ----------------------------------------------------------------------------------------


def client_hello(version: int) -> bytes:
    """What a client says that knows nothing newer than ``version`` (0x0302 is TLS 1.1), as libraries of today
    no longer would."""
    suites = bytes.fromhex("c009c00ac013c014002f0035")
    # Groups, point formats, signature algorithms.
    extensions = bytes.fromhex("000a000600040017001d000b00020100000d0006000404030804")
    body = version.to_bytes(2, "big") + bytes(range(32)) + b"\0"
    body += (
        len(suites).to_bytes(2, "big") + suites + b"\1\0" + len(extensions).to_bytes(2, "big") + extensions
    )
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\3\1" + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302], ids=["SSL 3", "TLS 1.0", "TLS 1.1"])
def test_old_versions_are_refused(tls_hub: HubProcess, version: int) -> None:
    with RawPeer(tls_hub.address) as peer:
        peer.send(client_hello(version))
        answer = peer.read_to_end()
    assert not answer.startswith(b"\x16"), "the handshake goes on"


def test_the_hello_of_these_tests_is_a_good_one(tls_hub: HubProcess) -> None:
    """With a version and a cipher suite that are allowed the same hello is answered."""
    hello = client_hello(0x0303).replace(bytes.fromhex("c009"), bytes.fromhex("c02b"))
    with RawPeer(tls_hub.address) as peer:
        peer.send(hello)
        assert peer.receive().startswith(b"\x16\3\3")


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA"])
def test_only_authenticated_encryption(tls_hub: HubProcess, cipher: str) -> None:
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        TlsPeer(tls_hub.address, context=context)


@pytest.mark.parametrize(
    "said",
    [
        request("GET", "/poll?channels=ev:1"),
        upgrade_request("/v2"),
        b"\x16\3\1\xff\xff" + bytes(70_000),
        b"\0",
    ],
    ids=["HTTP", "WebSocket", "garbage after a good start", "a byte"],
)
def test_what_is_no_tls_is_closed(tls_hub: HubProcess, said: bytes) -> None:
    with RawPeer(tls_hub.address) as peer:
        try:
            peer.send(said)
        except ConnectionError:  # it did not even listen to the end
            pass
        answer = peer.read_to_end()
    assert b"HTTP/" not in answer and not answer.startswith(b"\x16")


@pytest.mark.parametrize("said", [b"", client_hello(0x0303)[:20]], ids=["nothing", "half a hello"])
def test_who_is_silent_is_closed(tls_hub: HubProcess, said: bytes) -> None:
    with RawPeer(tls_hub.address) as peer:
        peer.send(said)
        assert not peer.read_to_end().startswith(b"\x16")


def test_who_is_silent_after_the_handshake_is_closed(tls_hub: HubProcess) -> None:
    with TlsPeer(tls_hub.address) as peer:
        assert peer.read_to_end() == b""


def test_a_request_that_never_ends_is_refused(tls_hub: HubProcess) -> None:
    with TlsPeer(tls_hub.address) as peer:
        peer.send(b"GET /poll HT")
        assert peer.read_response().status == 408
        assert peer.read_to_end() == b""


# --- ends ---------------------------------------------------------------------------------------------------


def test_no_descriptor_is_left_behind() -> None:
    with running_hub(CONFIG, *SETTINGS) as hub, ExitStack() as stack:
        metric(hub, "ws_connections_active")  # whatever is opened once is open now
        resting = hub.descriptors()
        for end in ("close", "reset") * 3:
            silent: RawPeer = stack.enter_context(RawPeer(hub.address))
            idle = stack.enter_context(TlsPeer(hub.address))
            peers = [stack.enter_context(TlsPeer(hub.address)) for _ in KINDS]
            for peer, kind in zip(peers, KINDS, strict=True):
                Laggard(peer, kind, "ev:1")
            for leaving in (silent, idle, *peers):
                getattr(leaving, end)()
        wait_until(lambda: hub.descriptors() <= resting, "the descriptors of those who left")


@pytest.mark.parametrize("path", ["/v2", "/live"])
def test_the_closing_handshake(tls_hub: HubProcess, path: str) -> None:
    with secure_websocket(tls_hub, path) as peer:
        peer.send_frame(CLOSE, (1000).to_bytes(2, "big"))
        _, code, _ = peer.read_to_close()
        assert code == 1000 and peer.read_to_end() == b""


@pytest.mark.parametrize(
    "said",
    [
        request("GET", "/poll?channels=ev:1&wait=0", "Connection: close"),
        b"GET /history/ev:1 HTTP/1.0\r\nHost: hub.test\r\n\r\n",
    ],
    ids=["Connection: close", "HTTP/1.0"],
)
def test_the_answer_ends_the_connection(tls_hub: HubProcess, said: bytes) -> None:
    with TlsPeer(tls_hub.address) as peer:
        peer.socket.settimeout(PATIENCE / 4)
        assert peer.ask(said).status == 200
        assert peer.read_to_end() == b""


def test_the_end_is_announced(tls_hub: HubProcess) -> None:
    """TLS has an end of its own (close_notify), without which an answer may have been cut by anybody."""
    with TlsPeer(tls_hub.address, is_lenient=False) as peer:
        peer.send(b"nonsense\r\n\r\n")
        assert peer.read_response().status == 400
        assert peer.read_to_end() == b""


def test_drain() -> None:
    with running_hub(CONFIG, *SETTINGS) as hub, ExitStack() as stack:
        publisher = Publisher(hub)
        stack.callback(publisher.close)
        clients = [Laggard(stack.enter_context(TlsPeer(hub.address)), kind, "ev:1") for kind in KINDS * 3]
        stuck = [stack.enter_context(TlsPeer(hub.address, receive_buffer=2048)) for _ in KINDS]
        for peer, kind in zip(stuck, KINDS, strict=True):
            Laggard(peer, kind, "ev:stuck")
        idle = stack.enter_context(TlsPeer(hub.address))
        silent = stack.enter_context(RawPeer(hub.address))
        fill(hub, publisher, "ev:stuck", stuck=len(stuck))
        publisher.publish("ev:1", 1, 2, 3)
        hub.terminate()
        for client in clients:
            client.read_to_end()
            (farewell,) = client.system_data("disconnecting")
            assert farewell["code"] == 1001 and client.close_code in (1001, None)
            assert client.runs == [("events", 1, 3)]
        assert idle.read_to_end() == silent.read_to_end() == b""
        assert hub.wait_exit() == 0
