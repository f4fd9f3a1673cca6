from __future__ import annotations

import json
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.payload import MAX_DEPTH
from hub.sansio.publication import MAX_SEQ
from hub.sources.kafka.cbor import cbor_to_json
from hub.sources.kafka.payload import Payload, RecordRefused, read_payload

text = st.text(st.characters(codec="utf-8"), max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@given(values)
def test_the_publishers_bytes_are_kept(value: Any) -> None:
    raw = dumps(value)

    assert read_payload(raw, wrapped="never") == Payload(raw)


@given(data=values, ts=st.none() | st.integers(0, MAX_SEQ), kind=st.sampled_from([None, "snapshot", "delta"]))
def test_what_is_wrapped_is_unwrapped_byte_for_byte(data: Any, ts: int | None, kind: str | None) -> None:
    raw = b'{"type":%b, "lastUpdateId":7, "data":%b, "ts":%b}' % (dumps(kind), dumps(data), dumps(ts))

    assert read_payload(raw) == Payload(dumps(data), ts, kind, 7)


@pytest.mark.parametrize(
    "number",
    [b"0.1000000000000000000000000001", b"123456789012345678901234567890", b"1E400", b"-0.0", b"1.50"],
)
def test_no_number_changes_its_digits(number: bytes) -> None:
    if number == b"1E400":  # beyond a double: every client would read something else
        with pytest.raises(RecordRefused):
            read_payload(number)
        return
    assert read_payload(b'{"data":[\n%b ]}' % number).data == b"[%b]" % number
    assert read_payload(b"[%b]" % number).data == b"[%b]" % number


def test_event_and_id_belong_to_the_wrapper() -> None:
    payload = read_payload(b'{"data":{"a":1},"event":"job_progress","id":"x-1"}')

    assert payload == Payload(b'{"a":1}', event="job_progress")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"ts":1,"type":"delta"}',  # no data
        b'{"data":1,"price":"2"}',  # a key of its own
        b'{"type":"job.done","data":{"id":4}}',  # a type of its own
        b'{"a":{"data":1}}',
        b'["data"]',
        b'"data"',
    ],
)
def test_what_only_looks_like_a_wrapper_is_passed_on_whole(raw: bytes) -> None:
    assert read_payload(raw) == Payload(raw)
    with pytest.raises(RecordRefused):
        read_payload(raw, wrapped="always")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"data":1,"ts":"1740000000000"}',
        b'{"data":1,"ts":1.5}',
        b'{"data":1,"ts":-1}',
        b'{"data":1,"ts":9007199254740992}',
        b'{"data":1,"type":"delta","lastUpdateId":"7"}',
        b'{"data":1,"type":"delta","lastUpdateId":9223372036854775808}',
        b'{"data":1,"event":7}',
    ],
)
def test_a_wrapper_with_a_mistake_is_refused(raw: bytes) -> None:
    with pytest.raises(RecordRefused, match="invalid wrapper"):
        read_payload(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"NaN",
        b"[Infinity]",
        b'{"data":NaN}',
        b'{"data":1}}',
        b"\xff",
        b'"\xff"',
        b'{"data":"\xff"}',
        b'{"\xff":1,"data":1}',
        b'"\\ud800"',
        b"\xef\xbb\xbf1",
        b"1e999",
        b"[" * 100_000,
        b'{"data":' * 100_000,
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"data":%b}' % (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)),
    ],
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(RecordRefused):
        read_payload(raw)


@given(
    st.binary(max_size=60)
    | values.map(dumps).flatmap(lambda raw: st.integers(0, len(raw)).map(lambda n: raw[:n]))
)
def test_any_bytes_give_one_line_of_json_or_a_refusal(raw: bytes) -> None:
    try:
        data = read_payload(raw).data
    except RecordRefused:
        return
    msgspec.json.decode(data)
    assert b"\n" not in data and b"\r" not in data


# --- CBOR ------------------------------------------------------------------------------------------------


@given(values)
def test_cbor_says_the_same_as_json(value: Any) -> None:
    assert json.loads(cbor_to_json(cbor2.dumps(value))) == value


def test_decimal_fractions_become_strings() -> None:
    prices = bytes.fromhex("82c48221196ab3c4820205")  # 273.15, 5e2

    assert cbor_to_json(prices) == b'["273.15","500"]'


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x01\x02",  # two values
        b"\x9f",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        cbor2.dumps(float("nan")),
        cbor2.dumps(float("inf")),
        cbor2.dumps(b"bytes"),
        cbor2.dumps({1: 2}),
        cbor2.dumps([{"a": b""}]),
        b"\xc1\x1a\x51\x4b\x67\xb0",  # a date
        b"\xf7",  # undefined
        b"\xd9\x03\xe7\x01",  # a tag of nobody
        b"\xc4\x82\x1a\x3b\x9a\xca\x00\x01",  # 1 and a billion zeros
        b"\xc4\x82\x3a\x3b\x9a\xc9\xff\x01",
        b"\x62\xff\xff",
        b"\x81" * 10_000 + b"\x01",
        b"\xd8\x1c\x81\xd8\x1d\x00",  # a list that holds itself
    ],
)
def test_what_json_cannot_say_is_refused(value: bytes) -> None:
    with pytest.raises(RecordRefused):
        cbor_to_json(value)


def test_a_record_cannot_unfold_to_more_than_it_has_bytes() -> None:
    # Each list holds the one before twice: sixty bytes would stand for 2^20 items.
    nested = b"\xd8\x1c\x82\x01\x01"
    for level in range(20):
        nested = b"\xd8\x1c\x82" + nested + b"\xd8\x1d" + bytes([20 - level])
    with pytest.raises(RecordRefused):
        cbor_to_json(nested)


@given(st.binary(max_size=40))
def test_any_bytes_give_json_or_a_refusal(raw: bytes) -> None:
    try:
        json_bytes = cbor_to_json(raw)
    except RecordRefused:
        return
    msgspec.json.decode(json_bytes)
