"""The types that a setting may have: how a value is read, named in an error and written in TOML."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from hub.sansio.options import (
    Option,
    Seconds,
    Size,
    find_option,
    format_seconds,
    format_size,
    parse_seconds,
    parse_size,
)

#: The option of a field that was declared without one.
PLAIN = Option(doc="")


@attrs.frozen
class Key:
    """One field of a settings class."""

    name: str
    #: The name of the constructor's argument.
    argument: str
    kind: Any
    option: Option
    #: A function, because a default may be a table.
    default: Callable[[], Any] | None

    @property
    def is_table(self) -> bool:
        """Whether it is written as ``[section.key]`` rather than ``key = value``."""
        return is_settings(self.kind) or (is_mapping(self.kind) and is_settings(item_kind(self.kind)))


def keys_of(cls: type) -> dict[str, Key]:
    """The keys that a settings class takes, in their order."""
    hints = get_type_hints(cls)
    return {
        field.name: Key(
            name=field.name,
            argument=field.alias or field.name,
            kind=_without_none(hints[field.name]),
            option=find_option(field) or PLAIN,
            default=_find_default(field),
        )
        for field in attrs.fields(cls)
        if field.init
    }


def _find_default(field: attrs.Attribute[Any]) -> Callable[[], Any] | None:
    if field.default is attrs.NOTHING:
        return None
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]  # a class, whatever its stub says
        factory: Callable[[], Any] = field.default.factory  # type: ignore[union-attr]
        return factory
    return lambda: field.default


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    (only,) = (arm for arm in get_args(kind) if arm is not type(None))
    return only


def is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and attrs.has(kind)


def is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple


def is_mapping(kind: Any) -> bool:
    return isinstance(origin := get_origin(kind), type) and issubclass(origin, Mapping)


def item_kind(kind: Any) -> Any:
    """What a list or a mapping holds."""
    return get_args(kind)[0] if is_list(kind) else get_args(kind)[1]


# --- scalars ---------------------------------------------------------------------------------------------


def read_scalar(kind: Any, value: Any, option: Option) -> Any:
    """The value as ``kind``, within the option's range and choices. Raises ValueError; its text matters only
    where the option's own ``check`` gave one."""
    result = value if get_origin(kind) is Literal else _READERS[kind](value)
    if (choices := choices_of(kind, option)) and result not in choices:
        raise ValueError
    if option.at_least is not None and result < option.at_least:
        raise ValueError
    if option.at_most is not None and result > option.at_most:
        raise ValueError
    return result


def choices_of(kind: Any, option: Option) -> tuple[Any, ...]:
    return tuple(option.choices) or (get_args(kind) if get_origin(kind) is Literal else ())


def _read_exactly(*accepted: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) not in accepted:  # not isinstance: true is no integer here
            raise ValueError
        return value

    return read


def _read_float(value: Any) -> float:
    number = _read_exactly(int, float)(value)
    if not math.isfinite(number):
        raise ValueError
    return float(number)


_READERS: Mapping[Any, Callable[[Any], Any]] = {
    bool: _read_exactly(bool),
    int: _read_exactly(int),
    float: _read_float,
    str: _read_exactly(str),
    Seconds: parse_seconds,
    Size: parse_size,
}

_NAMES: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Seconds: 'a duration such as "250ms", "5s", "5m", "1h" or a number of seconds',
    Size: 'a size such as "64KB", "64MB", "1GB" or a number of bytes',
}

_SHORT_NAMES: Mapping[Any, str] = {**_NAMES, Seconds: "duration", Size: "size", bool: "true or false"}


# --- words -----------------------------------------------------------------------------------------------


def describe(kind: Any, option: Option, *, short: bool = False) -> str:
    """What may stand there: ``a whole number, at least 1``. Short is for where durations and sizes are explained."""
    if is_list(kind):
        return f"a list, each item {describe(item_kind(kind), option, short=short)}"
    if is_mapping(kind) and not is_settings(item_kind(kind)):
        return f"a table, each value {describe(item_kind(kind), option, short=short)}"
    if is_mapping(kind) or is_settings(kind):
        return "a table"
    if choices := choices_of(kind, option):
        return "one of " + ", ".join(to_toml(kind, choice) for choice in choices)
    unit = f" of {option.unit}" if option.unit else ""
    return (_SHORT_NAMES if short else _NAMES)[kind] + unit + _describe_range(kind, option)


def _describe_range(kind: Any, option: Option) -> str:
    low, high = option.at_least, option.at_most
    if low is not None and high is not None:
        return f", from {_show_limit(kind, low)} to {_show_limit(kind, high)}"
    if low is not None:
        return f", at least {_show_limit(kind, low)}" if low or kind not in (Seconds, Size) else ""
    return "" if high is None else f", at most {_show_limit(kind, high)}"


def _show_limit(kind: Any, limit: float) -> str:
    return to_toml(kind, limit if kind in (float, Seconds) else int(limit)).strip('"')


def to_toml(kind: Any, value: Any) -> str:
    """A value on one line of TOML. ``kind`` tells durations and sizes from plain numbers; None: as it comes."""
    if kind is Seconds:
        return f'"{format_seconds(value)}"'
    if kind is Size:
        return f'"{format_size(value)}"'
    if isinstance(value, (list, tuple)):
        inner = item_kind(kind) if is_list(kind) else None
        return f"[{', '.join(to_toml(inner, item) for item in value)}]"
    if isinstance(value, Mapping):
        inner = item_kind(kind) if is_mapping(kind) else None
        pairs = ", ".join(f"{_quote(key)} = {to_toml(inner, item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quote(value) if isinstance(value, str) else str(value)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML forbids DEL, JSON does not
