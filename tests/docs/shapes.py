"""Whether what was documented is what came: the same keys and types; values only where they are fixed.

Documented JSON may say ``{...}`` and ``[...]`` for what does not matter there, and ``, ...`` at the end of an
object or a list for more of it.
"""

from __future__ import annotations

import json
import re
from typing import Any

#: Keys whose values are part of the protocol, so they are compared.
FIXED = frozenset(
    [
        "channel",
        "channels",
        "ch",
        "code",
        "errorCode",
        "event",
        "id",
        "level",
        "logger",
        "method",
        "more",
        "msg",
        "node",
        "ok",
        "reason",
        "recovered",
        "server",
        "status",
        "subscribed",
        "tier",
        "transport",
        "type",
        "unsubscribed",
        "v",
        "window",
    ]
)
#: Keys whose values are opaque, but the same wherever the same is documented.
OPAQUE = frozenset({"connId", "cursor", "epoch", "ticket"})
_MORE = "..."


class Bindings:
    """What stands in the real world for what stands in the documents."""

    def __init__(self, known: dict[str, str]) -> None:
        self._known = dict(known)

    def apply(self, text: str) -> str:
        """A documented text as it is to be run."""
        for documented in sorted(self._known, key=len, reverse=True):
            text = text.replace(documented, self._known[documented])
        return text

    def bind(self, documented: str, actual: str) -> str | None:
        """Takes both as the same from now on; says what is wrong where they were not."""
        known = self._known.setdefault(documented, actual)
        return None if known == actual else f"{documented!r} stood for {known!r} before, now for {actual!r}"


def parse(text: str) -> Any:
    """Documented JSON. Raises ValueError."""
    text = re.sub(r"\{\s*\.\.\.\s*\}", '{"...":0}', text)
    text = re.sub(r"\[\s*\.\.\.\s*\]", '["..."]', text)
    text = re.sub(r",\s*\.\.\.\s*\}", ',"...":0}', text)
    text = re.sub(r",\s*\.\.\.\s*\]", ',"..."]', text)
    return json.loads(text)


def difference(
    documented: Any, actual: Any, bindings: Bindings, path: str = "$", key: str = ""
) -> str | None:
    """What is not as documented, or None."""
    if isinstance(documented, dict) and isinstance(actual, dict):
        return _difference_of_objects(documented, actual, bindings, path)
    if isinstance(documented, list) and isinstance(actual, list):
        return _difference_of_lists(documented, actual, bindings, path, key)
    if type(documented) is not type(actual):
        return f"{path}: documented as {_kind(documented)}, came as {_kind(actual)}"
    if (key in OPAQUE or key == "id") and isinstance(documented, str):  # a request's id is a number
        return bindings.bind(documented, actual)
    if key in FIXED and documented != actual:
        return f"{path}: documented as {documented!r}, came as {actual!r}"
    return None


def _difference_of_objects(
    documented: dict[str, Any], actual: dict[str, Any], bindings: Bindings, path: str
) -> str | None:
    names = set(documented) - {_MORE}
    absent, unknown = names - set(actual), set(actual) - names
    if absent or (unknown and _MORE not in documented):
        return f"{path}: not there: {sorted(absent)}; not documented: {sorted(unknown)}"
    for name in documented:
        if name != _MORE and (
            found := difference(documented[name], actual[name], bindings, f"{path}.{name}", name)
        ):
            return found
    return None


def _difference_of_lists(
    documented: list[Any], actual: list[Any], bindings: Bindings, path: str, key: str
) -> str | None:
    has_more = bool(documented) and documented[-1] == _MORE
    items = documented[:-1] if has_more else documented
    if len(actual) < len(items) or (len(actual) > len(items) and not has_more):
        return f"{path}: documented with {len(items)} items, came with {len(actual)}"
    for index, (item, other) in enumerate(zip(items, actual, strict=False)):
        if found := difference(item, other, bindings, f"{path}[{index}]", key):
            return found
    return None


def _kind(value: Any) -> str:
    return f"{type(value).__name__} ({json.dumps(value)[:60]})"
