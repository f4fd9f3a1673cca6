"""Payload schemas: what channels.md allows is taken, every wrong type is refused and its field named."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.payload import BadPayload
from hub.sansio.policies import Payload
from hub.sansio.views.payloads import field_of, payload_reader

TRADE = {"tradeId": 7, "price": "100.50", "amount": "0.10", "side": "buy", "ts": 1740000000000}
CANDLE = {
    "openTime": 1740000000000, "closeTime": 1740000059999, "open": "1", "high": "2", "low": "0.5", "close": "1.5",
    "vol": "10.0", "quoteVol": "12.25", "tradeCount": 3, "closed": False,
}  # fmt: skip
ORDER = {
    "orderId": "a-1", "clientOrderId": None, "market": "btc_tl", "status": "new", "type": "market", "side": "sell",
    "price": None, "amount": "1", "filled": "0", "remaining": "1", "avgPrice": None, "fee": "-0.01", "feeAsset": None,
    "createdAt": 1, "updatedAt": 2,
}  # fmt: skip
FILL = {
    "tradeId": "t", "orderId": 1, "clientOrderId": "c", "market": "btc_tl", "side": "buy", "price": "1", "amount": "2",
    "fee": "-0.5", "feeAsset": "TL", "isMaker": True, "ts": 5,
}  # fmt: skip
BALANCE = {"asset": "TL", "available": "1.5", "locked": "0.50", "total": "2.000"}
WHOLE: dict[Payload, Any] = {
    "ticker": {
        "last": "1", "bid": "0.9", "ask": "1.1", "high": "2", "low": "0", "vol": "5", "quoteVol": "6.00",
        "change": "-0.25", "openPrice": "1.25", "closeTime": 1, "tradeCount": 2,
    },
    "orderbook": {"bids": [["1.0", "2"], ["0.9", "0.00"]], "asks": []},
    "trades": [TRADE],
    "kline": CANDLE,
    "bbo": {"bid": "1", "bidQty": "2", "ask": "3", "askQty": "4"},
    "order": ORDER,
    "fill": FILL,
    "balance": BALANCE,
}  # fmt: skip
NEEDED: dict[Payload, set[str]] = {
    "kline": {"openTime"},
    "order": {"orderId", "status"},
    "balance": {"asset"},
}


def read(payload: Payload, value: Any, *, is_complete: bool = False) -> Any:
    return payload_reader(payload, is_complete=is_complete)(json.dumps(value).encode())


def wrapped(payload: Payload, item: dict[str, Any]) -> Any:
    return [item] if payload == "trades" else item


def fields() -> list[tuple[Payload, str]]:
    items = {name: value[0] if isinstance(value, list) else value for name, value in WHOLE.items()}
    return [(payload, field) for payload, item in items.items() for field in item]


def item_of(payload: Payload) -> dict[str, Any]:
    item: dict[str, Any] = WHOLE[payload][0] if payload == "trades" else WHOLE[payload]
    return dict(item)


def test_every_payload_has_a_schema() -> None:
    assert {"any", *WHOLE} == set(get_args(Payload))


@pytest.mark.parametrize("payload", WHOLE)
@pytest.mark.parametrize("is_complete", [False, True])
def test_whole_payloads_are_taken_with_fields_that_nobody_knows(payload: Payload, is_complete: bool) -> None:
    read(payload, WHOLE[payload], is_complete=is_complete)
    read(payload, wrapped(payload, {**item_of(payload), "new": {"x": [1.5, None]}}), is_complete=is_complete)


@pytest.mark.parametrize("payload, field", fields())
def test_a_missing_field(payload: Payload, field: str) -> None:
    item = item_of(payload)
    del item[field]
    with pytest.raises(BadPayload, match=f"`{field}`"):
        read(payload, wrapped(payload, item), is_complete=True)
    if field in NEEDED.get(payload, ()):
        with pytest.raises(BadPayload, match=f"`{field}`"):
            read(payload, wrapped(payload, item))
    else:
        read(payload, wrapped(payload, item))


@pytest.mark.parametrize("payload, field", fields())
@pytest.mark.parametrize("wrong", [1.5, 1.0, True, [], {}, [1], float("inf")])
def test_a_field_of_the_wrong_type_is_named(payload: Payload, field: str, wrong: Any) -> None:
    if (field in ("closed", "isMaker") and wrong is True) or (payload == "orderbook" and wrong == []):
        return
    data = json.dumps(wrapped(payload, {**item_of(payload), field: wrong})).replace("Infinity", "1e400")
    with pytest.raises(BadPayload) as refused:
        payload_reader(payload)(data.encode())
    assert field in str(refused.value) or wrong == float("inf")


@pytest.mark.parametrize(
    "payload, field", [pair for pair in fields() if pair[1] not in ("closeTime", "tradeCount")]
)
def test_null_is_for_what_an_order_may_lack(payload: Payload, field: str) -> None:
    value = wrapped(payload, {**item_of(payload), field: None})
    nullable = (
        {"price", "amount", "filled", "remaining", "avgPrice", "fee", "feeAsset"}
        if payload == "order"
        else {}
    )
    if field == "clientOrderId" or field in nullable:
        read(payload, value, is_complete=True)
    else:
        with pytest.raises(BadPayload, match=field):
            read(payload, value)


WRONG: list[tuple[Payload, Any, str]] = [
    ("ticker", [], "object"),
    ("ticker", None, "object"),
    ("ticker", {"last": "-1"}, "last"),
    ("ticker", {"last": 1}, "last"),
    ("ticker", {"closeTime": "1"}, "closeTime"),
    ("ticker", {"tradeCount": 1.0}, "tradeCount"),
    ("orderbook", {}, "bids.*asks"),
    ("orderbook", [], "object"),
    ("orderbook", {"lastUpdateId": 3}, "bids.*asks"),
    ("orderbook", {"bids": [], "lastUpdateId": "3"}, "lastUpdateId"),
    ("orderbook", {"bids": {}}, "bids"),
    ("orderbook", {"bids": [["1"]]}, "bids"),
    ("orderbook", {"bids": [["1", "2", "3"]]}, "bids"),
    ("orderbook", {"bids": [["1", 2]]}, "bids"),
    ("orderbook", {"bids": [["1", "2"], [1, "2"]]}, r"bids\[1\]"),
    ("orderbook", {"bids": [["1", "-2"]]}, "bids"),
    ("orderbook", {"bids": [["", "2"]]}, "bids"),
    ("orderbook", {"bids": [], "asks": [["1e3", "2"]]}, "asks"),
    ("orderbook", {"asks": [["1", "NaN"]]}, "asks"),
    ("orderbook", {"asks": [{"price": "1", "amount": "2"}]}, "asks"),
    ("trades", {}, "array"),
    ("trades", TRADE, "array"),
    ("trades", [[]], "object"),
    ("trades", [TRADE, {"side": "long"}], r"\[1\].side"),
    ("trades", [{"tradeId": None}], "tradeId"),
    ("trades", [{"price": 100}], "price"),
    ("kline", [CANDLE], "object"),
    ("kline", {**CANDLE, "closed": 1}, "closed"),
    ("kline", {**CANDLE, "closed": "true"}, "closed"),
    ("kline", {**CANDLE, "openTime": "1740000000000"}, "openTime"),
    ("bbo", {"bid": None}, "bid"),
    ("order", 1, "object"),
    ("order", [1], "object"),
    ("order", {**ORDER, "status": "open"}, "status"),
    ("order", {**ORDER, "side": "BUY"}, "side"),
    ("order", {**ORDER, "filled": "-1"}, "filled"),
    ("order", [ORDER, {**ORDER, "orderId": None}], r"\[1\].orderId"),
    ("fill", {**FILL, "isMaker": 0}, "isMaker"),
    ("fill", [{**FILL, "market": 1}], "market"),
    ("balance", {**BALANCE, "asset": 1}, "asset"),
    ("balance", {**BALANCE, "total": "2.01"}, "total"),
    ("balance", [BALANCE, {**BALANCE, "locked": "0.5" + "0" * 18 + "1"}], r"total.*\[1\]"),
]


@pytest.mark.parametrize("payload, value, match", WRONG)
def test_wrong(payload: Payload, value: Any, match: str) -> None:
    with pytest.raises(BadPayload, match=match):
        read(payload, value)


NO_JSON = [b"", b"{", b"\xff", b'{"market":"\xff"}', b'{"ts":{"a":"\xff"}}', b'{"x":' + b"[" * 100_000]


@pytest.mark.parametrize("payload", WHOLE)
def test_what_is_no_json_is_refused(payload: Payload) -> None:
    for data in NO_JSON[:3] + NO_JSON[-1:]:
        with pytest.raises(BadPayload):
            payload_reader(payload)(data)
    with pytest.raises(BadPayload):
        payload_reader("fill")(b'{"market":"\xff"}')


def test_what_is_no_json_has_no_fields() -> None:
    for data in NO_JSON:
        assert field_of(data, "market") is None


def test_lists_of_records() -> None:
    for payload, item in (("order", ORDER), ("fill", FILL), ("balance", BALANCE)):
        assert len(read(payload, [item, item])) == 2  # type: ignore[arg-type]
        assert read(payload, []) == []  # type: ignore[arg-type]
    assert read("trades", []) == []


digits = st.text("0123456789", min_size=1, max_size=20)
amounts = st.builds("{}.{}".format, digits, digits)
decimals = st.builds("{}{}".format, st.sampled_from(["", "-"]), digits | amounts)


@given(decimals)
def test_decimals_are_taken_as_they_are_written(text: str) -> None:
    assert read("ticker", {"change": text}).change == text
    assert read("fill", {"fee": text}).fee == text
    if text.startswith("-"):
        with pytest.raises(BadPayload, match="last"):
            read("ticker", {"last": text})
        with pytest.raises(BadPayload, match="bids"):
            read("orderbook", {"bids": [[text, "1"]]})
    else:
        assert read("ticker", {"last": text}).last == text
        assert read("orderbook", {"asks": [("1", text)]}).asks == [("1", text)]


NO_DECIMALS = [
    "", "-", ".", "1.", ".5", "+1", "--1", "1e5", "1E5", "NaN", "Infinity", "-Infinity", "1,5", "1_000", " 1", "1 ", "1\n",
    "0x10", "\u0661", "1.\u0662", "1.2.3", "9" * 21, "0." + "1" * 21, "9" * 100_000, "1\x00",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_DECIMALS, ids=range(len(NO_DECIMALS)))
def test_no_decimals(text: str) -> None:
    for payload, value in (
        ("ticker", {"change": text}),
        ("bbo", {"bid": text}),
        ("orderbook", {"bids": [[text, "1"]]}),
        ("orderbook", {"asks": [["1", text]]}),
        ("order", {**ORDER, "price": text}),
        ("balance", {**BALANCE, "total": text}),
    ):
        with pytest.raises(BadPayload):
            read(payload, value)  # type: ignore[arg-type]


@given(amounts, amounts, st.sampled_from([0, 0, 1, -1]))
def test_totals_are_added_without_rounding(available: str, locked: str, error: int) -> None:
    exact = str(sum(map(_units, (available, locked))) + error).zfill(21)
    balance = {
        "asset": "TL",
        "available": available,
        "locked": locked,
        "total": f"{exact[:-20]}.{exact[-20:]}",
    }
    if error or len(exact) > 40:
        with pytest.raises(BadPayload, match="total"):
            read("balance", balance)
    else:
        read("balance", balance)


def _units(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(20, "0"))


def test_a_part_of_a_balance_is_not_added_up() -> None:
    read("balance", {"asset": "TL", "available": "1", "total": "5"})
    read("balance", {"asset": "TL", "locked": "1", "available": "5"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | decimals,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted({field for _, field in fields()})), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.sampled_from(sorted(WHOLE)), json_values, st.booleans())
def test_anything_is_taken_or_refused(payload: Payload, value: Any, is_complete: bool) -> None:
    try:
        read(payload, value, is_complete=is_complete)
    except BadPayload:
        pass


@pytest.mark.parametrize(
    "data, value",
    [
        (b'{"market":"btc_tl"}', "btc_tl"),
        (b' {"a":{"market":"no"},"market" : "btc\\u005ftl","b":[1]}', "btc_tl"),
        (b'{"market":"old","market":"new"}', "new"),
        (b'{"market":""}', ""),
        (b'{"market":1}', None),
        (b'{"market":null}', None),
        (b'{"market":["btc_tl"]}', None),
        (b'{"a":{"market":"no"}}', None),
        (b'{"value":"no"}', None),
        (b'[{"market":"no"}]', None),
        (b'"market"', None),
        (b"null", None),
    ],
)
def test_field_of(data: bytes, value: str | None) -> None:
    assert field_of(data, "market") == value


def test_field_of_any_name() -> None:
    assert field_of(b'{"a-b c":"x","class":"y"}', "a-b c") == "x"
    assert field_of(b'{"a-b c":"x","class":"y"}', "class") == "y"
