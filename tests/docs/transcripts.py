"""Compares output, line by line, with what a document says it is.

A line that begins with a blank goes on from the one before. ``...`` stands for any lines; at the end it says
that more comes than is shown, so the program may be stopped there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import attrs

from tests.docs.shapes import Bindings, difference, parse

#: Headers that depend on the day, the proxy or the body.
_IGNORED = re.compile(r"(date|connection|content-length|transfer-encoding):", re.IGNORECASE)
#: Headers, fields and words whose value is opaque.
_OPAQUE = re.compile(r"(etag: |id: |hub_|hub keys: )(\S+)(.*)")
#: JSON, also as the data of a Server-Sent Event.
_JSON = re.compile(r"(data: )?([{\[].*)", re.DOTALL)


class Mismatch(AssertionError):
    """The document or the hub is wrong."""


def join_lines(text: str) -> list[str]:
    """The lines of a block, with those that were broken in one piece."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and lines:
            lines[-1] += line.strip() if lines[-1].endswith(("{", "[", ",", ":")) else " " + line.strip()
        elif line.strip():
            lines.append(line.rstrip())
    return lines


@attrs.define
class Transcript:
    """What is still to come. ``feed`` takes what came."""

    lines: list[str]
    bindings: Bindings
    where: str

    @property
    def is_complete(self) -> bool:
        """Whether all that is documented has come."""
        return not self.lines or self.lines == ["..."]

    @property
    def is_open(self) -> bool:
        """Whether more may come than is documented."""
        return self.lines == ["..."]

    def feed(self, actual: str) -> None:
        """Raises Mismatch."""
        actual = actual.rstrip()
        if not actual:
            return
        if self.lines and self.lines[0] == "...":
            if len(self.lines) > 1 and _differs(self.lines[1], actual, self.bindings) is None:
                del self.lines[:2]
            return
        problem = (
            _differs(self.lines[0], actual, self.bindings) if self.lines else "nothing more is documented"
        )
        if problem is None:
            del self.lines[0]
        elif not _IGNORED.match(actual):
            documented = self.lines[0] if self.lines else "(the end)"
            raise Mismatch(f"{self.where}: {problem}\ndocumented: {documented}\ncame:       {actual[:2000]}")

    def close(self) -> None:
        """Nothing more comes. Raises Mismatch."""
        if not self.is_complete:
            raise Mismatch(f"{self.where}: documented, but did not come: {self.lines[0]}")


def _differs(documented: str, actual: str, bindings: Bindings) -> str | None:
    ours, theirs = _OPAQUE.fullmatch(documented), _OPAQUE.fullmatch(actual)
    if ours is not None and theirs is not None and ours.group(1, 3) == theirs.group(1, 3):
        return bindings.bind(ours[2], theirs[2])
    json_ours, json_theirs = _read_json(documented, parse), _read_json(actual, json.loads)
    if json_ours is not None and json_theirs is not None and json_ours[0] == json_theirs[0]:
        return difference(json_ours[1], json_theirs[1], bindings)
    return None if bindings.apply(documented) == actual else "other text"


def _read_json(line: str, loads: Callable[[str], Any]) -> tuple[str, Any] | None:
    match = _JSON.fullmatch(line)
    if match is None:
        return None
    try:
        return match[1] or "", loads(match[2])
    except ValueError:
        return None
