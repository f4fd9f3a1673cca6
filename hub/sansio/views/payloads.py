"""The payloads of channels.md: what each must look like, checked where it enters.

A field of the wrong type is refused, a field that is not known here is nobody's business. Decimals are JSON strings
and never pass through a float.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Context, Decimal
from functools import cache, lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from hub.sansio.payload import BadPayload
from hub.sansio.policies import Payload

#: At most 20 digits before the point and 20 behind it: room for 18 decimals, the most that assets have.
_UNSIGNED = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
#: A sum of two decimals keeps all its digits; the default context would round it to 28.
_EXACT = Context(prec=50)

_Number = Annotated[str, msgspec.Meta(pattern=rf"^{_UNSIGNED}\Z")]
_SignedNumber = Annotated[str, msgspec.Meta(pattern=rf"^-?{_UNSIGNED}\Z")]
_Id = int | str
_Side = Literal["buy", "sell"]
_Status = Literal["new", "partially_filled", "filled", "cancelled", "expired", "rejected"]
#: Pairs of decimals; ``_check_levels`` sees to that in a third of the time that msgspec takes to call each pattern.
_Levels = list[tuple[str, str]]

_FIELDS: dict[Payload, dict[str, Any]] = {
    "ticker": {
        "last": _Number,
        "bid": _Number,
        "ask": _Number,
        "high": _Number,
        "low": _Number,
        "vol": _Number,
        "quoteVol": _Number,
        "change": _SignedNumber,
        "openPrice": _Number,
        "closeTime": int,
        "tradeCount": int,
    },
    "orderbook": {"bids": _Levels, "asks": _Levels, "lastUpdateId": int | None},
    "trades": {"tradeId": _Id, "price": _Number, "amount": _Number, "side": _Side, "ts": int},
    "kline": {
        "openTime": int,
        "closeTime": int,
        "open": _Number,
        "high": _Number,
        "low": _Number,
        "close": _Number,
        "vol": _Number,
        "quoteVol": _Number,
        "tradeCount": int,
        "closed": bool,
    },
    "bbo": {"bid": _Number, "bidQty": _Number, "ask": _Number, "askQty": _Number},
    # A market order has no price, and none of the figures of its fills before the first. Makers may be paid: a fee
    # below zero.
    "order": {
        "orderId": _Id,
        "clientOrderId": _Id | None,
        "market": str,
        "status": _Status,
        "type": str,
        "side": _Side,
        "price": _Number | None,
        "amount": _Number | None,
        "filled": _Number | None,
        "remaining": _Number | None,
        "avgPrice": _Number | None,
        "fee": _SignedNumber | None,
        "feeAsset": str | None,
        "createdAt": int,
        "updatedAt": int,
    },
    "fill": {
        "tradeId": _Id,
        "orderId": _Id,
        "clientOrderId": _Id | None,
        "market": str,
        "side": _Side,
        "price": _Number,
        "amount": _Number,
        "fee": _SignedNumber,
        "feeAsset": str,
        "isMaker": bool,
        "ts": int,
    },
    "balance": {"asset": str, "available": _Number, "locked": _Number, "total": _Number},
}
#: Without these a payload says nothing.
_NEEDED = {"kline": {"openTime"}, "order": {"orderId", "status"}, "balance": {"asset"}}
#: Not even a complete payload must have these.
_OPTIONAL = {"lastUpdateId"}


_is_unsigned = re.compile(_UNSIGNED).fullmatch


def _check_book(book: Any) -> None:
    bids, asks = book.bids, book.asks
    if bids is UNSET:
        if asks is UNSET:
            raise ValueError("Object has neither `bids` nor `asks`")
    else:
        _check_levels("bids", bids)
    if asks is not UNSET:
        _check_levels("asks", asks)


def _check_levels(name: str, levels: list[tuple[str, str]]) -> None:
    for price, amount in levels:
        if not _is_unsigned(price) or not _is_unsigned(amount):
            raise ValueError(f"Expected price and amount to match regex '{_UNSIGNED}' - in `{name}`")


def _check_total(balance: Any) -> None:
    parts = (balance.available, balance.locked, balance.total)
    if UNSET in parts:
        return
    available, locked, total = map(Decimal, parts)
    if _EXACT.add(available, locked) != total:
        raise ValueError("`total` is not `available` + `locked`")


#: What no type says. msgspec calls it for each object, and tells where that is.
_CHECKS: dict[Payload, Callable[[Any], None]] = {"orderbook": _check_book, "balance": _check_total}


@cache
def payload_reader(payload: Payload, *, is_complete: bool = False) -> Callable[[bytes], Any]:
    """What checks payloads of one kind (not "any"), and gives their fields as attributes, UNSET where missing.

    Decimals come as strings. trades come as a list; an order, a fill or a balance may come as one object or as a
    list of them. With ``is_complete`` a missing field is refused. The reader raises BadPayload, whose text names the
    field.
    """
    decode = msgspec.json.Decoder(_type(payload, is_complete)).decode

    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except msgspec.ValidationError as error:
            raise BadPayload(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadPayload(f"invalid JSON: {error}") from None

    return read


def _type(payload: Payload, is_complete: bool) -> Any:
    fields = _FIELDS[payload]
    needed = fields.keys() - _OPTIONAL if is_complete else _NEEDED.get(payload, set())
    item = msgspec.defstruct(
        payload,
        [
            (name, kind) if name in needed else (name, kind | UnsetType, UNSET)
            for name, kind in fields.items()
        ],
        namespace={"__post_init__": _CHECKS[payload]} if payload in _CHECKS else None,
        kw_only=True,
    )
    if payload == "trades":
        return list[item]  # type: ignore[valid-type]
    return item | list[item] if payload in ("order", "fill", "balance") else item  # type: ignore[valid-type]


def field_of(data: bytes, name: str) -> str | None:
    """The field ``name`` of a payload; None where the payload is no object, or has no such field, or it is no
    string."""
    try:
        value = _field_decoder(name).decode(data).value
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, str) else None


@lru_cache(maxsize=64)
def _field_decoder(name: str) -> msgspec.json.Decoder[Any]:
    """Reads one field, and goes past the others without making anything of them."""
    return msgspec.json.Decoder(msgspec.defstruct("Field", [("value", Any, None)], rename={"value": name}))
