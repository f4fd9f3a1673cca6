"""Bodies of ``POST /publish``: where items begin and end, and what is wrong with one is its own affair."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.errors import ErrorCode, PublishRefused
from hub.sansio.publication import MAX_SEQ, MAX_UPDATE_ID
from hub.sansio.publish_request import (
    MAX_ID_LENGTH,
    MAX_USER_LENGTH,
    find_channel,
    parse_item,
    split_body,
)

texts = st.text(st.characters(codec="utf-8"), max_size=10)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
items = st.lists(st.fixed_dictionaries({"channel": texts, "data": values}), max_size=5)


def contents(raws: list[bytes]) -> list[Any]:
    return [{"channel": item.channel, "data": json.loads(data)} for item, data in map(parse_item, raws)]


@given(items, st.sampled_from((None, 2)), st.sampled_from(("", " \n")))
def test_a_list(bodies: list[Any], indent: int | None, space: str) -> None:
    body = (space + json.dumps(bodies, indent=indent) + space).encode()
    assert contents(split_body(body, is_ndjson=False)) == bodies


@given(items, st.sampled_from(("\n", "\r\n", "\n\n", "\n \r\n")), st.booleans())
def test_a_line_each(bodies: list[Any], end: str, is_ended: bool) -> None:
    body = end.join(json.dumps(body) for body in bodies) + (end if is_ended else "")
    assert contents(split_body(body.encode(), is_ndjson=True)) == bodies


@given(items.filter(bool))
def test_one(bodies: list[Any]) -> None:
    body = json.dumps(bodies[0], indent=1).encode()
    assert contents(split_body(body, is_ndjson=False)) == bodies[:1]


@pytest.mark.parametrize("body", [b"1", b'"x"', b"{}", b"null"])
def test_what_is_no_list_is_one_item_whatever_it_is(body: bytes) -> None:
    assert split_body(body, is_ndjson=False) == [body]
    with pytest.raises(PublishRefused):
        parse_item(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"a":1}{"b":2}',
        b"\xff",
        b'{"a":' * 100_000,
        b"[",
        b"[1,]",
        b"[1] 2",
        b"[nul]",
        b" \n[1",
        b"[" * 100_000,
        b"[NaN]",
    ],
)
def test_what_is_not_json_as_a_whole(body: bytes) -> None:
    with pytest.raises(PublishRefused) as refused:
        split_body(body, is_ndjson=False)
    assert refused.value.code == ErrorCode.INVALID_REQUEST


def test_a_bad_item_does_not_stop_the_others() -> None:
    raws = split_body(b'[{"channel":"a","data":1},5,{"channel":"b","data":"\xff"},{"channel":"c","data":2}]', is_ndjson=False)  # fmt: skip
    assert len(raws) == 4
    assert contents([raws[0], raws[3]]) == [{"channel": "a", "data": 1}, {"channel": "c", "data": 2}]
    for raw in raws[1:3]:
        with pytest.raises(PublishRefused):
            parse_item(raw)


def test_all_fields() -> None:
    raw = b'{"channel":"a","data": {"p": 1.10},"event":"e","ts":5,"id":"k","type":"delta","user":"u","x":[]}'
    item, data = parse_item(raw)
    assert (item.channel, item.event, item.ts, item.id, item.type, item.user) == (
        "a",
        "e",
        5,
        "k",
        "delta",
        "u",
    )
    assert data == b'{"p": 1.10}'
    item, data = parse_item(b'{"channel":"a","data":null}')
    assert (item.event, item.ts, item.id, item.type, item.user, data) == (None,) * 5 + (b"null",)


REFUSED = [
    b"null", b"[]", b"{}", b'{"channel":"a"}', b'{"data":1}', b'{"channel":null,"data":1}', b'{"channel":1,"data":1}',
    b'{"channel":"a","data":1,"event":1}', b'{"channel":"a","data":1,"ts":"1"}', b'{"channel":"a","data":1,"ts":1.5}',
    b'{"channel":"a","data":1,"ts":true}', b'{"channel":"a","data":1,"id":1}', b'{"channel":"a","data":1,"type":1}',
    b'{"channel":"a","data":1,"user":1}', b'{"channel":"a","data":1}x', b'{"channel":"a","data":[1,]}',
    b'{"channel":"a","data":NaN}', b'{"channel":"a","data":1e999}', b'{"channel":"a","data":"\\ud800"}',
    b'{"channel":"\xff","data":1}', b'{"channel":"\\ud800","data":1}', b'{"channel":"a","data":' + b"[" * 100_000,
    b'{"channel":"a","data":' + b"[" * 65 + b"]" * 65 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("raw", REFUSED)
def test_refused(raw: bytes) -> None:
    with pytest.raises(PublishRefused) as refused:
        parse_item(raw)
    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert refused.value.msg


@pytest.mark.parametrize("ts", [0, 1_740_000_000_000, MAX_SEQ])
def test_times(ts: int) -> None:
    assert parse_item(b'{"channel":"a","data":1,"ts":%d}' % ts)[0].ts == ts


@pytest.mark.parametrize("ts", [-1, MAX_SEQ + 1, 10**30, 10**400])
def test_times_that_are_none(ts: int) -> None:
    # A number beyond a double is more than the statistics of latency can take, and ends the scheduler.
    with pytest.raises(PublishRefused):
        parse_item(b'{"channel":"a","data":1,"ts":%d}' % ts)


@pytest.mark.parametrize("number", [0, MAX_UPDATE_ID])
def test_numbers_of_updates(number: int) -> None:
    assert parse_item(b'{"channel":"a","data":1,"lastUpdateId":%d}' % number)[0].last_update_id == number


@pytest.mark.parametrize("number", [-1, MAX_UPDATE_ID + 1, 10**400])
def test_numbers_that_no_update_has(number: int) -> None:
    with pytest.raises(PublishRefused, match="lastUpdateId"):
        parse_item(b'{"channel":"a","data":1,"lastUpdateId":%d}' % number)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"channel":"a"}', b'{"channel":"a","data":1,"ts":"x"}', b'{"ts":null,"channel":"a","data":[]}',
        b'{"channel":"a","data":"\\ud800"}', b'{"channel":"b","channel":"a"}',
        b'{"channel":"a","data":NaN}', b'{"channel":"a","data":1e999}',
    ],
)  # fmt: skip
def test_a_refused_item_may_name_its_channel_all_the_same(raw: bytes) -> None:
    assert find_channel(raw) == "a"


@pytest.mark.parametrize(
    "raw",
    [
        b"null", b"[]", b"{}", b'{"channel":1}', b'{"channel":"a"', b'{"channel":"\xff"}', b'{"channel":"\\ud800"}',
        b'{"channel":"a","data":' + b"[" * 100_000, b'{"channel":"a","data":' + b"1" * 10_000 + b"}", b"",
    ],
)  # fmt: skip
def test_what_names_no_channel(raw: bytes) -> None:
    assert find_channel(raw) is None


@pytest.mark.parametrize("name, longest", [("id", MAX_ID_LENGTH), ("user", MAX_USER_LENGTH)])
def test_what_is_remembered_is_short(name: str, longest: int) -> None:
    body = '{"channel":"a","data":1,"%s":"%s"}'
    item, _ = parse_item((body % (name, "x" * longest)).encode())
    assert len(getattr(item, name)) == longest
    with pytest.raises(PublishRefused, match=name):
        parse_item((body % (name, "x" * (longest + 1))).encode())
