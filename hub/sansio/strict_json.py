"""JSON from strangers: what RFC 8259 allows, minus what two parsers could read differently.

Used for the small frames of clients. Payloads of publishers go through msgspec, which is faster and
refuses NaN and Infinity too.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_DEPTH = 32


class MalformedJson(ValueError):
    """Not JSON, or JSON with a duplicate key, NaN, Infinity, a lone surrogate or too deep a nesting."""


def loads(text: str) -> Any:
    """The value of a JSON text. Raises MalformedJson with the reason."""
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except MalformedJson:
        raise
    except RecursionError:
        raise MalformedJson(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise MalformedJson(f"invalid JSON: {error}") from None
    check_depth(value)
    # An escaped lone surrogate is the one thing that a decoded text holds and UTF-8 cannot.
    if "\\u" in text and not _is_encodable(value):
        raise MalformedJson("a lone surrogate is not text")
    return value


def _is_encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def check_depth(value: Any) -> None:
    """Raises MalformedJson where lists and objects are nested deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return
    if any(isinstance(inner, (list, dict)) for inner in level):
        raise MalformedJson(f"nested deeper than {MAX_DEPTH} levels")


def _children(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedJson("duplicate key")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedJson(f"{name} is not JSON")
