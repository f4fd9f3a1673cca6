"""Patterns that take a record's key apart, and templates that make channel names of the pieces."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: A hole in a template or a pattern.
_HOLE = re.compile(r"\{([^{}]*)\}")
_KEY_PART = re.compile(r"[a-z][A-Za-z0-9_]*")
_DATA_FIELD = re.compile(r"data((?:\.[A-Za-z0-9_-]+)+)")

#: Holes that every template may have, for error messages.
KEY_HOLE = "key"
FIELD_HOLE = "data.FIELD"


class KeyPattern:
    """``{market}:{interval}``: names the parts of a key.

    A part is not empty and has none of the characters that stand between the holes, so that a key can be read
    in one way only.
    """

    def __init__(self, text: str) -> None:
        check_key_pattern(text)
        literals, self.parts = _split(text)
        between = re.escape("".join(literals))
        part = f"[^{between}]+" if between else ".+"
        pieces = [re.escape(literals[0])]
        for name, literal in zip(self.parts, literals[1:], strict=True):
            pieces.append(f"(?P<{name}>{part}){re.escape(literal)}")
        self._regex = re.compile("".join(pieces), re.DOTALL)

    def match(self, key: str) -> dict[str, str] | None:
        """The parts by name, or None when the key has another form."""
        found = self._regex.fullmatch(key)
        return None if found is None else found.groupdict()


class Template:
    """``kline.{interval}@{market}``: a text with holes that a record fills."""

    def __init__(self, text: str) -> None:
        check_template(text)
        literals, self.holes = _split(text)
        # The formatting operator takes names with dots, and is the fastest way to fill them in.
        pieces = [_escape(literals[0])]
        for name, literal in zip(self.holes, literals[1:], strict=True):
            pieces.append(f"%({name})s{_escape(literal)}")
        self._format = "".join(pieces)

    @property
    def fields(self) -> tuple[str, ...]:
        """Those holes that a field of the payload fills."""
        return tuple(hole for hole in self.holes if _DATA_FIELD.fullmatch(hole))

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with all holes filled. Raises KeyError with the name of a hole that has no value."""
        return self._format % values


def check_key_pattern(text: str) -> None:
    """Raises ValueError for what cannot be a key's pattern."""
    literals, holes = _split(text)
    if not holes or not all(map(_KEY_PART.fullmatch, holes)) or {KEY_HOLE, "data"} & set(holes):
        raise ValueError('a key pattern names the parts of a key, as in "{market}:{interval}"')
    if len(set(holes)) < len(holes):
        raise ValueError("a key pattern names each part once")
    if not all(literals[1:-1]):
        raise ValueError("something must stand between two parts of a key")
    _check_braces(literals)


def check_template(text: str) -> None:
    """Raises ValueError for what cannot be a template."""
    literals, holes = _split(text)
    for hole in holes:
        if hole == "data" or not (_KEY_PART.fullmatch(hole) or _DATA_FIELD.fullmatch(hole)):
            raise ValueError(
                f"{{{hole}}} is neither {{{KEY_HOLE}}}, nor a part of the key, nor {{{FIELD_HOLE}}}"
            )
    if not text:
        raise ValueError('a channel name must not be empty; a topic\'s own is "{key}"')
    _check_braces(literals)


def _check_braces(literals: list[str]) -> None:
    if any("{" in literal or "}" in literal for literal in literals):
        raise ValueError("a brace is not closed, or not opened")


def _split(text: str) -> tuple[list[str], tuple[str, ...]]:
    """The literal texts, and the names of the holes between them: one less."""
    pieces = _HOLE.split(text)
    return pieces[0::2], tuple(pieces[1::2])


def _escape(literal: str) -> str:
    return literal.replace("%", "%%")
