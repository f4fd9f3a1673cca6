"""CBOR values as JSON, as far as JSON can say the same."""

from __future__ import annotations

import io
from decimal import Decimal
from math import isfinite
from typing import Any

import cbor2
import msgspec

from hub.sansio.payload import MAX_DEPTH
from hub.sources.kafka.payload import RecordRefused

#: What cbor2 6.3 raises for hostile input: beside its own errors, those of the decoders of tagged values.
_ERRORS = (cbor2.CBORError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError)
#: Digits before and after the point of a decimal fraction: one of three bytes can stand for a text of gigabytes.
_MOST_DIGITS = 100


def cbor_to_json(value: bytes) -> bytes:
    """The same value in JSON. Decimal fractions become strings, as decimals are on the wire (channels.md).

    Raises RecordRefused for what JSON has no word for: byte strings, dates, NaN, keys that are no text ...
    """
    stream = io.BytesIO(value)
    try:
        decoded = cbor2.CBORDecoder(stream, max_depth=MAX_DEPTH).decode()
        # A record can refer to its own parts (tags 28 and 29), and so unfold to any size, or without end.
        return msgspec.json.encode(_Unfolding(len(value)).plain(decoded)) + _rest(stream)
    except RecordRefused:
        raise
    except _ERRORS as error:
        raise RecordRefused(f"invalid CBOR: {error}") from None


def _rest(stream: io.BytesIO) -> bytes:
    if stream.read(1):
        raise RecordRefused("invalid CBOR: more than one value")
    return b""


class _Unfolding:
    """Copies a value's JSON part. ``budget``: how many items it may have, each of which took a byte at least."""

    def __init__(self, budget: int) -> None:
        self._budget = budget

    def plain(self, value: Any) -> Any:
        self._budget -= 1
        if self._budget < 0:
            raise RecordRefused("CBOR refers to its own parts")
        if value is None or isinstance(value, (str, bool, int)):
            return value
        if isinstance(value, float) and isfinite(value):
            return value
        if isinstance(value, list):
            return [self.plain(item) for item in value]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {key: self.plain(item) for key, item in value.items()}
        if isinstance(value, Decimal) and _is_short(value):
            return format(value, "f")
        raise RecordRefused(f"CBOR holds a {type(value).__name__} that JSON cannot say")


def _is_short(value: Decimal) -> bool:
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -_MOST_DIGITS and value.adjusted() <= _MOST_DIGITS
