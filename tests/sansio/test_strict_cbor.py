"""CBOR from outside: no tag makes the decoder work, wherever such a thing comes in."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager

import cbor2
import pytest

from hub.sansio import strict_cbor
from hub.sansio.cursor import decode_cursor
from hub.sansio.errors import RequestRefused

TAGS = (*range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 4711, 43000, 55799)
EXPRESSION = cbor2.dumps(cbor2.CBORTag(35, "a+b"))


@contextmanager
def counting_expressions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What is compiled as a regular expression in the block."""
    compiled: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(re, "compile", compiled.append)
        yield compiled


@pytest.mark.parametrize("tag", TAGS)
def test_no_tag_is_taken_before_what_it_holds_is_looked_at(tag: int) -> None:
    head = cbor2.dumps(cbor2.CBORTag(tag, 0))[:-1]
    for content in (b"\x00", b"\x41\x01", b"\x61a", b"\x80"):
        with pytest.raises(strict_cbor.CBOR_ERRORS, match="tag"):
            strict_cbor.loads(head + content, max_depth=8)


def test_numbers_where_they_are_allowed() -> None:
    for number in (2**70, -(2**70)):
        assert strict_cbor.loads(cbor2.dumps(number), max_depth=8, tags=strict_cbor.INTEGER_TAGS) == number


def test_the_count_sees_an_expression_that_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    with counting_expressions(monkeypatch) as compiled:
        cbor2.loads(EXPRESSION)
    assert compiled == ["a+b"]


@pytest.mark.parametrize("before, after", [(b"", b""), (b"\x82\x01", b""), (b"\x82", b"\xa0")])
def test_a_cursor_compiles_nothing(before: bytes, after: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    text = base64.urlsafe_b64encode(before + EXPRESSION + after).rstrip(b"=").decode()
    is_refused = False
    with counting_expressions(monkeypatch) as compiled:
        try:
            decode_cursor(text, max_size=2048)
        except RequestRefused:
            is_refused = True
    assert is_refused and not compiled
