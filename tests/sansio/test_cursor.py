"""Cursors: what goes in comes out, and whatever else comes in is refused."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.sansio.cursor import (
    DEFLATED,
    MAX_EPOCH_LENGTH,
    VERSION,
    decode_cursor,
    encode_cursor,
    is_epoch,
    is_seq,
)
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.names import MAX_NAME_LENGTH
from hub.sansio.publication import MAX_SEQ, Position

names = st.from_regex(r"[A-Za-z0-9_.:@-]{1,64}", fullmatch=True)
epochs = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64)
positions = st.builds(Position, st.sampled_from(("e1", "e2")) | epochs, st.integers(0, MAX_SEQ))


def pack(value: object) -> str:
    return base64.urlsafe_b64encode(cbor2.dumps(value)).decode().rstrip("=")


@given(st.dictionaries(names, positions, max_size=8))
def test_round_trip(where: Mapping[str, Position]) -> None:
    cursor = encode_cursor(where.items())
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor), "safe in a URL and in a header"
    assert decode_cursor(cursor, max_size=len(cursor)) == where
    with pytest.raises(RequestRefused) as refused:
        decode_cursor(cursor, max_size=len(cursor) - 1)
    assert refused.value.code == ErrorCode.INVALID_REQUEST


def test_channels_of_one_epoch_share_its_name() -> None:
    epoch = "x" * 40
    one = encode_cursor([("a", Position(epoch, 1))])
    two = encode_cursor([("a", Position(epoch, 1)), ("b", Position(epoch, 1))])
    assert len(two) - len(one) <= 4


def test_fifty_market_channels_fit_into_two_kilobytes() -> None:
    where = {f"orderbook.20@mkt{number:02}_usdt": Position("0123456789abcdef", 2**33) for number in range(50)}
    assert decode_cursor(encode_cursor(where.items()), max_size=2048) == where


def deflate(raw: bytes) -> str:
    return DEFLATED + base64.urlsafe_b64encode(zlib.compress(raw)).decode().rstrip("=")


MANY = {f"trades@mkt{number:03}_usdt": Position("e1", number) for number in range(200)}


def test_many_channels_are_deflated() -> None:
    cursor = encode_cursor(MANY.items())
    assert cursor.startswith(DEFLATED)
    assert len(cursor) < 2048
    assert decode_cursor(cursor, max_size=2048) == MANY
    few = encode_cursor(list(MANY.items())[:3])
    assert not few.startswith(DEFLATED)
    # Which of the two forms it has is the writer's choice.
    raw = base64.urlsafe_b64decode(few + "=" * (-len(few) % 4))
    assert decode_cursor(deflate(raw), max_size=2048) == dict(list(MANY.items())[:3])


def test_a_small_cursor_cannot_become_a_large_one() -> None:
    bomb = deflate(cbor2.dumps([VERSION, {"e": {"a": 1}}, b"x" * 1_000_000]))
    assert len(bomb) < 2048
    with pytest.raises(RequestRefused):
        decode_cursor(bomb, max_size=2048)


def test_a_deflated_cursor_is_whole() -> None:
    cursor = encode_cursor(MANY.items())
    for broken in (cursor[:-8], cursor + "AAAA", DEFLATED, DEFLATED + cursor, cursor[1:], DEFLATED + "AAAA"):
        with pytest.raises(RequestRefused):
            decode_cursor(broken, max_size=4096)


GOOD = {"e": {"a": 1}}
NOT_CURSORS = [
    "", "!", "a", "é", "\ud800", "AAAA AAAA", pack([VERSION, GOOD]) + "AA",
    pack([VERSION, GOOD])[:-4], pack(None), pack(GOOD), pack([]), pack([VERSION]), pack([VERSION, GOOD, 0]),
    pack([VERSION + 1, GOOD]), pack(["1", GOOD]), pack([VERSION, []]), pack([VERSION, None]),
    pack([VERSION, {"e": []}]), pack([VERSION, {"e": {"a": "1"}}]), pack([VERSION, {"e": {"a": -1}}]),
    pack([VERSION, {"e": {"a": MAX_SEQ + 1}}]), pack([VERSION, {"e": {"a": 1.0}}]),
    pack([VERSION, {"e": {"a": True}}]), pack([VERSION, {"e": {1: 1}}]), pack([VERSION, {"e": {b"a": 1}}]),
    pack([VERSION, {"e": {"": 1}}]), pack([VERSION, {"e": {"a b": 1}}]),
    pack([VERSION, {"e": {"a" * (MAX_NAME_LENGTH + 1): 1}}]), pack([VERSION, {"": {"a": 1}}]),
    pack([VERSION, {1: {"a": 1}}]), pack([VERSION, {"é": {"a": 1}}]), pack([VERSION, {"\n": {"a": 1}}]),
    pack([VERSION, {"x" * (MAX_EPOCH_LENGTH + 1): {"a": 1}}]), pack([VERSION, {"e": {"a": 1}, "f": {"a": 2}}]),
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_CURSORS)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        decode_cursor(text, max_size=2048)
    assert refused.value.code == ErrorCode.INVALID_REQUEST


def _never_hurts(raw: bytes) -> None:
    text = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    try:
        where = decode_cursor(text, max_size=10_000)
    except RequestRefused:
        return
    assert decode_cursor(encode_cursor(where.items()), max_size=10_000) == where


@given(st.binary(max_size=60))
@example(b"\x81" * 5000)
@example(b"\x82\x01" * 3000)
@example(b"\x9b" + b"\xff" * 8)
@example(b"\x82\x01\xbb" + b"\xff" * 8)
def test_any_bytes_are_a_cursor_or_refused(raw: bytes) -> None:
    _never_hurts(raw)


tags = st.sampled_from((0, 1, 2, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000))
tagged = st.recursive(
    st.sampled_from((0, 1, -1, 2**63, "N", "(", "e", b"", b"\xff" * 20, None, float("nan"))),
    lambda inner: st.lists(inner, max_size=2) | st.builds(cbor2.CBORTag, tags, inner),
    max_leaves=6,
)


@given(tagged, st.integers(0, 3))
def test_no_tag_opens_a_way_in(value: object, place: int) -> None:
    raw = cbor2.dumps(value)
    _never_hurts((b"", b"\x82\x01", b"\x82\x01\xa1", b"\x82\x01\xa1\x61e\xa1\x61a")[place] + raw)


@given(st.text(max_size=40))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        decode_cursor(text, max_size=2048)
    except RequestRefused:
        pass


@pytest.mark.parametrize("value", ["e", "x" * 64, "a b~!"])
def test_epochs(value: str) -> None:
    assert is_epoch(value)


@pytest.mark.parametrize("value", [None, 1, "", "x" * 65, "é", "\x7f", "a\n", b"e"])
def test_not_an_epoch(value: object) -> None:
    assert not is_epoch(value)


@pytest.mark.parametrize(
    "value, good", [(0, 1), (MAX_SEQ, 1), (-1, 0), (MAX_SEQ + 1, 0), (True, 0), (1.0, 0), ("1", 0)]
)
def test_sequence_numbers(value: object, good: int) -> None:
    assert is_seq(value) == bool(good)
