from __future__ import annotations

import cbor2
import msgspec
import pytest

from hub.sources.kafka.mapping import Headers, TopicMapping, find_trace, is_cbor
from hub.sources.kafka.payload import RecordRefused
from hub.sources.kafka.settings import Topic

ORDERS = Topic(channels=("orders@{data.market}", "orders"), user="{key}", event="order")
KLINE = Topic(
    channels=("kline.{interval}@{market}",),
    key=("{market}:{interval}", "{market},{interval}", "{market}|{interval}", "{market}.{interval}"),
)
CBOR: Headers = [("Content-Type", b"application/cbor; version=1")]


def test_the_key_names_the_channel() -> None:
    mapped = TopicMapping(Topic(channels=("trades@{key}",))).map(b"btc_tl", b'[{"price":"1.50"}]', None, 17)

    assert mapped.channels == ("trades@btc_tl",)
    assert mapped.data == b'[{"price":"1.50"}]'
    assert (mapped.ts, mapped.event, mapped.kind, mapped.user) == (17, None, None, None)


def test_a_wrapper_has_the_last_word() -> None:
    mapping = TopicMapping(Topic(channels=("orderbook@{key}",), event="orderbook"))
    value = b'{"ts":5,"type":"snapshot","lastUpdateId":9,"event":"book","data":{"bids":[]}}'

    mapped = mapping.map(b"btc_tl", value, None, 17)

    assert mapped.data == b'{"bids":[]}'
    assert (mapped.ts, mapped.event, mapped.kind, mapped.last_update_id) == (5, "book", "snapshot", 9)


@pytest.mark.parametrize("key", [b"btc_tl:1m", b"btc_tl,1m", b"btc_tl|1m", b"btc_tl.1m"])
def test_a_key_of_two_parts(key: bytes) -> None:
    assert TopicMapping(KLINE).map(key, b"{}", None, None).channels == ("kline.1m@btc_tl",)


def test_private_records_go_to_their_user() -> None:
    mapped = TopicMapping(ORDERS).map(b"u-1", b'{"orderId":1,"market":"btc_tl"}', [], None)

    assert mapped.channels == ("orders@btc_tl", "orders")
    assert (mapped.user, mapped.event, mapped.ts) == ("u-1", "order", None)


def test_a_field_may_lie_deeper_and_be_a_number() -> None:
    mapping = TopicMapping(Topic(channels=("job:{data.job.id}",)))

    assert mapping.map(None, b'{"data":{"job":{"id":42}}}', None, None).channels == ("job:42",)


def test_the_key_may_be_the_channel() -> None:
    mapping = TopicMapping(Topic(channels=("{key}",)))

    assert mapping.map(b"copilot:42", b'{"token":"a"}', None, None).channels == ("copilot:42",)


def test_no_key_is_needed_where_no_template_asks_for_it() -> None:
    assert TopicMapping(Topic(channels=("news",))).map(None, b"1", None, None).channels == ("news",)


def test_cbor_by_header() -> None:
    value = cbor2.dumps({"ts": 3, "type": "delta", "data": [1, "0.5"]})

    mapped = TopicMapping(Topic(channels=("{key}",))).map(b"bench:1", value, CBOR, 17)

    assert (mapped.data, mapped.ts, mapped.kind) == (b'[1,"0.5"]', 3, "delta")


@pytest.mark.parametrize(
    "topic, key, value, reason",
    [
        (ORDERS, b"u-1", None, "no value"),  # a tombstone
        (ORDERS, b"u-1", b"", "no value"),
        (ORDERS, None, b'{"market":"btc_tl"}', "no key"),
        (ORDERS, b"", b'{"market":"btc_tl"}', "no key"),
        (ORDERS, b"\xff", b'{"market":"btc_tl"}', "not UTF-8"),
        (ORDERS, b"u-1", b"{}", "data.market"),
        (ORDERS, b"u-1", b'{"market":""}', "data.market"),
        (ORDERS, b"u-1", b'{"market":null}', "data.market"),
        (ORDERS, b"u-1", b'{"market":true}', "data.market"),
        (ORDERS, b"u-1", b"[]", "data.market"),
        (ORDERS, b"u-1", b"nonsense", "JSON"),
        (KLINE, b"btc_tl", b"{}", "fits no pattern"),
        (KLINE, b"btc_tl:1m:x", b"{}", "fits no pattern"),
    ],
)
def test_a_record_that_is_no_publication(
    topic: Topic, key: bytes | None, value: bytes | None, reason: str
) -> None:
    with pytest.raises(RecordRefused, match=reason):
        TopicMapping(topic).map(key, value, None, 1)


def test_a_large_book_is_mapped() -> None:
    levels = [[f"{price}.50", "0.10000000"] for price in range(10_000)]
    value = msgspec.json.encode({"type": "snapshot", "data": {"bids": levels, "asks": levels}})

    mapped = TopicMapping(Topic(channels=("orderbook@{key}",))).map(b"btc_tl", value, None, 1)

    assert mapped.data == msgspec.json.encode({"bids": levels, "asks": levels})


@pytest.mark.parametrize(
    "headers, expected",
    [
        ([], False),
        ([("content-type", None)], False),
        ([("content-type", b"application/json")], False),
        ([("content-type", b"\xff")], False),
        ([("x", b"application/cbor")], False),
        ([("CONTENT-TYPE", "Application/CBOR")], True),
    ],
)
def test_what_says_cbor(headers: Headers, expected: bool) -> None:
    assert is_cbor(headers) is expected


@pytest.mark.parametrize(
    "headers, trace",
    [
        (None, None),
        ([], None),
        ([("traceId", b"abc")], "abc"),
        ([("traceid", None)], None),
        (
            [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")],
            "4bf92f3577b34da6a3ce929d0e0e4736",
        ),
        ([("traceparent", b"00-short-00f067aa0ba902b7-01")], None),
        ([("traceparent", b"garbage")], None),
    ],
)
def test_the_trace_of_a_record(headers: Headers | None, trace: str | None) -> None:
    assert find_trace(headers) == trace
