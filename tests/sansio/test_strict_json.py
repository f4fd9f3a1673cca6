"""JSON from strangers, at its borders."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.strict_json import MAX_DEPTH, MalformedJson, loads

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
    st.characters(codec="utf-8")
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=4), inner), max_leaves=20
)


@given(values, st.booleans(), st.sampled_from((None, 1)))
def test_all_json_is_read(value: Any, ensure_ascii: bool, indent: int | None) -> None:
    assert loads(json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)) == value


@given(st.text('[]{},:"\\ud80c0 1eE.-+\nafnulNItr\t', max_size=30) | st.text(max_size=20))
def test_any_text_is_read_as_json_or_refused(text: str) -> None:
    try:
        value = loads(text)
    except MalformedJson:
        return
    assert value == json.loads(text)
    json.dumps(value, ensure_ascii=False).encode()


REFUSED = [
    "", " ", "{", "nul", "'a'", "{'a':1}", "[1,]", '{"a":1,}', "01", "+1", "1.", ".5", "0x1", '"\t"', "// no\n1", "1 2",
    "\ufeff1", "undefined", "1" * 5000,
    # what Python's parser alone would take
    "NaN", "Infinity", "-Infinity", "[NaN]", '{"a":-Infinity}',
    '{"a":1,"a":1}', '{"a":1,"b":2,"a":3}', '[{"x":{"a":1,"a":2}}]', '{"a":1,"\\u0061":2}', '{"":1,"":2}',
    r'"\ud800"', r'"\udc00"', r'"\udc00\ud800"', r'"\ud800\ud800"', r'"\ud800x"', r'{"\ud800":1}', r'[["\uDFFF"]]',
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(MalformedJson):
        loads(text)


@pytest.mark.parametrize(
    "text", [r'"\ud83d\ude00"', r'"\uD83D\uDE00\\ud800"', r'{"\u00e9":"\u0000"}', r'"\\ud800"']
)
def test_escapes_that_are_text(text: str) -> None:
    assert loads(text) == json.loads(text)


def lists(depth: int, inside: str = "") -> str:
    return "[" * depth + inside + "]" * depth


def objects(depth: int, inside: str = "1") -> str:
    return '{"a":' * depth + inside + "}" * depth


DEEPEST = [
    lists(MAX_DEPTH), lists(MAX_DEPTH, "1"), objects(MAX_DEPTH), objects(MAX_DEPTH - 1, "{}"),
    lists(16, objects(16)), lists(1, "1," + lists(MAX_DEPTH - 1)), f'{{"a":[],"b":{lists(MAX_DEPTH - 1)}}}',
]  # fmt: skip


@pytest.mark.parametrize("text", DEEPEST)
def test_32_levels(text: str) -> None:
    assert loads(text) == json.loads(text)


@pytest.mark.parametrize("text", DEEPEST)
def test_33_levels(text: str) -> None:
    for deeper in (f"[{text}]", f'{{"a":{text}}}', f'[1,{{}},"x",{text}]'):
        with pytest.raises(MalformedJson, match="deeper than 32"):
            loads(deeper)


@pytest.mark.parametrize("depth", [400, 2000, 100_000])
@pytest.mark.parametrize("nest", [lists, objects])
def test_an_abyss(depth: int, nest: Any) -> None:
    with pytest.raises(MalformedJson):
        loads(nest(depth))
    with pytest.raises(MalformedJson):
        loads("[" * depth)


def test_a_wide_text_is_not_deep() -> None:
    assert len(loads("[" + ",".join(["[[]]"] * 1000) + "]")) == 1000
