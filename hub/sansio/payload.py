"""Payloads from publishers: JSON that every client's parser, and every encoding, can take."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

#: A payload nested deeper than this would break some client's parser, if not ours.
MAX_DEPTH = 64
#: Shorter ones fit into a double.
_LONG_INTEGER = re.compile(rb"[0-9]{309}")


class BadPayload(ValueError):
    """The publisher's fault: not JSON, or JSON that not every client could read."""


def check_payload(raw: bytes) -> bytes:
    """The payload on one line, otherwise byte for byte as the publisher wrote it: no number changes its digits.

    Raises BadPayload for what is not UTF-8 JSON, NaN, Infinity, lone surrogates, numbers beyond a double, and
    nesting beyond MAX_DEPTH.
    """
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadPayload(f"invalid JSON: {error}") from None
    except RecursionError:
        raise BadPayload(f"nested deeper than {MAX_DEPTH} levels") from None
    # Brackets bound the depth from above, and counting them is fast; few payloads need the real look.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise BadPayload(f"nested deeper than {MAX_DEPTH} levels")
    if _LONG_INTEGER.search(raw) and _has_huge_integer(value):
        raise BadPayload("a number is beyond what a double can hold")
    if b"\n" in raw or b"\r" in raw:
        return msgspec.json.format(raw, indent=-1)
    return raw


def _has_huge_integer(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) > sys.float_info.max
    return isinstance(value, (list, dict)) and any(map(_has_huge_integer, _children(value)))


def _depth(value: Any) -> int:
    depth, level = 0, _containers([value])
    while level:
        depth += 1
        level = _containers(inner for outer in level for inner in _children(outer))
    return depth


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, (list, dict))]


def _children(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
