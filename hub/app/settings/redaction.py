"""The last net under secrets: what looks like one is masked where text leaves the hub.

Nothing should rely on it. It exists for the one place that forgets, for libraries that log what they like and
for errors that quote what they got.
"""

from __future__ import annotations

import re

MASK = "***"

_NAME = r"(?:token|ticket|password|passwd|secret|authorization|api[_-]?key)"
_SECRET_KEY = re.compile(rf"[\w-]*{_NAME}", re.IGNORECASE)

_SUBSTITUTIONS = [
    # JSON or repr of a mapping, maybe quoted in a text itself: "password": "correct horse"
    (re.compile(rf"""({_NAME}(\\?["'])\s*:\s*\2)(?:(?!\2).)*""", re.IGNORECASE), rf"\1{MASK}"),
    # token=..., in a query or with quotes
    (re.compile(rf"""({_NAME}\s*=\s*)(?:(["']).*?\2|[^\s"'&,;]+)""", re.IGNORECASE), rf"\1{MASK}"),
    # Authorization: Basic ...; any scheme
    (re.compile(r"(\bauthorization:\s*(?:\w+\s+)?)[^\s\"',;]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"(\b(?:Bearer|ApiKey)\s+)[^\s\"',;]+", re.IGNORECASE), rf"\1{MASK}"),
    # scheme://user:password@host
    (re.compile(r"(://)[^\s/:@\"']*:[^\s/\"']*@"), rf"\1{MASK}@"),
    # A JWT, whatever stands before it. The look-behind keeps one start per word, so that time stays linear.
    (re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]*"), MASK),
]


def redact(text: str) -> str:
    """The text with what looks like a token, password or key masked."""
    for pattern, replacement in _SUBSTITUTIONS:
        text = pattern.sub(replacement, text)
    return text


def names_secret(key: str) -> bool:
    """Whether a key's name says that its value is secret: ``accessToken``, ``password``."""
    return _SECRET_KEY.fullmatch(key) is not None
