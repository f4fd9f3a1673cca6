"""Where settings come from: a TOML file, over it the environment, over that ``--set``.

Each layer becomes a tree that remembers who said what, so that a wrong value can be traced to its place.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from hub.app.settings.problems import ConfigurationError

#: Named in errors about what nobody has set, where there is no file to name.
NOBODY = "configuration"

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_ASSIGNMENT = re.compile(rf"\s*({_KEY_PART}(?:\s*\.\s*{_KEY_PART})*)\s*=(.*)", re.DOTALL)


@attrs.frozen
class Leaf:
    """One value. ``text`` is how it was typed, where TOML's quotes are optional (environment and ``--set``)."""

    value: Any
    origin: str
    text: str | None = None


@attrs.frozen
class Table:
    """Keys and what they hold. ``origin`` is who began it."""

    origin: str
    items: dict[str, Node] = attrs.field(factory=dict)


Node = Leaf | Table


def join_key(path: str, key: str) -> str:
    """``sources.kafka.topics`` and ``ws.trades`` make ``sources.kafka.topics."ws.trades"``."""
    part = key if _BARE_KEY.fullmatch(key) else '"{}"'.format(key.replace("\\", "\\\\").replace('"', '\\"'))
    return f"{path}.{part}" if path else part


def merge(under: Table, over: Table) -> Table:
    """Both tables in one: tables are merged, any other value of ``over`` replaces that of ``under``."""
    items = dict(under.items)
    for key, node in over.items.items():
        below = items.get(key)
        items[key] = merge(below, node) if isinstance(below, Table) and isinstance(node, Table) else node
    return Table(under.origin, items)


def read_layers(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Iterable[str],
    *,
    sections: Collection[str],
    problems: list[str],
) -> Table:
    """All three layers as one tree. Malformed overrides are added to ``problems``.

    Raises ConfigurationError when the file cannot be read: then nothing else can be said about it.
    """
    tree = Table(NOBODY) if path is None else read_file(path)
    tree = merge(tree, read_environment(environ, sections))
    return merge(tree, read_overrides(overrides, problems))


def read_file(path: Path) -> Table:
    """Raises ConfigurationError for a file that is not there, not readable or not TOML."""
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror or error}"]) from error
    except ValueError as error:
        raise ConfigurationError([f"{path}: not valid TOML: {error}"]) from error
    return _wrap_table(content, str(path))


def read_environment(environ: Mapping[str, str], sections: Collection[str]) -> Table:
    """What ``HUB_SECTION__KEY`` variables say. Others that begin with HUB_ are not for us and are left alone."""
    tree = Table(NOBODY)
    for name in sorted(environ):  # so that the more specific of two variables comes later, and wins
        section, *keys = name.removeprefix("HUB_").split("__")
        if name.startswith("HUB_") and section.isupper() and section.lower() in sections and keys:
            parts = [section.lower(), *(key.lower() for key in keys)]
            tree = merge(tree, _nest(parts, _read_text(environ[name], name), name))
    return tree


def read_overrides(overrides: Iterable[str], problems: list[str]) -> Table:
    """What ``--set key=value`` says; the last of two wins."""
    tree = Table(NOBODY)
    for override in overrides:
        match = _ASSIGNMENT.fullmatch(override)
        if match is None:
            key = override.partition("=")[0]  # what follows may be a secret
            problems.append(
                f'--set {key}: expected key=value, such as server.bind=127.0.0.1:0 or a."b.c".d=1'
            )
        else:
            tree = merge(tree, _nest(_split_key(match[1]), _read_text(match[2].strip(), "--set"), "--set"))
    return tree


def _split_key(key: str) -> list[str]:
    parts = []
    nested: Any = tomllib.loads(f"{key} = 0")
    while isinstance(nested, dict):
        ((part, nested),) = nested.items()
        parts.append(part)
    return parts


def _read_text(text: str, origin: str) -> Node:
    """A value as TOML reads it, or else the text itself: ``8080`` is a number, ``127.0.0.1:8080`` a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except ValueError:
        return Leaf(text, origin, text)
    if len(parsed) != 1:  # the text had lines of its own
        return Leaf(text, origin, text)
    value = parsed["value"]
    return _wrap_table(value, origin) if isinstance(value, dict) else Leaf(value, origin, text)


def _wrap_table(content: Mapping[str, Any], origin: str) -> Table:
    items = {
        key: _wrap_table(value, origin) if isinstance(value, dict) else Leaf(value, origin)
        for key, value in content.items()
    }
    return Table(origin, items)


def _nest(parts: list[str], node: Node, origin: str) -> Table:
    for part in reversed(parts):
        node = Table(origin, {part: node})
    assert isinstance(node, Table)
    return node
