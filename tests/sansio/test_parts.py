"""Wholes and parts: which part an event belongs to, and that grouping loses and invents nothing."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.parts import Parts, is_list, parts_of

ORDERS = Parts("orders@{market}")


@pytest.mark.parametrize(
    "item, name",
    [
        (b'{"market":"btc_tl","orderId":1}', "orders@btc_tl"),
        (b'{"a":{"market":"no"},"market":"eth_tl"}', "orders@eth_tl"),
        (b'{"market":""}', "orders@"),
        (b'{"market":"a\\u0062c"}', "orders@abc"),
        (b'{"market":null}', None),
        (b'{"market":5}', None),
        (b'{"market":["btc_tl"]}', None),
        (b'{"Market":"btc_tl"}', None),
        (b"{}", None),
        (b"[]", None),
        (b'"btc_tl"', None),
        (b"5", None),
        (b"{", None),
    ],
)
def test_the_part_of_an_event(item: bytes, name: str | None) -> None:
    assert ORDERS.name_of(item) == name


def test_a_template_with_text_on_both_sides() -> None:
    assert Parts("a.{x}:b").name_of(b'{"x":"1"}') == "a.1:b"
    assert Parts("a.{x}:b").name_of(b'{"y":"1"}') is None


def test_a_template_is_read_once() -> None:
    assert parts_of("a@{b}") is parts_of("a@{b}")


@pytest.mark.parametrize(
    "data, expected",
    [(b"[]", True), (b"  \t[1]", True), (b"{}", False), (b'"["', False), (b" {}", False), (b"5", False)],
)
def test_lists(data: bytes, expected: bool) -> None:
    assert is_list(data) == expected


def test_what_is_no_list_is_one_of_one() -> None:
    assert ORDERS.group(b'{"market":"a_b"}') == {"orders@a_b": b'[{"market":"a_b"}]'}
    assert ORDERS.group(b"[]") == {}


items = st.fixed_dictionaries(
    {"id": st.integers(), "price": st.sampled_from(("1.10", "0"))},
    optional={
        "market": st.sampled_from(("a_b", "c_d", "", None, 5)),
        "more": st.lists(st.text(), max_size=2),
    },
)


@given(st.lists(items, max_size=8), st.sampled_from((None, 2)))
def test_grouping(values: list[dict[str, Any]], indent: int | None) -> None:
    groups = ORDERS.group(json.dumps(values, indent=indent).encode())
    regrouped = {name: json.loads(data) for name, data in groups.items()}
    flat = [json.dumps(item) for group in regrouped.values() for item in group]
    assert Counter(flat) == Counter(json.dumps(value) for value in values)
    for name, group in regrouped.items():
        assert group == [value for value in values if ORDERS.name_of(json.dumps(value).encode()) == name]
        assert group, "a part without an event"
    seen = list(dict.fromkeys(ORDERS.name_of(json.dumps(value).encode()) for value in values))
    assert list(groups) == seen, "parts come in the order of their first events"


def test_what_is_the_parts_own() -> None:
    items = b'[{"market":"btc_tl","n":1},{"market":"eth_tl"},{"n":2}]'
    assert ORDERS.only(items, "orders@btc_tl") == b'[{"market":"btc_tl","n":1},{"n":2}]'
    assert ORDERS.only(b'{"market":"eth_tl"}', "orders@btc_tl") == b"[]"


@given(st.lists(items, max_size=8))
def test_what_a_part_has_of_a_list(values: list[dict[str, Any]]) -> None:
    own = json.loads(ORDERS.only(json.dumps(values).encode(), "orders@a_b"))
    assert own == [
        value for value in values if not isinstance(value.get("market"), str) or value["market"] == "a_b"
    ]


def test_what_a_part_has_of_one() -> None:
    assert ORDERS.only(b'{"market":"a_b"}', "orders@a_b") == b'[{"market":"a_b"}]'
    assert ORDERS.only(b'{"market":"c_d"}', "orders@a_b") == b"[]"
    assert ORDERS.only(b"[]", "orders@a_b") == b"[]"
