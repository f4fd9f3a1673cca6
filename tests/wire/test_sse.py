"""live-envelope.md over the wire: `/sse`, as ``httpx-sse`` and a client made of bytes see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from tests.hub_process import HubProcess
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import RawPeer, request

Naming = Callable[[str], str]


class Stream:
    """An open event stream."""

    def __init__(self, events: Iterator[ServerSentEvent], response: httpx.Response) -> None:
        self.response = response
        self.events = events
        self.last_id = ""

    def next(self) -> Any:
        event = next(self.events)
        assert event.id and event.event == "message"
        self.last_id = event.id
        return json.loads(event.data)

    def take(self, count: int) -> list[Any]:
        return [self.next() for _ in range(count)]


@contextmanager
def open_sse(
    http: httpx.Client, channels: str, headers: dict[str, str] | None = None, **query: Any
) -> Iterator[Stream]:
    params = {"channels": channels, **query}
    with connect_sse(http, "GET", "/sse", params=params, headers=headers or {}) as source:
        assert source.response.status_code == 200, source.response.read()
        yield Stream(source.iter_sse(), source.response)


def test_headers_and_the_first_event(
    hub: HubProcess, http: httpx.Client, publisher: Publisher, name: Naming
) -> None:
    channel = name("ev")
    publisher.publish(channel, 1)
    with open_sse(http, channel) as stream:
        first = stream.next()
    headers = stream.response.headers
    assert headers["content-type"].split(";")[0] == "text/event-stream"
    assert headers["cache-control"] == "no-cache" and headers["x-accel-buffering"] == "no"
    assert (first["event"], first["channel"], first["data"]["channels"]) == (
        "subscribed",
        "system",
        [channel],
    )
    assert first["data"]["positions"][channel]["seq"] == 1


def test_the_bytes(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    with RawPeer(hub.address) as peer:
        peer.send(request("GET", f"/sse?channels={channel}"))
        status, headers = peer.read_head()
        assert status == 200 and headers["transfer-encoding"] == "chunked"
        chunks = peer.chunks()
        first = next(chunks).decode()
        publisher.publish(channel, 1, 2)
        blocks = [next(chunks).decode(), next(chunks).decode()]
        while (comment := next(chunks)) != b":\n":
            raise AssertionError(comment)
    retry, id_, data, *rest = first.split("\n")
    assert (
        retry == "retry: 3000" and id_.startswith("id: ") and data.startswith("data: {") and rest == ["", ""]
    )
    for block in blocks:
        id_, data, *rest = block.split("\n")
        assert id_.startswith("id: ") and len(id_) > 8 and id_.isascii() and rest == ["", ""]
        assert json.loads(data.removeprefix("data: "))["event"] == "tick"


def test_http_1_0_gets_a_plain_stream(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    with RawPeer(hub.address) as peer:
        peer.send(f"GET /sse?channels={channel} HTTP/1.0\r\n\r\n".encode())
        status, headers = peer.read_head()
        assert status == 200 and "transfer-encoding" not in headers and headers.get("connection") == "close"
        assert peer.read_until(b"\n\n").startswith(b"retry: 3000\nid: ")
        publisher.publish(channel, 1)
        assert peer.read_until(b"\n\n").startswith((b"id: ", b":"))


def test_reconnecting_at_once_loses_nothing(http: httpx.Client, publisher: Publisher, name: Naming) -> None:
    channel, state = name("ev"), name("state")
    publisher.publish(channel, 0)
    publisher.publish(state, "s0")
    with open_sse(http, f"{channel},{state}") as stream:
        stream.next()
    publisher.publish(channel, 1)
    publisher.publish(state, "s1")
    with open_sse(http, f"{channel},{state}", {"Last-Event-ID": stream.last_id}) as stream:
        events = stream.take(3)
    assert {event["data"] for event in events[1:]} == {1, "s1"}
    assert {event["event"] for event in events[1:]} == {"tick", "snapshot"}


def test_every_id_resumes_right_after_its_event(
    http: httpx.Client, publisher: Publisher, name: Naming
) -> None:
    channels = [name("ev"), name("state"), name("ev")]
    for round_ in range(3):
        for channel in channels:
            publisher.publish(channel, round_)
    seen_from = dict.fromkeys((channels[0], channels[2]), 0)
    ids, events = [], []
    with open_sse(http, ",".join(channels), lastSeq=json.dumps(seen_from)) as stream:
        for _ in range(8):
            events.append(stream.next())
            ids.append(stream.last_id)
    for index, id_ in enumerate(ids):
        rest = events[index + 1 :]
        with open_sse(http, ",".join(channels), {"Last-Event-ID": id_}) as stream:
            stream.next()
            got = stream.take(len(rest))
        key = lambda event: (event["channel"], event["seq"], event["event"])  # noqa: E731
        assert sorted(map(key, got)) == sorted(map(key, rest)), index


def test_the_header_wins_over_the_url(http: httpx.Client, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    with open_sse(http, channel) as stream:
        stream.next()
        old = stream.last_id
    publisher.publish(channel, 1, 2)
    with open_sse(http, channel, cursor=old) as stream:
        stream.take(2)
    assert stream.last_id != old
    with open_sse(http, channel, {"Last-Event-ID": stream.last_id}, cursor=old) as stream:
        assert stream.take(2)[1]["data"] == 2
    with open_sse(http, channel, {"Last-Event-ID": ""}, cursor=old) as stream:
        assert stream.take(2)[1]["data"] == 1


def test_v2_frames(http: httpx.Client, publisher: Publisher, name: Naming) -> None:
    channel = name("state")
    publisher.publish(channel, 1)
    with open_sse(http, channel, format="v2") as stream:
        connected, snapshot = stream.take(2)
        publisher.publish(channel, 2)
        delta = stream.next()
    assert connected["event"] == "connected" and connected["connId"].startswith("c_n1_")
    assert (snapshot["type"], snapshot["snapshotSeq"]) == ("snapshot", 1)
    assert (delta["ch"], delta["seq"], delta["type"], delta["data"]) == (channel, 2, "delta", 2)


@pytest.mark.parametrize("format_", ["live", "v2"])
@pytest.mark.parametrize(
    "namespace, seen, reason",
    [("small", 3, "evicted"), ("ev", 99, "ahead"), ("ev", {"seq": 1, "epoch": "x"}, "epoch")],
)
def test_gaps_are_told(
    http: httpx.Client,
    publisher: Publisher,
    name: Naming,
    format_: str,
    namespace: str,
    seen: Any,
    reason: str,
) -> None:
    channel = name(namespace)
    publisher.publish(channel, *range(1, 31))
    with open_sse(http, channel, lastSeq=json.dumps({channel: seen}), format=format_) as stream:
        gap = stream.take(2)[1]
        after_gap = stream.last_id
        publisher.publish(channel, "next")
        while stream.next()["data"] != "next":
            pass
    assert gap["event"] == "gap" and gap["data"]["reason"] == reason
    with open_sse(http, channel, {"Last-Event-ID": after_gap}, format=format_) as stream:
        assert stream.take(2)[1].get("data") != gap["data"]


def test_a_long_replay_comes_whole(http: httpx.Client, publisher: Publisher, name: Naming) -> None:
    channel = name("replay")
    for start in range(1, 4001, 1000):
        publisher.publish(
            channel, *({"n": number, "pad": "x" * 200} for number in range(start, start + 1000))
        )
    with open_sse(http, channel, lastSeq=json.dumps({channel: 0})) as stream:
        stream.next()
        assert [event["seq"] for event in stream.take(4000)] == list(range(1, 4001))


@pytest.mark.parametrize("length", [10, 60])
def test_many_channels_still_have_a_cursor(
    http: httpx.Client, publisher: Publisher, name: Naming, length: int
) -> None:
    """A cursor is at most 2 KB; a set of channels that needs more is refused rather than left without ids."""
    channels = [f"ev:{number}".ljust(length, "x") for number in range(50)]
    response = http.get("/poll", params={"channels": ",".join(channels), "wait": "0"})
    if response.status_code == 200:
        cursor = response.json()["cursor"]
        assert len(cursor) <= 2048
        assert (
            http.get(
                "/poll", params={"channels": ",".join(channels), "cursor": cursor, "wait": "0"}
            ).status_code
            == 200
        )
        with open_sse(http, ",".join(channels)) as stream:
            stream.next()
            assert stream.last_id
    else:
        assert response.status_code == 400 and length == 60
        assert http.get("/sse", params={"channels": ",".join(channels)}).status_code == 400


def test_a_second_request_behind_a_stream_disturbs_nothing(
    hub: HubProcess, publisher: Publisher, name: Naming
) -> None:
    channel = name("ev")
    with RawPeer(hub.address) as peer:
        peer.send(request("GET", f"/sse?channels={channel}") + request("GET", "/nowhere"))
        peer.read_head()
        chunks = peer.chunks()
        next(chunks)
        publisher.publish(channel, 1)
        while (block := next(chunks)) == b":\n":
            pass
        assert b'"data":1' in block


@pytest.mark.parametrize(
    "garbage", [b"\x00\x01\x02\r\n\r\n", b"GET /nowhere HTTP/1.1\r\n\r\n", b"x" * 20_000]
)
def test_garbage_behind_a_stream_never_becomes_a_part_of_it(
    hub: HubProcess, name: Naming, garbage: bytes
) -> None:
    with RawPeer(hub.address) as peer:
        peer.send(request("GET", f"/sse?channels={name('ev')}"))
        peer.read_head()
        chunks = peer.chunks()
        next(chunks)
        peer.send(garbage)
        try:
            for chunk in chunks:
                if chunk == b":\n":
                    break
        except EOFError:
            assert not peer.buffer
