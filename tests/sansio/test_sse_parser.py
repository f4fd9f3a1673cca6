from __future__ import annotations

import itertools
import re

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import example, given
from hypothesis import strategies as st

from hub.sansio.sse_parser import ServerSentEvent, SseParser

# Pieces that matter to a parser; whatever Hypothesis makes of them is a stream.
_VALUES = ("", " ", "  x", "1", "12", "a:b", "é€😀", "\0", "\ufeff", '{"v":1}')
_lines = st.one_of(
    st.builds("{}{}{}".format, st.sampled_from(["data", "event", "id", "retry", "", "DATA", "other"]),
              st.sampled_from([":", ": ", ""]), st.sampled_from(_VALUES)),
    st.just(""),
)  # fmt: skip
_ends = st.sampled_from(["\n", "\r", "\r\n"])
_texts = st.lists(st.builds(str.__add__, _lines, _ends)).map("".join)
_streams = st.one_of(_texts.map(str.encode), st.lists(st.sampled_from(
    [b"data", b":", b" ", b"\n", b"\r", b"id", b"\xef", b"\xbb", b"\xbf", b"\xff", b"x", b"\0"])).map(b"".join))  # fmt: skip


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[begin:end] for begin, end in itertools.pairwise(edges)]


def parse(parser: SseParser, chunks: list[bytes]) -> list[ServerSentEvent]:
    return [event for chunk in chunks for event in parser.feed(chunk)]


def read_whole(stream: bytes) -> tuple[list[ServerSentEvent], str, int | None]:
    """The standard's words, taken literally, for a stream that is there as a whole."""
    text = stream.decode("utf-8-sig", "replace")
    *lines, _ = re.split("\r\n|\r|\n", text)
    events, data, event, identity, last_id, retry = [], "", "", "", "", None
    for line in lines:
        field, _, value = line.partition(":")
        value = value[1:] if value[:1] == " " else value
        if line == "":
            last_id = identity
            if data:
                events.append(ServerSentEvent(data[:-1], event or "message", last_id))
            data = event = ""
        elif field == "data":
            data += value + "\n"
        elif field == "event":
            event = value
        elif field == "id" and "\0" not in value:
            identity = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value)
    return events, last_id, retry


@given(_streams, st.lists(st.integers(min_value=0, max_value=10_000)))
@example(b"\xef\xbb\xbfdata: x\r\n\r\n", list(range(30)))
@example(b"\xef\xbbdata: x\n\ndata: y\n\n", [1])
@example(b"data: \xe2\x82\xac\xe2\n\n", list(range(20)))
def test_any_chunking_gives_what_the_standard_says_of_the_whole(stream: bytes, places: list[int]) -> None:
    parser = SseParser()
    events = parse(parser, cut(stream, places))
    assert (events, parser.last_id, parser.retry_ms) == read_whole(stream)


def _read_with_httpx_sse(chunks: list[bytes]) -> list[tuple[str, str, str]]:
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=iter(chunks))
    return [(event.data, event.event, event.id) for event in EventSource(response).iter_sse()]


@given(_texts, st.lists(st.integers(min_value=0, max_value=10_000)))
def test_agrees_with_httpx_sse(text: str, places: list[int]) -> None:
    # It knows no BOM, gives events that have no data, and takes the end of the stream for the end of a line.
    stream = text.lstrip("\ufeff").encode()
    theirs = _read_with_httpx_sse(cut(stream, places))
    ours = [(event.data, event.event, event.id) for event in parse(SseParser(), cut(stream, places))]
    assert [event for event in ours if event[0]] == [event for event in theirs if event[0]]


def test_an_event_is_given_by_the_cr_of_its_blank_line() -> None:
    parser = SseParser()
    assert parser.feed(b"data: 1\r\n\r") == [ServerSentEvent("1")]
    assert parser.feed(b"\ndata: 2\r\r") == [ServerSentEvent("2")]


def test_the_id_of_an_event_that_was_cut_off_does_not_count() -> None:
    parser = SseParser()
    parser.feed(b"id: 1\ndata: x\n\nid: 2\ndata: y\n")
    assert parser.last_id == "1"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_event_that_is_too_large_is_dropped_and_counted(size: int) -> None:
    stream = b"id: 1\ndata: %b\n\nid: 2\ndata: %b\ndata: more\n\nid: 3\ndata: c\n\n" % (b"a" * 9, b"b" * 30)
    parser = SseParser(max_event_size=20)
    events = parse(parser, [stream[begin : begin + size] for begin in range(0, len(stream), size)])
    assert events == [ServerSentEvent("a" * 9, id="1"), ServerSentEvent("c", id="3")]
    assert parser.dropped == 1


def test_many_small_lines_are_too_large_together() -> None:
    parser = SseParser(max_event_size=20)
    assert parse(parser, [b"data: abcdefg\n"] * 5 + [b"\n", b"data: x\n\n"]) == [ServerSentEvent("x")]
    assert parser.dropped == 1


def test_comments_between_events_cost_nothing() -> None:
    parser = SseParser(max_event_size=20)
    assert parse(parser, [b": still here\n"] * 50 + [b"data: x\n\n"]) == [ServerSentEvent("x")]
    assert parser.dropped == 0
