"""stream-v2.md over the wire: `/v2` as `websockets` and a client made of bytes see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cbor2
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from tests.hub_process import HubProcess
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    RawPeer,
    frame,
    length_field,
    upgrade_request,
    websocket,
)

Naming = Callable[[str], str]


def receive(connection: ClientConnection) -> Any:
    return json.loads(connection.recv(PATIENCE))


def ask(connection: ClientConnection, **request: Any) -> Any:
    connection.send(json.dumps(request))
    return receive(connection)


@contextmanager
def open_v2(hub: HubProcess) -> Iterator[ClientConnection]:
    with connect(f"{hub.websocket_url}/v2", compression=None, proxy=None) as connection:
        assert receive(connection)["event"] == "connected"
        yield connection


# --- connect ------------------------------------------------------------------------------------------------


def test_connected_comes_first_and_its_id_has_the_documented_form(hub: HubProcess) -> None:
    with connect(f"{hub.websocket_url}/v2", proxy=None) as connection:
        greeting = receive(connection)
    prefix, node, nanoseconds, unique = greeting["connId"].split("_")
    assert greeting.keys() == {"event", "ts", "connId", "server"}
    assert (greeting["event"], prefix, node, greeting["server"]) == ("connected", "c", "n1", "n1")
    assert len(nanoseconds) == 19 and len(unique) == 6 and unique.isalnum()
    assert abs(int(nanoseconds) // 1_000_000 - greeting["ts"]) < 60_000


@pytest.mark.parametrize(
    "offered, chosen",
    [
        ([], None),
        (["hub.v2.json"], "hub.v2.json"),
        (["hub.v2.cbor"], "hub.v2.cbor"),
        (["unknown", "hub.v2.cbor"], "hub.v2.cbor"),
        (["hub.v2.json", "hub.v2.cbor"], "hub.v2.json"),
        (["unknown"], None),
    ],
)
def test_subprotocol(hub: HubProcess, offered: list[Any], chosen: str | None) -> None:
    with connect(f"{hub.websocket_url}/v2", subprotocols=offered or None, proxy=None) as connection:
        message = connection.recv(PATIENCE)
        assert connection.subprotocol == chosen
    if chosen == "hub.v2.cbor":
        assert isinstance(message, bytes) and cbor2.loads(message)["event"] == "connected"
    else:
        assert json.loads(message)["event"] == "connected"


def test_a_handshake_may_come_byte_by_byte(hub: HubProcess) -> None:
    with RawPeer(hub.address) as peer:
        for byte in upgrade_request("/v2"):
            peer.send(bytes((byte,)))
        assert peer.read_head()[0] == 101
        assert peer.read_json()["event"] == "connected"
        for byte in frame(TEXT, b'{"method":"ping","id":3}'):
            peer.send(bytes((byte,)))
        assert peer.read_json()["method"] == "pong"


def test_what_comes_before_the_handshake_is_done_is_not_lost_in_silence(hub: HubProcess) -> None:
    """A client must wait for the answer (RFC 6455, section 4.1); one that does not is served or refused."""
    with RawPeer(hub.address) as peer:
        peer.send(upgrade_request("/v2") + frame(TEXT, b'{"method":"ping","id":3}'))
        status, _ = peer.read_head()
        if status == 101:
            assert peer.read_json()["event"] == "connected"
            assert peer.read_json()["method"] == "pong"
        else:
            assert status == 400


# --- framing ------------------------------------------------------------------------------------------------

TOO_LARGE = b"x" * 4097
FRAMING_ERRORS = {
    "reserved bit 1": (frame(TEXT, b"{}", reserved=4), 1002),
    "reserved bit 3": (frame(TEXT, b"{}", reserved=1), 1002),
    "reserved opcode 3": (frame(0x3, b"{}"), 1002),
    "reserved opcode 7": (frame(0x7), 1002),
    "reserved control opcode 11": (frame(0xB), 1002),
    "reserved control opcode 15": (frame(0xF, b"12"), 1002),
    "unmasked text": (frame(TEXT, b"{}", is_masked=False), 1002),
    "unmasked empty": (frame(TEXT, is_masked=False), 1002),
    "unmasked ping": (frame(PING, is_masked=False), 1002),
    "fragmented ping": (frame(PING, is_last=False), 1002),
    "ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "ping of 2**62 bytes": (b"\x89" + length_field(2**62) + b"mask", 1002),
    "continuation of nothing": (frame(CONTINUATION, b"{}"), 1002),
    "text inside a message": (frame(TEXT, b"{", is_last=False) + frame(TEXT, b"}"), 1002),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close with code 999": (frame(CLOSE, (999).to_bytes(2, "big")), 1002),
    "close with code 1005": (frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
    "close with code 1006": (frame(CLOSE, (1006).to_bytes(2, "big")), 1002),
    "close with a reason that is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "text that is not UTF-8": (frame(TEXT, b"\xff\xfe"), 1007),
    "an encoded surrogate": (frame(TEXT, b'"\xed\xa0\x80"'), 1007),
    "an overlong slash": (frame(TEXT, b'"\xc0\xaf"'), 1007),
    "a character that is cut off": (frame(TEXT, "€".encode()[:2]), 1007),
    "not UTF-8 in the second fragment": (
        frame(TEXT, b'"', is_last=False) + frame(CONTINUATION, b"\xff"),
        1007,
    ),
    "too large": (frame(TEXT, TOO_LARGE), 1009),
    "too large, binary": (frame(BINARY, TOO_LARGE), 1009),
    "a header that claims 4097": (b"\x81" + length_field(4097) + b"mask", 1009),
    "a header that claims 2**62": (b"\x81" + length_field(2**62) + b"mask", 1009),
    "a header that claims all": (b"\x81" + length_field(2**64 - 1) + b"mask", 1009),
    "too large in fragments": (
        frame(TEXT, b"x" * 4000, is_last=False) + frame(CONTINUATION, b"x" * 97, is_last=False),
        1009,
    ),
    "many fragments of a byte": (
        frame(TEXT, b"x", is_last=False) + frame(CONTINUATION, b"x", is_last=False) * 4096,
        1009,
    ),
    "200,000 empty fragments": (
        frame(TEXT, b"x", is_last=False) + frame(CONTINUATION, is_last=False) * 200_000,
        1009,
    ),
}


@pytest.mark.parametrize("data, code", FRAMING_ERRORS.values(), ids=FRAMING_ERRORS.keys())
def test_bad_frames_are_answered_with_their_close_code(hub: HubProcess, data: bytes, code: int) -> None:
    with websocket(hub.address) as peer:
        try:
            peer.send(data)
        except ConnectionError:  # the hub need not listen to all of it
            pass
        events, closed, _ = peer.read_to_close()
    assert closed == code
    told = [event for event in events if event.get("event") == "disconnecting"]
    assert [event["code"] for event in told] == ([1009] if code == 1009 else [])


def test_a_frame_of_the_largest_size_is_taken(hub: HubProcess) -> None:
    text = json.dumps({"method": "ping", "id": 3})
    with websocket(hub.address) as peer:
        peer.send_frame(TEXT, text.ljust(4096).encode())
        assert peer.read_json()["id"] == 3
        for piece in range(0, 4096, 256):
            opcode = TEXT if not piece else CONTINUATION
            peer.send_frame(opcode, text.ljust(4096)[piece : piece + 256].encode(), is_last=piece == 3840)
            peer.send_frame(PING, b"between")
        pongs = 0
        while (answer := peer.read_frame())[0] == PONG:
            assert answer[1] == b"between"
            pongs += 1
        assert json.loads(answer[1])["id"] == 3
        assert pongs == 16 or peer.read_frame() == (PONG, b"between")


def test_a_client_that_closes_is_answered_with_its_code(hub: HubProcess) -> None:
    with websocket(hub.address) as peer:
        peer.send_frame(CLOSE, (1000).to_bytes(2, "big") + b"done")
        opcode, payload = peer.read_frame()
        assert (opcode, payload[:2]) == (CLOSE, (1000).to_bytes(2, "big"))
        assert peer.read_to_end() == b""


@pytest.mark.parametrize("code", [1003, 1009, 4001])
def test_after_the_closing_handshake_the_hub_closes(hub: HubProcess, code: int) -> None:
    bad = {1003: frame(BINARY, b"x"), 1009: frame(TEXT, TOO_LARGE), 4001: frame(TEXT, b"[")}
    with websocket(hub.address) as peer:
        peer.send(bad[code])
        assert peer.read_to_close()[1] == code
        peer.send_frame(CLOSE, code.to_bytes(2, "big"))
        assert peer.read_to_end() == b""


def test_nothing_follows_a_close_frame(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    """RFC 6455, section 5.5.1; the client leaves the close unanswered while its channel goes on."""
    channel = name("ev")
    with websocket(hub.address) as peer, websocket(hub.address) as other:
        for one in (peer, other):
            one.send_json({"method": "subscribe", "params": [channel], "id": 1})
            assert one.read_json()["code"] == 0
        publisher.publish(channel, 1)
        assert peer.read_json()["data"] == 1
        peer.send_frame(TEXT, b"[")
        events, code, _ = peer.read_to_close()
        assert code == 4001 and events[-1]["event"] == "disconnecting"
        publisher.publish(channel, 2)
        publisher.publish(channel, 3)
        assert [other.read_json()["data"] for _ in range(3)] == [1, 2, 3]
        assert peer.read_to_end() == b""


@pytest.mark.parametrize(
    "subprotocol, data",
    [
        ("hub.v2.json", frame(BINARY, b"{}")),
        ("hub.v2.cbor", frame(TEXT, b"{}")),
        ("hub.v2.cbor", frame(TEXT)),
    ],
)
def test_the_wrong_kind_of_frame_is_1003(hub: HubProcess, subprotocol: str, data: bytes) -> None:
    with websocket(hub.address, "/v2", f"Sec-WebSocket-Protocol: {subprotocol}", "X: cbor") as peer:
        peer.read_frame()
        peer.send(data)
        while (answer := peer.read_frame())[0] != CLOSE:
            pass
    assert answer[1][:2] == (1003).to_bytes(2, "big")


# --- messages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nothing",
        '{"method":"ping","id":1',
        '{"method":"ping","id":1}}',
        '{"method":"ping","id":1}{"method":"ping","id":2}',
        "{'method':'ping','id':1}",
        '{"method":"ping","id":1,}',
        '{"method":"ping","method":"ping","id":1}',
        '{"method":"subscribe","params":["a"],"id":1,"lastSeq":{"a":1,"a":2}}',
        '{"method":"ping","id":NaN}',
        '{"method":"ping","id":1,"x":Infinity}',
        '{"method":"ping","id":1,"x":-Infinity}',
        '{"method":"ping","id":1,"x":' + "[" * 32 + "]" * 32 + "}",
        "[" * 33 + "]" * 33,
        "[" * 4000,
        "\ufeff{}",
        '{"method":"ping","id":01}',
        '{"method":"pi\tng","id":1}',
        # No UTF-8 can carry these on, so they cannot be answered.
        r'{"method":"unsubscribe","params":["\ud800"],"id":1}',
        r'{"method":"subscribe","params":["ev:\udfff\ud800"],"id":1}',
        r'{"method":"ping","id":1,"\ud800":1}',
    ],
)
def test_malformed_json_is_4001(hub: HubProcess, text: str) -> None:
    with websocket(hub.address) as peer:
        peer.send_frame(TEXT, text.encode())
        events, code, reason = peer.read_to_close()
    assert code == 4001
    assert [event["event"] for event in events] == ["disconnecting"]
    assert events[0]["code"] == 4001 and events[0].keys() == {"event", "code", "msg", "retryAfterMs"}
    assert reason and reason == events[0]["msg"]


@pytest.mark.parametrize(
    "request_, code, with_id",
    [
        ([], 40005, False),
        ("ping", 40005, False),
        (None, 40005, False),
        (1.5, 40005, False),
        ({}, 40005, False),
        ({"method": "ping"}, 40005, False),
        ({"method": "ping", "id": "1"}, 40005, False),
        ({"method": "ping", "id": 1.0}, 40005, False),
        ({"method": "ping", "id": True}, 40005, False),
        ({"method": "ping", "id": 0}, 40005, False),
        ({"method": "ping", "id": -1}, 40005, False),
        ({"method": "ping", "id": 2**31 + 1}, 40005, False),
        ({"method": "ping", "id": 10**400}, 40005, False),
        ({"id": 5}, 40005, True),
        ({"method": 1, "id": 5}, 40005, True),
        ({"method": None, "id": 5}, 40005, True),
        ({"method": ["ping"], "id": 5}, 40005, True),
        ({"method": "pong", "id": 5}, 40006, True),
        ({"method": "", "id": 5}, 40006, True),
        ({"method": "PING", "id": 5}, 40006, True),
        ({"method": "x" * 3000, "id": 5}, 40006, True),
        ({"method": "subscribe", "id": 5}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": []}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": "ev:1"}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": {"ev:1": 1}}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": ["ev:1", 2]}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": [None]}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": [f"ev:{n}" for n in range(201)]}, 40005, True),
        ({"method": "unsubscribe", "id": 5}, 40005, True),
        ({"method": "unsubscribe", "id": 5, "params": [[]]}, 40005, True),
        ({"method": "unsubscribe", "id": 5, "params": [f"ev:{n}" for n in range(201)]}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": 1}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": ["ev:1"]}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": {"ev:1": "1"}}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": {"ev:1": -1}}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": {"ev:1": 1.0}}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": {"ev:1": True}}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": {"ev:1": None}}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": {"ev:1": 2**53}}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": {"ev:1": 10**1000}}, 40005, True),
        ({"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": {"ev:1": {}}}, 40005, True),
        (
            {"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": {"ev:1": {"seq": "1"}}},
            40005,
            True,
        ),
        (
            {"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": {"ev:1": {"epoch": "e"}}},
            40005,
            True,
        ),
        (
            {"method": "subscribe", "id": 5, "params": ["ev:1"], "lastSeq": {"ev:1": {"seq": 1, "epoch": 1}}},
            40005,
            True,
        ),
    ],
)
def test_a_bad_request_is_answered_and_the_connection_lives(
    hub: HubProcess, request_: Any, code: int, with_id: bool
) -> None:
    with open_v2(hub) as connection:
        connection.send(json.dumps(request_, separators=(",", ":")))
        answer = receive(connection)
        assert answer["code"] == code and answer["msg"]
        assert ("id" in answer) == with_id and answer.get("id") in (None, 5)
        assert ask(connection, method="ping", id=6)["method"] == "pong"


@pytest.mark.parametrize("id_", [1, 2**31])
def test_ping(hub: HubProcess, id_: int) -> None:
    with open_v2(hub) as connection:
        pong = ask(connection, method="ping", id=id_, params="whatever")
    assert pong.keys() == {"method", "id", "ts"} and (pong["method"], pong["id"]) == ("pong", id_)


@pytest.mark.parametrize("params", [["ev:ok"], ["ev:ok", "ev:ok"]])
def test_the_deepest_json_that_is_allowed(hub: HubProcess, params: list[str]) -> None:
    nested: Any = 1
    for _ in range(31):  # and the request itself makes 32
        nested = [nested]
    with open_v2(hub) as connection:
        assert ask(connection, method="subscribe", params=params, id=1, x=nested)["msg"] == "ok"


# --- subscribe ----------------------------------------------------------------------------------------------


def test_subscribe_ok(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("small")
    (*_, last) = publisher.publish(channel, *range(15))
    with open_v2(hub) as connection:
        answer = ask(connection, method="subscribe", params=[channel], id=1)
        publisher.publish(channel, "live", ts=1740000000000)
        event = receive(connection)
    position = {"seq": 15, "firstSeq": 6, "epoch": last["epoch"]}
    assert answer == {
        "id": 1,
        "code": 0,
        "msg": "ok",
        "data": {"subscribed": [channel], "positions": {channel: position}},
    }
    assert event == {"ch": channel, "ts": 1740000000000, "seq": 16, "data": "live"}


CHANNEL_ERRORS = {
    "nowhere": 40001,
    "": 40001,
    "ev:" + "x" * 62: 40001,
    "ev:space here": 40001,
    "ev:ü": 40001,
    "ev:\n": 40001,
    "EV:1": 40001,
    "trades@": 40001,
    "trades@doge_usdt": 40002,
    "trades@BTC_TL": 40001,
    "positions": 40002,
    "fills": 40100,
}


@pytest.mark.parametrize("bad, code", CHANNEL_ERRORS.items(), ids=map(ascii, CHANNEL_ERRORS))
def test_subscribe_partial_and_none_good(hub: HubProcess, name: Naming, bad: str, code: int) -> None:
    good = name("ev")
    with open_v2(hub) as connection:
        partial = ask(connection, method="subscribe", params=[bad, good], id=1)
        none = ask(connection, method="subscribe", params=[bad, "nowhere"], id=2)
        assert ask(connection, method="ping", id=3)["method"] == "pong"
    assert (partial["code"], partial["msg"]) == (0, "partial")
    assert partial["data"]["subscribed"] == [good]
    (error,) = partial["data"]["errors"]
    assert error.keys() == {"channel", "code", "msg"} and error["code"] == code
    assert (none["id"], none["code"], none["msg"]) == (2, code, none["data"]["errors"][0]["msg"])
    assert {error["channel"]: error["code"] for error in none["data"]["errors"]} == {
        bad: code,
        "nowhere": 40001,
    }


def test_too_many_subscriptions(hub: HubProcess) -> None:
    channels = [f"ev:many{number}" for number in range(60)]
    with open_v2(hub) as connection:
        answer = ask(connection, method="subscribe", params=channels, id=1)
        again = ask(connection, method="subscribe", params=channels[:1], id=2)
        more = ask(connection, method="subscribe", params=channels[55:56], id=3)
        ask(connection, method="unsubscribe", params=channels[:1], id=4)
        room = ask(connection, method="subscribe", params=channels[55:56], id=5)
    assert answer["msg"] == "partial" and len(answer["data"]["subscribed"]) == 50
    assert {error["code"] for error in answer["data"]["errors"]} == {40003}
    assert (again["code"], more["code"], room["code"]) == (0, 40003, 0)


def test_subscribing_twice_gives_no_second_copy(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("state")
    publisher.publish(channel, "old")
    with open_v2(hub) as connection:
        first = ask(connection, method="subscribe", params=[channel, channel], id=1)
        assert receive(connection)["type"] == "snapshot"
        second = ask(connection, method="subscribe", params=[channel], id=2)
        third = ask(connection, method="subscribe", params=[channel], id=3, lastSeq={channel: 0})
        publisher.publish(channel, "new")
        assert receive(connection)["data"] == "new"
        assert ask(connection, method="ping", id=4)["method"] == "pong"
    assert (
        first["data"]["subscribed"]
        == second["data"]["subscribed"]
        == third["data"]["subscribed"]
        == [channel]
    )
    assert second["msg"] == third["msg"] == "ok"


def test_unsubscribe(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    with open_v2(hub) as connection:
        unknown = ask(connection, method="unsubscribe", params=[channel, "never heard of"], id=1)
        ask(connection, method="subscribe", params=[channel], id=2)
        answer = ask(connection, method="unsubscribe", params=[channel], id=3)
        publisher.publish(channel, "unheard")
        assert ask(connection, method="ping", id=4)["method"] == "pong"
        again = ask(connection, method="subscribe", params=[channel], id=5)
        publisher.publish(channel, "heard")
        assert receive(connection)["seq"] == 2
    assert unknown == {"id": 1, "code": 0, "msg": "ok", "data": {"unsubscribed": [channel, "never heard of"]}}
    assert answer == {"id": 3, "code": 0, "msg": "ok", "data": {"unsubscribed": [channel]}}
    assert again["data"]["positions"][channel]["seq"] == 1


@pytest.mark.parametrize("odd", ["x\x00y", "\ud800\udc00", "\U0001f600" * 100])
def test_unsubscribing_from_odd_names_is_success(hub: HubProcess, odd: str) -> None:
    with open_v2(hub) as connection:
        assert ask(connection, method="unsubscribe", params=[odd], id=1)["code"] == 0
        assert ask(connection, method="ping", id=2)["method"] == "pong"


def test_the_answer_comes_before_the_first_event(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("state")
    publisher.publish(channel, *range(50))
    for id_ in range(1, 6):
        with open_v2(hub) as connection:
            connection.send(json.dumps({"method": "subscribe", "params": [channel], "id": id_}))
            publisher.publish(channel, *range(20))
            assert receive(connection)["id"] == id_
            snapshot = receive(connection)
            assert snapshot["type"] == "snapshot"
            follower = receive(connection) if snapshot["seq"] < 50 + 20 * id_ else None
            assert follower is None or follower["seq"] == snapshot["seq"] + 1
            connection.send('{"method":"ping","id":9}')  # the library cannot close with much unread
            while receive(connection).get("method") != "pong":
                pass


def test_snapshots_and_deltas(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("state")
    (first,) = publisher.publish(channel, {"a": "1.00"}, ts=17)
    with open_v2(hub) as connection:
        ask(connection, method="subscribe", params=[channel], id=1)
        snapshot = receive(connection)
        publisher.publish(channel, {"a": 2}, ts=18)
        publisher.publish(channel, {"a": 3}, ts=19, type="snapshot")
        delta, whole = receive(connection), receive(connection)
    assert snapshot == {
        "ch": channel, "ts": 17, "seq": 1, "type": "snapshot", "snapshotSeq": 1,
        "epoch": first["epoch"], "data": {"a": "1.00"},
    }  # fmt: skip
    assert delta == {"ch": channel, "ts": 18, "seq": 2, "type": "delta", "data": {"a": 2}}
    assert (whole["seq"], whole["type"], whole["snapshotSeq"], whole["epoch"]) == (
        3,
        "snapshot",
        3,
        first["epoch"],
    )


# --- resume -------------------------------------------------------------------------------------------------


def subscribe(connection: ClientConnection, channel: str, seen: Any) -> Any:
    answer = ask(connection, method="subscribe", params=[channel], id=1, lastSeq={channel: seen})
    return answer["data"]["positions"][channel]


@pytest.mark.parametrize("with_epoch", [False, True])
def test_resume_replays_in_order_then_goes_on(
    hub: HubProcess, publisher: Publisher, name: Naming, with_epoch: bool
) -> None:
    channel = name("ev")
    (*_, last) = publisher.publish(channel, *range(1, 101))
    seen: Any = {"seq": 40, "epoch": last["epoch"]} if with_epoch else 40
    with open_v2(hub) as connection:
        position = subscribe(connection, channel, seen)
        publisher.publish(channel, *range(101, 111))
        events = [receive(connection) for _ in range(70)]
    assert "recovered" not in position and position["seq"] == 100
    assert [event["seq"] for event in events] == [event["data"] for event in events] == list(range(41, 111))


def test_resume_of_a_stateful_channel_comes_without_a_snapshot(
    hub: HubProcess, publisher: Publisher, name: Naming
) -> None:
    channel = name("state")
    publisher.publish(channel, *range(1, 6))
    with open_v2(hub) as connection:
        subscribe(connection, channel, 3)
        assert [(e["seq"], e["type"]) for e in (receive(connection), receive(connection))] == [
            (4, "delta"),
            (5, "delta"),
        ]


def test_resume_at_the_head_gives_nothing(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("state")
    publisher.publish(channel, 1, 2)
    with open_v2(hub) as connection:
        subscribe(connection, channel, 2)
        assert ask(connection, method="ping", id=4)["method"] == "pong"
        publisher.publish(channel, 3)
        assert receive(connection)["seq"] == 3


def test_resume_from_what_was_evicted(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("small")
    (*_, last) = publisher.publish(channel, *range(1, 31))
    with open_v2(hub) as connection:
        position = subscribe(connection, channel, 5)
        gap = receive(connection)
        events = [receive(connection) for _ in range(10)]
        publisher.publish(channel, 31)
        assert receive(connection)["seq"] == 31
    assert position["recovered"] is False and position["firstSeq"] == 21
    assert (gap["event"], gap["ch"]) == ("gap", channel) and isinstance(gap["ts"], int)
    assert gap["data"] == {"reason": "evicted", "fromSeq": 6, "toSeq": 20, "epoch": last["epoch"]}
    assert [event["seq"] for event in events] == list(range(21, 31))


def test_the_oldest_position_that_can_be_resumed(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("small")
    publisher.publish(channel, *range(1, 31))
    with open_v2(hub) as connection:
        position = subscribe(connection, channel, 20)
        assert "recovered" not in position
        assert [receive(connection)["seq"] for _ in range(10)] == list(range(21, 31))


@pytest.mark.parametrize("seen, reason", [({"seq": 2, "epoch": "another"}, "epoch"), (9, "ahead")])
def test_resume_that_belongs_elsewhere(
    hub: HubProcess, publisher: Publisher, name: Naming, seen: Any, reason: str
) -> None:
    plain, stateful = name("ev"), name("state")
    publisher.publish(stateful, 1, 2, 3)
    (*_, last) = publisher.publish(plain, 1, 2, 3)
    with open_v2(hub) as connection:
        position = subscribe(connection, plain, seen)
        gap = receive(connection)
        publisher.publish(plain, 4)
        assert receive(connection)["seq"] == 4
    from_seq = (seen["seq"] if isinstance(seen, dict) else seen) + 1
    assert position["recovered"] is False
    assert gap["data"] == {"reason": reason, "fromSeq": from_seq, "toSeq": None, "epoch": last["epoch"]}
    with open_v2(hub) as connection:
        subscribe(connection, stateful, seen)
        told = [receive(connection)]
        while told[-1].get("type") != "snapshot":
            told.append(receive(connection))
        assert told[-1]["seq"] == 3 and {event.get("event") for event in told[:-1]} <= {"gap"}


def test_a_resume_beyond_the_lag_limit_is_replayed_whole(
    hub: HubProcess, publisher: Publisher, name: Naming
) -> None:
    channel = name("replay")
    for start in range(1, 4001, 500):
        publisher.publish(channel, *({"n": number, "pad": "x" * 500} for number in range(start, start + 500)))
    with websocket(hub.address, receive_buffer=4096) as peer:
        peer.send_json({"method": "subscribe", "params": [channel], "id": 1, "lastSeq": {channel: 0}})
        assert peer.read_json()["msg"] == "ok"
        publisher.publish(channel, *range(4001, 4005))
        events = [peer.read_json() for _ in range(4000)]
    assert [event.get("seq") for event in events] == list(range(1, 4001))


# --- CBOR ---------------------------------------------------------------------------------------------------


def test_cbor_says_the_same_as_json(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("state")
    publisher.publish(channel, {"price": "1.10", "n": [1, -1.5, None, True, "ü"]})
    subscribe_request = {"method": "subscribe", "params": [channel, "nowhere"], "id": 1, "lastSeq": {"x": 1}}
    subprotocols: Any = ["hub.v2.cbor"]
    with (
        open_v2(hub) as text,
        connect(f"{hub.websocket_url}/v2", subprotocols=subprotocols, proxy=None) as binary,
    ):
        binary.recv(PATIENCE)
        text.send(json.dumps(subscribe_request))
        binary.send(cbor2.dumps(subscribe_request))
        for _ in range(2):  # the answer, the snapshot
            assert cbor2.loads(binary.recv(PATIENCE, decode=False)) == receive(text)
        publisher.publish(channel, "delta")
        publisher.publish(channel, "whole", type="snapshot")
        for _ in range(2):
            assert cbor2.loads(binary.recv(PATIENCE, decode=False)) == receive(text)


HOSTILE_CBOR = {
    "nothing": b"",
    "cut off": b"\xa1",
    "two items": b"\x01\x02",
    "a break": b"\xff",
    "not UTF-8": b"\x61\xff",
    "a lone surrogate": b"\x63\xed\xa0\x80",
    "deep": b"\x81" * 4000 + b"\x01",
    "2**60 items": b"\x9b\x10\x00\x00\x00\x00\x00\x00\x00",
    "2**60 bytes": b"\x5b\x10\x00\x00\x00\x00\x00\x00\x00",
    "a duplicate key": cbor2.dumps({"method": "ping"})[:-5] + b"\x64ping",
    "a date that is none": b"\xc0\x61x",
    "a time beyond": b"\xc1\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    "a regular expression": b"\xd8\x23\x61(",
    "a cycle": b"\xd8\x1c\x81\xd8\x1d\x00",
    "an unknown tag": b"\xda\xff\xff\xff\xff\x01",
    "a vast decimal": b"\xc4\x82\x1b\x00\x00\x00\xff\xff\xff\xff\xff\x01",
    "a vast float": b"\xc5\x82\x1b\x00\x00\x00\xff\xff\xff\xff\xff\x01",
    "a fraction by zero": b"\xd8\x1e\x82\x01\x00",
    "an address": b"\xd9\x01\x04\x41x",
    "a list as a key": b"\xa1\x80\x01",
}


@pytest.mark.parametrize("data", HOSTILE_CBOR.values(), ids=HOSTILE_CBOR.keys())
def test_hostile_cbor(hub: HubProcess, data: bytes) -> None:
    subprotocols: Any = ["hub.v2.cbor"]
    with connect(f"{hub.websocket_url}/v2", subprotocols=subprotocols, proxy=None) as connection:
        connection.recv(PATIENCE)
        connection.send(data)
        answer = cbor2.loads(connection.recv(PATIENCE, decode=False))
        if answer.get("event") == "disconnecting":
            assert answer["code"] == 4001
            with pytest.raises(ConnectionClosedError) as closed:
                connection.recv(PATIENCE)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 4001
        else:
            assert answer["code"] == 40005


@pytest.mark.parametrize(
    "fields",
    [
        {"lastSeq": {10**4500: "x"}},
        {"lastSeq": {1.5: 1}},
        {"lastSeq": {"ev:1": 10**4500}},
        {"lastSeq": {"ev:1": {"seq": 1, "epoch": "e" * 3000}}},
        {"params": [b"ev:1"]},
        {"params": [10**4500]},
        {"method": b"subscribe"},
        {"id": 10**4500},
    ],
    ids=["key", "float key", "seq", "epoch", "bytes", "number", "method", "id"],
)
def test_cbor_has_types_that_json_does_not(hub: HubProcess, fields: dict[str, Any]) -> None:
    request = {"method": "subscribe", "params": ["ev:1"], "id": 5, **fields}
    subprotocols: Any = ["hub.v2.cbor"]
    with connect(f"{hub.websocket_url}/v2", subprotocols=subprotocols, proxy=None) as connection:
        connection.recv(PATIENCE)
        connection.send(cbor2.dumps(request))
        answer = cbor2.loads(connection.recv(PATIENCE, decode=False))
        if "lastSeq" in fields and fields["lastSeq"] == {1.5: 1}:
            assert answer["code"] in (0, 40005)
        else:
            assert answer["code"] == 40005
        connection.send(cbor2.dumps({"method": "ping", "id": 1}))
        assert cbor2.loads(connection.recv(PATIENCE, decode=False))["method"] == "pong"
