"""Settings as attrs fields that carry their own documentation and limits.

A settings class is an attrs class whose fields are made with `option`. The loader (``hub.app.settings``)
checks what the operator wrote against these fields, and the configuration reference is rendered from them.
Durations and sizes have types of their own, because ``"5m"`` and ``"64MB"`` are how people write them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NewType, TypeVar, overload

import attrs

#: A duration in seconds. Written as a number of seconds or as ``"250ms"``, ``"5s"``, ``"5m"``, ``"1h"``.
Seconds = NewType("Seconds", float)

#: A number of bytes. Written as an integer or as ``"512B"``, ``"64KB"``, ``"64MB"``, ``"1GB"``, in powers of 1024.
Size = NewType("Size", int)

T = TypeVar("T")

_METADATA_KEY: Final = "hub.option"
_SECONDS_PER = {"h": Fraction(3600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}
_BYTES_PER = {"GB": Fraction(1024**3), "MB": Fraction(1024**2), "KB": Fraction(1024), "B": Fraction(1)}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", re.ASCII)


@attrs.frozen(kw_only=True)
class Option:
    """What is known of a setting besides its type and default.

    ``unit`` is a word for readers ("events"); Seconds and Size need none. ``at_least``, ``at_most``, ``choices``
    and ``check`` hold for the value, or for each item where the value is a list or a table of values.
    ``check`` raises ValueError whose text says what would be right (without the value: it may be secret).
    """

    doc: str
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    choices: Sequence[Any] = ()
    secret: bool = False
    check: Callable[[Any], object] | None = None


@overload
def option(
    default: T,
    *,
    doc: str,
    unit: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
    choices: Sequence[Any] = (),
    secret: bool = False,
    check: Callable[[Any], object] | None = None,
) -> T: ...


@overload
def option(
    *,
    factory: Callable[[], T],
    doc: str,
    unit: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
    choices: Sequence[Any] = (),
    secret: bool = False,
    check: Callable[[Any], object] | None = None,
) -> T: ...


@overload
def option(
    *,
    doc: str,
    unit: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
    choices: Sequence[Any] = (),
    secret: bool = False,
    check: Callable[[Any], object] | None = None,
) -> Any: ...


def option(default: Any = attrs.NOTHING, *, factory: Callable[[], Any] | None = None, **about: Any) -> Any:
    """Declares a setting: an `attrs.field` that carries an `Option`. Without a default it must be configured."""
    metadata = {_METADATA_KEY: Option(**about)}
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata)
    return attrs.field(default=default, metadata=metadata)


def find_option(field: attrs.Attribute[Any]) -> Option | None:
    """The `Option` of an attrs field; None for a field that is not a setting."""
    found: Option | None = field.metadata.get(_METADATA_KEY)
    return found


# --- durations -------------------------------------------------------------------------------------------


def parse_seconds(value: object) -> Seconds:
    """A duration from a number of seconds or a text with a unit. Raises ValueError."""
    quantity = _read_quantity(value, _SECONDS_PER)
    try:
        seconds = math.nan if quantity is None else float(quantity)
    except OverflowError:  # an integer beyond any float
        seconds = math.inf
    if not math.isfinite(seconds):
        raise ValueError('a duration is a number of seconds, or a text like "250ms", "5s", "5m" or "1h"')
    return Seconds(seconds)


def format_seconds(seconds: float) -> str:
    """The shortest text from which `parse_seconds` reads the same duration."""
    exact = Fraction(repr(float(seconds)))
    for unit, scale in _SECONDS_PER.items():
        if exact and exact % scale == 0:
            return f"{exact / scale}{unit}"
    return f"{Decimal(repr(float(seconds))).normalize():f}s"


# --- sizes -----------------------------------------------------------------------------------------------


def parse_size(value: object) -> Size:
    """A number of bytes from an integer or a text with a unit (powers of 1024). Raises ValueError."""
    size = _read_quantity(value, _BYTES_PER)
    if size is None or isinstance(value, float) or size != int(size):
        raise ValueError(
            'a size is a whole number of bytes, or a text like "64KB", "64MB" or "1GB" (powers of 1024)'
        )
    return Size(int(size))


def format_size(size: int) -> str:
    """The shortest text from which `parse_size` reads the same size."""
    unit, scale = next((unit, scale) for unit, scale in _BYTES_PER.items() if size % scale == 0)
    return f"{size / scale}{unit}" if size else "0B"


def _read_quantity(value: object, scales: Mapping[str, Fraction]) -> float | Fraction | None:
    """``value`` in the scales' base unit, or None if it is neither a number from 0 up nor a text like ``5m``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if value >= 0 else None
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in scales:
        return None
    return Fraction(match[1]) * scales[match[2]]
