"""``POST /publish`` over the wire, and what becomes of a payload on each transport."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cbor2
import httpx
import pytest
from websockets.sync.client import connect

from tests.hub_process import HubProcess
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import PATIENCE, RawPeer, request, websocket

Naming = Callable[[str], str]
NDJSON = {"content_type": "application/x-ndjson"}


def item(channel: str, data: str = "1", **fields: Any) -> str:
    rest = "".join(f',"{key}":{json.dumps(value)}' for key, value in fields.items())
    return f'{{"channel":"{channel}","data":{data}{rest}}}'


def results(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["results"]
    return found


def test_one_event(publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    (first,) = results(publisher.post(item(channel)))
    (second,) = results(publisher.post(item(channel)))
    assert first.keys() == {"channel", "seq", "epoch"}
    assert (first["seq"], second["seq"], first["epoch"]) == (1, 2, second["epoch"])


@pytest.mark.parametrize(
    "form", ["list", "ndjson", "ndjson crlf", "ndjson with blank lines", "NDJSON with charset"]
)
def test_many_events_with_bad_ones_among_them(publisher: Publisher, name: Naming, form: str) -> None:
    channel = name("ev")
    items = [
        item(channel, "1"),
        item("nowhere"),
        item(channel, "2"),
        '{"data":1}',
        f'{{"channel":"{channel}"}}',
        item(channel, "3"),
    ]
    if form == "list":
        response = publisher.post(" [ " + ",\n".join(items) + " ] ")
    else:
        separator = {"ndjson crlf": "\r\n", "ndjson with blank lines": "\n\n \n"}.get(form, "\n")
        type_ = "Application/X-NDJSON; charset=utf-8" if "charset" in form else "application/x-ndjson"
        response = publisher.post(separator.join(items) + separator, content_type=type_)
    found = results(response)
    assert [result.get("seq") for result in found] == [1, None, 2, None, None, 3]
    assert [result.get("code") for result in found] == [None, 40001, None, 40005, 40005, None]
    assert [result.get("channel") for result in found] == [
        channel,
        "nowhere",
        channel,
        None,
        channel,
        channel,
    ]
    assert all(result["msg"] for result in (found[1], found[3], found[4]))


@pytest.mark.parametrize("form", ["list", "ndjson"])
def test_none_is_none(publisher: Publisher, form: str) -> None:
    response = publisher.post("[]") if form == "list" else publisher.post("\n", **NDJSON)
    assert results(response) == []


BAD_DATA = {
    "nothing": "",
    "a word": "nothing",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "minus Infinity": "-Infinity",
    "beyond a double": "1e999",
    "a lone surrogate": r'"\ud800"',
    "surrogates in the wrong order": r'"\udc00\ud800"',
    "a lone surrogate in a key": r'{"\udfff":1}',
    "too deep": "[" * 65 + "]" * 65,
    "much too deep": "[" * 100_000 + "]" * 100_000,
    "too deep objects": '{"a":' * 65 + "1" + "}" * 65,
    "a control character": '"a\x01b"',
    "a raw newline in a string": '"a\nb"',
    "a leading zero": "01",
    "a trailing comma": "[1,]",
}


@pytest.mark.parametrize("data", BAD_DATA.values(), ids=BAD_DATA.keys())
@pytest.mark.parametrize("form", ["list", "ndjson"])
def test_payloads_that_no_client_should_get(publisher: Publisher, name: Naming, data: str, form: str) -> None:
    channel = name("ev")
    good = item(channel)
    if form == "list":
        response = publisher.post(f"[{good},{item(channel, data)},{good}]")
        if response.status_code == 400:  # where the list itself cannot be taken apart
            assert response.json()["code"] == 40005
            assert results(publisher.post(good))[0]["seq"] == 1
            return
        codes = [result.get("code") for result in results(response)]
        assert codes == [None, 40005, None]
    else:
        codes = [
            result.get("code")
            for result in results(publisher.post("\n".join([good, item(channel, data), good]), **NDJSON))
        ]
        assert codes[0] is None and codes[-1] is None and set(codes[1:-1]) == {40005}
    assert results(publisher.post(good))[0]["seq"] == 3


@pytest.mark.parametrize(
    "fields, code",
    [
        ({"event": "no spaces"}, 40005),
        ({"event": 'x","ok":false,"y":"'}, 40005),
        ({"event": "a\nb"}, 40005),
        ({"event": ""}, 40005),
        ({"event": 1}, 40005),
        ({"ts": "now"}, 40005),
        ({"ts": 1.5}, 40005),
        ({"ts": -1}, 40005),
        ({"ts": 10**30}, 40005),
        ({"id": 1}, 40005),
        ({"type": "whole"}, 40005),
        ({"user": 1}, 40005),
    ],
)
def test_bad_fields(publisher: Publisher, name: Naming, fields: dict[str, Any], code: int) -> None:
    channel = name("ev")
    (result,) = results(publisher.post(item(channel, **fields)))
    assert (result.get("code"), result.get("channel")) == (code, channel)


@pytest.mark.parametrize(
    "body",
    ["", " ", "{", "nothing", '{"channel":"ev:1","data":1}}', "[1", "\xff", b"\xff\xfe", b"\xef\xbb\xbf{}"],
)
def test_a_body_that_is_not_json(publisher: Publisher, body: Any) -> None:
    response = publisher.post(body)
    assert response.status_code == 400 and response.json()["code"] == 40005


def test_idempotency_key(publisher: Publisher, name: Naming) -> None:
    channel, other = name("ev"), name("ev")
    first, again = results(publisher.post(f"[{item(channel, id='k')},{item(channel, '2', id='k')}]"))
    (later,) = results(publisher.post(item(channel, "3", id="k")))
    (elsewhere,) = results(publisher.post(item(other, "3", id="k")))
    (next_,) = results(publisher.post(item(channel, "4", id="l")))
    assert first == again == later
    assert (first["seq"], elsewhere["seq"], next_["seq"]) == (1, 1, 2)


def test_an_idempotency_key_of_one_user_is_not_another_users(publisher: Publisher) -> None:
    """A private channel is one per user: what was published to one was not published to the other."""
    first, second = results(
        publisher.post(f"[{item('fills', user='u1', id='k')},{item('fills', user='u2', id='k')}]")
    )
    (third,) = results(publisher.post(item("fills", user="u2")))
    assert (first["seq"], second["seq"], third["seq"]) == (1, 1, 2)


def test_a_bad_item_does_not_use_up_its_key(publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    (bad,) = results(publisher.post(item(channel, event="no spaces", id="k")))
    (good,) = results(publisher.post(item(channel, id="k")))
    assert bad["code"] == 40005 and good["seq"] == 1


MEGABYTE = 1024 * 1024


@pytest.mark.parametrize("is_chunked", [False, True])
def test_bodies_up_to_a_megabyte(publisher: Publisher, name: Naming, is_chunked: bool) -> None:
    def body(size: int) -> bytes:
        begin, end = f'{{"channel":"{name("ev")}","data":"', '"}'
        return (begin + "x" * (size - len(begin) - len(end)) + end).encode()

    def post(data: bytes) -> httpx.Response:
        pieces: Any = (data[start : start + 50_000] for start in range(0, len(data), 50_000))
        return publisher.post(pieces if is_chunked else data)

    assert results(post(body(MEGABYTE)))[0]["seq"] == 1
    response = post(body(MEGABYTE + 1))
    assert response.status_code == 413 and response.json()["code"] and response.json()["msg"]
    assert results(post(body(1000)))[0]["seq"] == 1


def test_a_vast_body_is_refused_before_it_has_come(hub: HubProcess) -> None:
    for head in ("Content-Length: 99999999999", "Transfer-Encoding: chunked"):
        with RawPeer(hub.admin_address) as peer:
            peer.send(request("POST", "/publish", head))
            if "chunked" in head:
                chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
                peer.send(chunk + b"1\r\nx\r\n")
            response = peer.read_response()
            assert response.status == 413 and response.json()["msg"]
            assert peer.read_to_end() == b""


@pytest.mark.parametrize("head", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_slow_body_is_408(hub: HubProcess, head: str) -> None:
    with RawPeer(hub.admin_address) as peer:
        peer.send(request("POST", "/publish", head) + b"5\r\n[    \r\n")
        response = peer.read_response()
        assert response.status == 408 and response.json()["code"]
        assert peer.read_to_end() == b""


def test_a_publisher_that_leaves_in_the_middle_publishes_nothing(
    hub: HubProcess, publisher: Publisher, name: Naming
) -> None:
    channel = name("ev")
    with RawPeer(hub.admin_address) as peer:
        peer.send(request("POST", "/publish", "Content-Length: 1000", "Content-Type: application/x-ndjson"))
        peer.send((item(channel) + "\n").encode())
    with RawPeer(hub.admin_address) as peer:
        peer.send(request("POST", "/publish", "Content-Length: 1000") + b"{")
        peer.reset()
    assert results(publisher.post(item(channel)))[0]["seq"] == 1


@pytest.mark.parametrize(
    "method, target, status",
    [("GET", "/publish", 405), ("POST", "/publish/", 404), ("GET", "/poll", 404), ("GET", "/v2", 404)],
)
def test_the_operators_port_refuses_in_json(hub: HubProcess, method: str, target: str, status: int) -> None:
    with RawPeer(hub.admin_address) as peer:
        response = peer.ask(request(method, target))
    assert response.status == status and response.json().keys() == {"code", "msg"}


def test_requests_are_pipelined(hub: HubProcess, name: Naming) -> None:
    body = item(name("ev")).encode()
    with RawPeer(hub.admin_address) as peer:
        peer.send(
            request("POST", "/publish", body=body) * 20
            + request("GET", "/healthz")
            + request("POST", "/publish", body=body)
        )
        answers = [peer.read_response().json() for _ in range(22)]
    assert [answer["results"][0]["seq"] for answer in answers[:20]] == list(range(1, 21))
    assert answers[20]["status"] == "ok" and answers[21]["results"][0]["seq"] == 21


# --- payloads on the wire -----------------------------------------------------------------------------------

PAYLOADS = {
    "a string": '"text"',
    "null": "null",
    "false": "false",
    "nothing much": "{}",
    "an empty string": '""',
    "a large integer": "123456789012345678901234567890",
    "2**53 + 1": "9007199254740993",
    "2**64": "18446744073709551616",
    "a negative one": "-9223372036854775809",
    "digits": "0.1000000000000000055511151231257827",
    "trailing zeros": "1.10",
    "an exponent": "1E+2",
    "minus zero": "-0.0",
    "escapes": r'"\u00e9\/\n\r\t\u2028\ud83d\ude00"',
    "no escapes": '"é😀\u2028\u2029\x7f"',
    "spaces": '{ "a" : [ 1 , 2 ] }',
    "keys in this order": '{"b":1,"a":2}',
    "data: in it": r'"data: x\n\nid: 7\n\n"',
    "deep": "[" * 64 + "]" * 64,
}


@pytest.mark.parametrize("data", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_payloads_arrive_byte_for_byte(
    hub: HubProcess, publisher: Publisher, http: httpx.Client, name: Naming, data: str
) -> None:
    check_arrival(hub, publisher, http, name("ev"), data, data)


@pytest.mark.parametrize(
    "data, arrives",
    [
        ('{\n  "a": 1.10,\r\n\t"b": [\n1E+2,\n"x"\n]\n}', '{"a":1.10,"b":[1E+2,"x"]}'),
        ("\n\n123456789012345678901234567890\n", "123456789012345678901234567890"),
        ('[\r"\\n"\r]', '["\\n"]'),
    ],
)
def test_line_breaks_are_taken_out(
    hub: HubProcess, publisher: Publisher, http: httpx.Client, name: Naming, data: str, arrives: str
) -> None:
    check_arrival(hub, publisher, http, name("ev"), data, arrives)


def check_arrival(
    hub: HubProcess, publisher: Publisher, http: httpx.Client, channel: str, data: str, arrives: str
) -> None:
    (result,) = results(publisher.post(item(channel, data, ts=7).encode()))
    assert result.get("seq") == 1, result
    v2 = f'{{"ch":"{channel}","ts":7,"seq":1,"data":{arrives}}}'
    live = f'{{"v":1,"event":"tick","channel":"{channel}","seq":1,"ts":7,"ok":true,"data":{arrives}}}'
    seen = json.dumps({channel: 0})
    with websocket(hub.address, "/v2") as peer:
        peer.send_json({"method": "subscribe", "params": [channel], "id": 1, "lastSeq": {channel: 0}})
        peer.read_frame()
        assert peer.read_frame()[1].decode() == v2
    with websocket(hub.address, "/live") as peer:
        peer.send_json({"type": "subscribe", "channels": [channel], "lastSeq": {channel: 0}})
        peer.read_frame()
        assert peer.read_frame()[1].decode() == live
    for format_, message in (("v2", v2), ("live", live)):
        query = {"channels": channel, "lastSeq": seen, "format": format_}
        assert f'"events":[{message}]' in http.get("/poll", params=query).text
        assert f'"events":[{message}]' in http.get(f"/history/{channel}", params={"format": format_}).text
        with RawPeer(hub.address) as peer:
            peer.send(request("GET", str(httpx.URL("/sse", params=query))))
            peer.read_head()
            chunks = peer.chunks()
            next(chunks)
            assert f"\ndata: {message}\n\n" in next(chunks).decode()
    subprotocols: Any = ["hub.v2.cbor"]
    with connect(f"{hub.websocket_url}/v2", subprotocols=subprotocols, proxy=None) as connection:
        connection.recv(PATIENCE)
        connection.send(
            cbor2.dumps({"method": "subscribe", "params": [channel], "id": 1, "lastSeq": {channel: 0}})
        )
        connection.recv(PATIENCE)
        assert cbor2.loads(connection.recv(PATIENCE, decode=False))["data"] == json.loads(arrives)
