"""CBOR values as JSON, as far as JSON can say the same."""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec

from hub.sansio import strict_cbor
from hub.sansio.payload import MAX_DEPTH
from hub.sources.kafka.payload import RecordRefused

#: Digits before and after the point of a decimal fraction: one of three bytes can stand for a text of gigabytes.
_MOST_DIGITS = 100


def cbor_to_json(value: bytes) -> bytes:
    """The same value in JSON. Decimal fractions become strings, as decimals are on the wire (channels.md).

    Raises RecordRefused for what JSON has no word for: byte strings, dates, NaN, keys that are no text ...
    """
    try:
        decoded = strict_cbor.loads(value, max_depth=MAX_DEPTH, tags=strict_cbor.NUMBER_TAGS)
        return msgspec.json.encode(_plain(decoded))
    except RecordRefused:
        raise
    except strict_cbor.CBOR_ERRORS as error:
        raise RecordRefused(f"invalid CBOR: {error}") from None


def _plain(value: Any) -> Any:
    """A value's JSON part."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Decimal) and _is_short(value):
        return format(value, "f")
    raise RecordRefused(f"CBOR holds a {type(value).__name__} that JSON cannot say")


def _is_short(value: Decimal) -> bool:
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -_MOST_DIGITS and value.adjusted() <= _MOST_DIGITS
