"""Payloads: one line, the publisher's own digits, and nothing that some client could not read."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.payload import MAX_DEPTH, BadPayload, check_payload

texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(values, st.booleans(), st.sampled_from((None, 0, 3)))
def test_what_is_json_is_taken_on_one_line(value: Any, ensure_ascii: bool, indent: int | None) -> None:
    raw = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent).encode()
    payload = check_payload(raw)
    assert json.loads(payload) == value
    assert b"\n" not in payload and b"\r" not in payload
    assert payload == raw or b"\n" in raw


number = st.from_regex(
    r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
).filter(str.isascii)


@given(st.lists(number, min_size=1, max_size=6), st.sampled_from(("", " ", "\n", "\r\n\t")))
def test_no_number_changes_its_digits(numbers: list[str], space: str) -> None:
    raw = f"[{space}{f'{space},'.join(numbers)}]".encode()
    assert re.sub(rb"\s", b"", check_payload(raw)) == re.sub(rb"\s", b"", raw)


@given(st.text(r'{}[]",:\ud80c019eE+-. ' + "\n", max_size=30) | texts)
def test_any_text_is_taken_as_it_means_or_refused(text: str) -> None:
    try:
        payload = check_payload(text.encode())
    except BadPayload:
        return
    value = json.loads(payload)
    assert value == json.loads(text)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@given(st.binary(max_size=20))
def test_any_bytes_are_taken_or_refused(raw: bytes) -> None:
    try:
        check_payload(raw).decode()
    except BadPayload:
        pass


REFUSED = [
    b"", b" ", b"{", b"[1,]", b"{'a':1}", b"01", b"1 2", b"NaN", b"[Infinity]", b"-Infinity", b'"\n"', b"\xef\xbb\xbf1",
    b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b'["\\udc00x"]', b'{"\\ud800":1}', b"1e309", b"[-1e999]",
    b"[" * 100_000, b"[" * 5000 + b"]" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("raw", REFUSED)
def test_refused(raw: bytes) -> None:
    with pytest.raises(BadPayload):
        check_payload(raw)


def nested(depth: int, inside: bytes = b"1") -> bytes:
    return b'{"a":[' * (depth // 2) + inside + b"]}" * (depth // 2)


def test_depth() -> None:
    assert check_payload(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    assert check_payload(nested(MAX_DEPTH, b"1\n")) == nested(MAX_DEPTH)
    for deeper in (b"[%b]" % nested(MAX_DEPTH), nested(MAX_DEPTH, b"[]"), b"[1,{},%b]" % nested(MAX_DEPTH)):
        with pytest.raises(BadPayload, match="nested"):
            check_payload(deeper)


@pytest.mark.parametrize("raw", [b"[" + b",".join([b"[]"] * 1000) + b"]", b'"' + b"[{" * 1000 + b'"'])
def test_many_brackets_are_not_depth(raw: bytes) -> None:
    assert check_payload(raw) is raw


LARGEST = str(int(sys.float_info.max)).encode()


@pytest.mark.parametrize(
    "raw",
    [LARGEST, b"-" + LARGEST, b"[%b]" % LARGEST, b'{"a":"%b"}' % (b"9" * 400), b"0." + b"1" * 400, b'{"%b":1}' % (b"9" * 400),
     b"[[%b,null],true]" % LARGEST],
)  # fmt: skip
def test_long_numbers_that_fit(raw: bytes) -> None:
    assert check_payload(raw) is raw


@pytest.mark.parametrize("raw", [b"%b0", b"-%b0", b"[1,[%b0]]", b'{"a":{"b":%b1}}', b'["x",%b0,"y"]'])
def test_long_numbers_that_do_not(raw: bytes) -> None:
    with pytest.raises(BadPayload, match="double"):
        check_payload(raw % LARGEST)


@pytest.mark.parametrize("depth", [70, 400, 500, 900])
def test_a_long_number_far_down(depth: int) -> None:
    with pytest.raises(BadPayload):
        check_payload(b"[" * depth + LARGEST + b"]" * depth)
