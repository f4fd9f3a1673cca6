"""SIGTERM: everybody is told, nobody can hold it up, and the exit code is 0."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.hub_process import HubProcess, running_hub
from tests.wire.conftest import CONFIG
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import CLOSE, RawPeer, request, websocket


@pytest.fixture
def leaving() -> Iterator[HubProcess]:
    # Without the kernel's own patience, so that nothing but the hub ends a stuck connection.
    with running_hub(CONFIG, "server.user_timeout=0") as hub:
        yield hub


def test_websockets_are_told_and_closed_with_1001(leaving: HubProcess) -> None:
    with ExitStack() as stack:
        peers = [
            stack.enter_context(websocket(leaving.address, path))
            for path in ("/v2", "/live")
            for _ in range(10)
        ]
        peers[0].send_json({"method": "subscribe", "params": ["ev:1"], "id": 1})
        assert peers[0].read_json()["code"] == 0
        leaving.terminate()
        spread = set()
        for peer in peers:
            events, code, reason = peer.read_to_close()
            last = events[-1]
            told = last.get("data", last)
            assert last["event"] == "disconnecting" and code == told["code"] == 1001
            assert told["msg"] and reason == told["msg"] and 0 <= told["retryAfterMs"] <= 3000
            spread.add(told["retryAfterMs"])
            peer.send_frame(CLOSE, (1001).to_bytes(2, "big"))
            assert peer.read_to_end() == b""
        assert len(spread) > 5
        assert leaving.wait_exit() == 0


@pytest.mark.parametrize("format_", ["live", "v2"])
def test_event_streams_are_told_and_end_cleanly(leaving: HubProcess, format_: str) -> None:
    publisher = Publisher(leaving)
    with RawPeer(leaving.address) as peer:
        peer.send(request("GET", f"/sse?channels=ev:1&format={format_}"))
        peer.read_head()
        chunks = peer.chunks()
        next(chunks)
        publisher.publish("ev:1", 1)
        while next(chunks) == b":\n":
            pass
        publisher.close()
        leaving.terminate()
        blocks = [chunk.decode() for chunk in chunks if chunk != b":\n"]  # up to the last chunk
        assert peer.read_to_end() == b""
    (block,) = blocks
    id_, data, *rest = block.split("\n")
    event = json.loads(data.removeprefix("data: "))
    assert id_.startswith("id: ") and rest == ["", ""] and event["event"] == "disconnecting"
    assert (event.get("data") or event)["code"] == 1001
    assert leaving.wait_exit() == 0


def test_a_waiting_poll_is_answered(leaving: HubProcess) -> None:
    with httpx.Client(base_url=leaving.public_url, trust_env=False) as client:
        cursor = client.get("/poll?channels=ev:1").json()["cursor"]
    with RawPeer(leaving.address) as peer:
        peer.send(request("GET", f"/poll?channels=ev:1&cursor={cursor}&wait=60"))
        wait_for_poll(leaving)
        leaving.terminate()
        response = peer.read_response()
        assert (response.status, response.json()["events"]) == (200, [])
        assert peer.read_to_end() == b""
    assert leaving.wait_exit() == 0


def wait_for_poll(hub: HubProcess) -> None:
    with httpx.Client(trust_env=False) as client:
        for _ in range(2000):
            lines = client.get(f"{hub.admin_url}/metrics").text.splitlines()
            if any(line.startswith("hub_polls_waiting") and line.endswith(" 1.0") for line in lines):
                return
    raise AssertionError("no poll waits")


def test_nobody_holds_it_up(leaving: HubProcess) -> None:
    """Clients of every kind that read nothing, say nothing, or are in the middle of something."""
    publisher = Publisher(leaving)
    with ExitStack() as stack:

        def peer(data: bytes = b"", *, is_admin: bool = False) -> RawPeer:
            address = leaving.admin_address if is_admin else leaving.address
            opened = stack.enter_context(RawPeer(address, receive_buffer=2048))
            opened.send(data)
            return opened

        for _ in range(3):
            stuck = stack.enter_context(websocket(leaving.address, receive_buffer=2048))
            stuck.send_json({"method": "subscribe", "params": ["replay:big"], "id": 1})
            peer(request("GET", "/sse?channels=replay:big"))
            peer()
            peer(b"GET /poll HTTP/1.1\r\n")
            peer(request("GET", "/history/ev:1"))
            peer(request("POST", "/publish", "Content-Length: 1000") + b"{", is_admin=True)
            peer(is_admin=True)
        for _ in range(8):
            publisher.publish("replay:big", *(["x" * 1000] * 500))
        for _ in range(3):  # an answer that does not fit in any buffer, asked for and not read
            peer(request("GET", "/history/replay:big?limit=1000") * 30)
            peer(request("GET", '/sse?channels=replay:big&lastSeq=%7B"replay:big":0%7D'))
        publisher.close()
        leaving.terminate()
        assert leaving.wait_exit() == 0


def test_a_publisher_in_full_flight_does_not_hold_it_up(leaving: HubProcess) -> None:
    stop = threading.Event()
    accepted: list[int] = []

    def publish() -> None:
        with httpx.Client(base_url=leaving.admin_url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                try:
                    response = client.post("/publish", json={"channel": "ev:1", "data": len(accepted)})
                except httpx.TransportError:
                    return
                accepted.append(response.status_code)

    with websocket(leaving.address) as peer:
        peer.send_json({"method": "subscribe", "params": ["ev:1"], "id": 1})
        peer.read_json()
        thread = threading.Thread(target=publish)
        thread.start()
        for _ in range(100):
            peer.read_json()
        leaving.terminate()
        events, code, _ = peer.read_to_close()
        sequence = [event["seq"] for event in events if "seq" in event]
        assert code == 1001 and events[-1]["event"] == "disconnecting"
        assert sequence == list(range(101, 101 + len(sequence)))
        assert leaving.wait_exit() == 0
        stop.set()
        thread.join(30)


def test_no_connection_is_taken_any_more(leaving: HubProcess) -> None:
    address = leaving.address
    with websocket(address) as held:  # its close goes unanswered, so the drain takes a while
        leaving.terminate()
        held.read_to_close()
        try:
            with RawPeer(address) as late:
                late.send(request("GET", "/poll?channels=ev:1"))
                assert late.read_to_end()[:12] in (b"", b"HTTP/1.1 503")
        except ConnectionError:
            pass
    assert leaving.wait_exit() == 0


@pytest.mark.parametrize("level", ["debug", "info"])
def test_no_token_in_the_log(level: str) -> None:
    secrets: list[Any] = []
    with running_hub(CONFIG, f"logging.level={level}") as hub:
        for path in ("/v2?token=SECRET-1", "/live?token=SECRET-2"):
            with websocket(hub.address, path, "Authorization: Bearer SECRET-3") as peer:
                peer.send_json({"method": "subscribe", "params": ["ev:1", "fills"], "id": 1})
                peer.read_json()
        for data in (
            request("GET", "/sse?channels=ev:1&token=SECRET-4", "Authorization: Bearer SECRET-5"),
            request("GET", "/poll?channels=ev:1&token=SECRET-6", "Cookie: token=SECRET-7"),
            request("GET", "/poll?channels=ev:1&cursor=SECRET-8&token=SECRET-9"),
            b"GET /poll?token=SECRET-10 HTTP/1.1\r\nAuthorization Bearer SECRET-11\r\n\r\n",
            request("GET", "/v2?token=SECRET-12"),
        ):
            with RawPeer(hub.address) as peer:
                peer.send(data)
                peer.read_head()
        secrets = [line for line in hub.raw_log if "SECRET" in line]
    assert not secrets
    assert not [line for line in hub.raw_log if "SECRET" in line]
