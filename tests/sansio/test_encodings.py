"""Framings, read by other people's parsers: wsproto for frames, h11 and httpx-sse for events."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence

import h11
import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from hub.sansio.encodings import (
    WEBSOCKET_PING,
    Bare,
    DeflatedFrames,
    Encoding,
    ServerSentEvents,
    WebSocketFrames,
    deflate_frames,
)
from hub.sansio.live import LiveEnvelope
from hub.sansio.log import Log
from hub.sansio.permessage_deflate import Deflater
from hub.sansio.publication import Position, Publication
from hub.sansio.sse_parser import SseParser
from hub.sansio.stream_v2 import StreamV2Json


def as_websocket_client(data: bytes, *, inflates: str = "") -> list[Event]:
    """``inflates`` is what a server said of permessage-deflate."""
    extension = PerMessageDeflate()
    if inflates:
        extension.finalize(inflates)
    connection = Connection(ConnectionType.CLIENT, [extension])
    connection.receive_data(data)
    events = list(connection.events())
    assert connection.state is ConnectionState.OPEN
    return events


SIZES = (0, 1, 125, 126, 127, 65535, 65536, 70_000)


@pytest.mark.parametrize("size", SIZES)
def test_frames_of_every_length(size: int) -> None:
    text, binary = WebSocketFrames(text=True), WebSocketFrames(text=False)
    assert as_websocket_client(text.frame(b"x" * size, "")) == [TextMessage(data="x" * size)]
    assert as_websocket_client(binary.frame(b"\xff" * size, "")) == [BytesMessage(data=b"\xff" * size)]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=200), max_size=8))
def test_frames_follow_each_other(messages: list[str]) -> None:
    framing = WebSocketFrames(text=True)
    data = b"".join(framing.frame(message.encode(), "", is_first=not n) for n, message in enumerate(messages))
    assert as_websocket_client(data) == [TextMessage(data=message) for message in messages]


def test_a_ping_is_a_ping() -> None:
    assert as_websocket_client(WEBSOCKET_PING) == [Ping(payload=b"")]
    assert WebSocketFrames(text=True).carries_cursor is False


def test_a_pong_is_a_pong() -> None:
    assert as_websocket_client(WebSocketFrames.pong(b"x" * 125)) == [Pong(payload=b"x" * 125)]


ALONE = "permessage-deflate; server_no_context_takeover; server_max_window_bits=12"
words = st.sampled_from(['{"ch":', '"trades@btc_tl"', "415000", "0.00", "}", "ü", "\x00"])
message_texts = st.lists(words, max_size=200).map("".join)


def as_event(message: str, *, text: bool) -> Event:
    return TextMessage(data=message) if text else BytesMessage(data=message.encode())


@given(st.lists(message_texts, max_size=8), st.integers(1, 300))
def test_deflated_frames(messages: list[str], min_size: int) -> None:
    for text in (True, False):
        framing = DeflatedFrames(text=text, level=5, window=12, min_size=min_size)
        frames = [framing.frame(message.encode(), "") for message in messages]
        expected = [as_event(message, text=text) for message in messages]
        # All of them, and each by itself: what a client that comes later gets.
        assert as_websocket_client(b"".join(frames), inflates=ALONE) == expected
        for frame, event in zip(frames, expected, strict=True):
            assert as_websocket_client(frame, inflates=ALONE) == [event]
        plain = WebSocketFrames(text=text)
        for frame, message in zip(frames, messages, strict=True):
            is_plain = frame == plain.frame(message.encode(), "")
            assert is_plain or (frame[0] & 0x40 and len(frame) < len(message.encode()) + 10)
            assert is_plain or len(message.encode()) >= min_size


def test_what_does_not_shrink_is_left_as_it_is() -> None:
    framing = DeflatedFrames(text=False, level=9, window=15, min_size=1)
    noise = random.Random(1).randbytes(500)
    assert framing.frame(noise, "") == WebSocketFrames(text=False).frame(noise, "")
    assert framing.frame(b"x" * 500, "", is_first=True)[0] == 0xC2


def test_a_long_message_that_is_sent_again_is_not_deflated_again() -> None:
    framing = DeflatedFrames(text=True, level=5, window=12, min_size=128)
    states = [str(number).encode() * 1024 for number in range(framing.KEPT)]
    frames = [framing.frame(state, "") for state in states]
    framing.frame(b"x" * 1023, "")
    framing.frame(b"x" * 64 * 1024, "")
    assert all(framing.frame(state, "") is frame for state, frame in zip(states, frames, strict=True))
    framing.frame(b"one more" * 200, "")
    assert framing.frame(states[-1], "") is frames[-1]
    assert framing.frame(states[0], "") is not frames[0]
    assert framing.frame(states[0], "") == frames[0]


@given(
    st.lists(message_texts | st.sampled_from(SIZES).map(lambda size: "x" * size), max_size=6),
    st.integers(1, 300),
    st.booleans(),
)
def test_frames_for_a_client_with_a_context(messages: list[str], min_size: int, text: bool) -> None:
    framing = WebSocketFrames(text=text)
    pong = WebSocketFrames.pong(b"p" * 125)
    plain = [WEBSOCKET_PING, *(framing.frame(message.encode(), "") for message in messages), pong]
    deflater = Deflater(level=5, window=9, keeps_context=True)
    half = len(plain) // 2
    frames = [
        frame
        for joined in (plain[:half], plain[half:])
        for frame in deflate_frames(b"".join(joined), deflater, min_size)
    ]
    assert (frames[0], frames[-1], len(frames)) == (WEBSOCKET_PING, pong, len(plain))
    for message, frame in zip(messages, frames[1:-1], strict=True):
        assert bool(frame[0] & 0x40) == (len(message.encode()) >= min_size)
    agreed = "permessage-deflate; server_max_window_bits=9"
    _, *events, _ = as_websocket_client(b"".join(frames), inflates=agreed)
    assert events == [as_event(message, text=text) for message in messages]


def test_bare_messages_are_bare() -> None:
    assert Bare().frame(b"x", "cursor", is_first=True) == b"x"


# --- events -----------------------------------------------------------------------------------------------


def as_event_source(body: bytes) -> list[ServerSentEvent]:
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    return list(EventSource(response).iter_sse())


def as_http_client(chunks: bytes) -> bytes:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/sse", headers=[("host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks)
    body = bytearray()
    while not isinstance(event := connection.next_event(), type(h11.NEED_DATA)):
        assert isinstance(event, (h11.Response, h11.Data))
        body += event.data if isinstance(event, h11.Data) else b""
    return bytes(body)


one_line = st.text(st.characters(codec="utf-8"), min_size=1, max_size=80).map(
    functools.partial(json.dumps, ensure_ascii=False)
)
cursors = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)


@given(st.lists(st.tuples(one_line, cursors), max_size=6), st.booleans(), st.integers(1, 60_000))
def test_events(messages: Sequence[tuple[str, str]], chunked: bool, retry_ms: int) -> None:
    framing = ServerSentEvents(chunked=chunked, retry_ms=retry_ms)
    data = framing.comment()
    for number, (message, cursor) in enumerate(messages):
        data += framing.frame(message.encode(), cursor, is_first=not number)
    events = as_event_source(as_http_client(data) if chunked else data)
    assert [(event.event, event.data, event.id) for event in events] == [
        ("message", *item) for item in messages
    ]
    assert [event.retry for event in events] == [retry_ms, *[None] * len(messages)][: len(messages)]


def test_comments_between_events_are_nothing_to_any_parser() -> None:
    framing = ServerSentEvents(chunked=False, retry_ms=1)
    data = framing.frame(b"1", "c1", is_first=True) + framing.comment() + framing.frame(b"2", "c2")
    assert [event.data for event in as_event_source(data)] == ["1", "2"]
    assert [event.data for event in SseParser().feed(data)] == ["1", "2"]


def test_a_close_frame_is_one() -> None:
    connection = Connection(ConnectionType.CLIENT)
    connection.receive_data(WebSocketFrames.close(4029, "x" * 123))
    assert list(connection.events()) == [CloseConnection(code=4029, reason="x" * 123)]
    connection = Connection(ConnectionType.CLIENT)
    connection.receive_data(WebSocketFrames.close(None, ""))
    assert list(connection.events()) == [CloseConnection(code=1005, reason="")]


def test_a_comment_is_not_the_end_of_a_chunked_body() -> None:
    framing = ServerSentEvents(chunked=True, retry_ms=1)
    assert as_http_client(framing.comment() * 3) == b":\n" * 3
    assert framing.carries_cursor


# --- sharing ----------------------------------------------------------------------------------------------


def open_log() -> tuple[Log, Publication]:
    log = Log(Position("e1", 0), max_count=10, max_bytes=1 << 20, max_age=60.0)
    log.append(Publication(1, b'{"p":"1"}', ts=5, stored_at=0.0, event="trade"))
    return log, log.read(0, 1)[0]


def test_a_publication_is_encoded_once_for_each_encoding() -> None:
    log, publication = open_log()
    first, second = (Encoding(StreamV2Json(), WebSocketFrames(text=True)) for _ in range(2))
    before = log.size
    frame = first.publication("a", publication, log, has_type=False)
    assert first.publication("a", publication, log, has_type=False) is frame
    assert log.size == before + len(frame)
    assert second.publication("a", publication, log, has_type=False) == frame
    assert log.size == before + 2 * len(frame)
    log.evict_oldest(1)
    assert log.size == 0


def test_with_cursors_the_message_is_shared_and_the_frame_is_not() -> None:
    log, publication = open_log()
    framing = ServerSentEvents(chunked=False, retry_ms=1)
    bare = Encoding(LiveEnvelope(), Bare())
    encoding = Encoding(bare.protocol, framing, bare=bare)
    frames = [
        encoding.publication_with_cursor("a", publication, log, has_type=False, cursor=cursor)
        for cursor in ("c1", "c2")
    ]
    events = as_event_source(b"".join(frames))
    assert [event.id for event in events] == ["c1", "c2"]
    assert events[0].data == events[1].data == publication.wire[bare].decode()
    assert list(publication.wire) == [bare]
