"""live-envelope.md over the wire: the WebSocket at `/live`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.hub_process import HubProcess
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import BINARY, CLOSE, TEXT, RawPeer, frame, websocket

Naming = Callable[[str], str]


def subscribe(peer: RawPeer, *channels: str, **fields: Any) -> Any:
    peer.send_json({"type": "subscribe", "channels": channels, **fields})
    answer = next_event(peer)
    assert answer["event"] == "subscribed"
    return answer


def next_event(peer: RawPeer) -> Any:
    """The next envelope that is no heartbeat; each must be an envelope."""
    while True:
        envelope = peer.read_json()
        assert envelope.keys() >= {"v", "event", "channel", "seq", "ts", "ok", "data"}, envelope
        assert envelope["v"] == 1 and isinstance(envelope["ts"], int) and isinstance(envelope["seq"], int)
        if envelope["event"] != "heartbeat":
            return envelope


def test_subscribe_and_receive(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel, state = name("ev"), name("state")
    (last,) = publisher.publish(state, {"price": "1.0"}, ts=5, event="price_tick")
    with websocket(hub.address, "/live") as peer:
        answer = subscribe(peer, channel, state, "nowhere")
        snapshot = next_event(peer)
        publisher.publish(channel, "a", ts=6)
        publisher.publish(channel, "b", event="custom", ts=7)
        first, second = next_event(peer), next_event(peer)
    assert (answer["channel"], answer["seq"], answer["ok"]) == ("system", 0, True)
    data = answer["data"]
    assert data.keys() == {"channels", "errors", "positions", "cursor"}
    assert data["channels"] == [channel, state]
    assert [(error["channel"], error["code"]) for error in data["errors"]] == [("nowhere", 40001)]
    assert data["positions"][state] == {"seq": 1, "firstSeq": 1, "epoch": last["epoch"]}
    assert (snapshot["event"], snapshot["channel"], snapshot["seq"]) == ("snapshot", state, 1)
    assert snapshot["data"] == {"price": "1.0"}
    assert first == {"v": 1, "event": "tick", "channel": channel, "seq": 1, "ts": 6, "ok": True, "data": "a"}
    assert (second["event"], second["seq"], second["data"]) == ("custom", 2, "b")


def test_resume_by_cursor_and_by_last_seq(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    publisher.publish(channel, 1, 2)
    with websocket(hub.address, "/live") as peer:
        cursor = subscribe(peer, channel)["data"]["cursor"]
    publisher.publish(channel, 3, 4)
    with websocket(hub.address, "/live") as peer:
        answer = subscribe(peer, channel, cursor=cursor)
        assert [next_event(peer)["data"] for _ in range(2)] == [3, 4]
    assert "recovered" not in answer["data"]["positions"][channel]
    with websocket(hub.address, "/live") as peer:
        subscribe(peer, channel, lastSeq={channel: 3})
        assert next_event(peer)["data"] == 4
    with websocket(hub.address, "/live") as peer:
        again = subscribe(peer, channel, cursor=cursor)["data"]["cursor"]
    with websocket(hub.address, "/live") as peer:  # nothing but the answer was read
        subscribe(peer, channel, cursor=again)
        assert next_event(peer)["data"] == 3


@pytest.mark.parametrize(
    "namespace, seen, reason, to_seq",
    [("small", 3, "evicted", 20), ("ev", 99, "ahead", None), ("ev", {"seq": 1, "epoch": "x"}, "epoch", None)],
)
def test_what_cannot_be_replayed_is_told(
    hub: HubProcess,
    publisher: Publisher,
    name: Naming,
    namespace: str,
    seen: Any,
    reason: str,
    to_seq: int | None,
) -> None:
    channel = name(namespace)
    (*_, last) = publisher.publish(channel, *range(1, 31))
    with websocket(hub.address, "/live") as peer:
        answer = subscribe(peer, channel, lastSeq={channel: seen})
        gap = next_event(peer)
    from_seq = (seen["seq"] if isinstance(seen, dict) else seen) + 1
    assert answer["data"]["positions"][channel]["recovered"] is False
    assert (gap["event"], gap["channel"]) == ("gap", channel)
    assert gap["data"] == {"reason": reason, "fromSeq": from_seq, "toSeq": to_seq, "epoch": last["epoch"]}


def test_unsubscribe_and_ping(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    with websocket(hub.address, "/live") as peer:
        subscribe(peer, channel)
        peer.send_json({"type": "unsubscribe", "channels": [channel, "never"]})
        answer = next_event(peer)
        publisher.publish(channel, "unheard")
        peer.send_json({"type": "ping"})
        pong = next_event(peer)
    assert (answer["event"], answer["channel"], answer["ok"]) == ("unsubscribed", "system", True)
    assert (pong["event"], pong["channel"], pong["ok"]) == ("pong", "system", True)


@pytest.mark.parametrize(
    "command",
    [
        [],
        "ping",
        {},
        {"type": 1},
        {"type": "publish"},
        {"method": "ping", "id": 1},
        {"type": "subscribe"},
        {"type": "subscribe", "channels": []},
        {"type": "subscribe", "channels": "ev:1"},
        {"type": "subscribe", "channels": [1]},
        {"type": "subscribe", "channels": [f"ev:{n}" for n in range(201)]},
        {"type": "subscribe", "channels": ["ev:1"], "cursor": 5},
        {"type": "subscribe", "channels": ["ev:1"], "cursor": ""},
        {"type": "subscribe", "channels": ["ev:1"], "cursor": "nonsense"},
        {"type": "subscribe", "channels": ["ev:1"], "cursor": "A" * 2049},
        {"type": "subscribe", "channels": ["ev:1"], "lastSeq": [1]},
        {"type": "subscribe", "channels": ["ev:1"], "lastSeq": {"ev:1": -1}},
        {"type": "unsubscribe"},
        {"type": "unsubscribe", "channels": {}},
    ],
)
def test_a_bad_command_is_answered_with_an_error(hub: HubProcess, command: Any) -> None:
    with websocket(hub.address, "/live") as peer:
        peer.send_json(command)
        error = next_event(peer)
        assert (error["event"], error["ok"], error["channel"]) == ("error", False, "system")
        assert error["errorCode"] and error["data"]["msg"]
        peer.send_json({"type": "ping"})
        assert next_event(peer)["event"] == "pong"


@pytest.mark.parametrize("odd", ["\ud800\udc00", "a\x00b"])
def test_odd_channels_are_reported(hub: HubProcess, odd: str) -> None:
    with websocket(hub.address, "/live") as peer:
        assert subscribe(peer, odd)["data"]["errors"][0]["code"] == 40001
        peer.send_json({"type": "unsubscribe", "channels": [odd]})
        assert next_event(peer)["event"] == "unsubscribed"


@pytest.mark.parametrize(
    "data, code",
    [
        (frame(TEXT, b"{"), 4001),
        (frame(TEXT, b'{"type":"ping","type":"ping"}'), 4001),
        (frame(TEXT, b'{"type":NaN}'), 4001),
        (frame(TEXT, b"[" * 33 + b"]" * 33), 4001),
        (frame(TEXT, rb'{"type":"unsubscribe","channels":["\ud800"]}'), 4001),
        (frame(TEXT, b"\xff"), 1007),
        (frame(BINARY, b"{}"), 1003),
        (frame(TEXT, b" " * 4097), 1009),
        (frame(TEXT, b"{}", is_masked=False), 1002),
    ],
)
def test_malformed_input_ends_it_as_on_v2(hub: HubProcess, data: bytes, code: int) -> None:
    with websocket(hub.address, "/live") as peer:
        peer.send(data)
        events, closed, _ = peer.read_to_close()
    assert closed == code
    assert [event["data"]["code"] for event in events if event["event"] == "disconnecting"] in ([code], [])
    assert events or code in (1002, 1007)


def test_heartbeats_carry_a_cursor(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    with websocket(hub.address, "/live") as peer:
        subscribe(peer, channel)
        publisher.publish(channel, 1)
        assert next_event(peer)["data"] == 1
        heartbeat = peer.read_json()
    assert (heartbeat["event"], heartbeat["channel"], heartbeat["seq"], heartbeat["ok"]) == (
        "heartbeat",
        "system",
        0,
        True,
    )
    publisher.publish(channel, 2)
    with websocket(hub.address, "/live") as peer:
        subscribe(peer, channel, cursor=heartbeat["data"]["cursor"])
        assert next_event(peer)["data"] == 2


def test_closing(hub: HubProcess) -> None:
    with websocket(hub.address, "/live") as peer:
        peer.send_frame(CLOSE, (1000).to_bytes(2, "big"))
        assert peer.read_frame() == (CLOSE, (1000).to_bytes(2, "big"))


def test_the_same_numbers_on_v2_and_live(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    with websocket(hub.address, "/live") as live, websocket(hub.address) as v2:
        subscribe(live, channel)
        v2.send_json({"method": "subscribe", "params": [channel], "id": 1})
        v2.read_json()
        publisher.publish(channel, *range(100))
        for _ in range(100):
            one, other = next_event(live), v2.read_json()
            assert (one["seq"], one["ts"], json.dumps(one["data"])) == (
                other["seq"],
                other["ts"],
                json.dumps(other["data"]),
            )
