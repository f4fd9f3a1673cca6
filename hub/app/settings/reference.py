"""The configuration reference, rendered from the settings classes: as TOML with comments and as documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hub.app.settings.kinds import Key, describe, is_list, is_mapping, item_kind, keys_of, to_toml
from hub.app.settings.layers import join_key
from hub.app.settings.loading import ENABLED
from hub.app.settings.plugins import settings_of
from hub.app.settings.sections import Settings

Plugins = Mapping[str, type]

_WIDTH = 110
_GROUPS = ("transports", "sources")

_TOML_HEAD = """\
Every setting of the hub with its default. Rendered by "python -m hub.app.settings"; do not edit here,
copy what you need into a file of your own.

The environment goes over the file (HUB_SERVER__BIND=0.0.0.0:80), --set over both (--set server.page=false).

A duration is "250ms", "5s", "5m", "1h" or a number of seconds; a size is "64KB", "64MB", "1GB" or a number
of bytes, in powers of 1024."""

_RST_HEAD = """\
Configuration
=============

.. Rendered by "python -m hub.app.settings"; edit the settings classes, not this file.

The hub reads one TOML file, then the environment, then ``--set``. What comes later wins: tables are merged, any
other value is replaced as a whole.

file
    ``hub serve --config FILE``. ``conf/hub.toml`` shows every key with its default.

environment
    ``HUB_SERVER__BIND=0.0.0.0:8080``. Two underscores go one level down; names are in upper case, keys in lower
    case. The value is read as TOML where it is TOML (``8080``, ``true``, ``["a", "b"]``, ``{ "ws.trades" = {} }``)
    and is a string otherwise. A variable counts only if it begins with ``HUB_``, a section's name and two
    underscores.

``--set KEY=VALUE``
    ``--set server.bind=0.0.0.0:8080``. Dots go one level down; a part with dots of its own is quoted:
    ``--set 'namespaces."my.jobs".lag_limit=10'``. Values are as in the environment.

A key that nobody knows, a value of the wrong type or beyond its limits is an error, and the hub does not start. All
errors are reported together, each with its place, and with the nearest known key. ``hub check-config FILE`` does
only that.

A **duration** is ``"250ms"``, ``"5s"``, ``"5m"``, ``"1h"`` or a number of seconds. A **size** is ``"512B"``,
``"64KB"``, ``"64MB"``, ``"1GB"`` or a number of bytes; the units are powers of 1024."""


# --- TOML ------------------------------------------------------------------------------------------------


def render_toml(transports: Plugins, sources: Plugins) -> str:
    """``conf/hub.toml``: parsing it gives exactly the defaults. Sources are commented out, for a source's section
    turns it on; they come alive by taking one # off each of their lines."""
    blocks = [_comment(_TOML_HEAD)]
    for key in keys_of(Settings).values():
        if key.name not in _GROUPS:
            blocks.append(_comment(key.option.doc))
            blocks += _toml_section(key.name, key.kind, _default_of(key))
            continue
        blocks.append(_comment(key.option.doc))
        for name, plugin in (transports if key.name == "transports" else sources).items():
            section = _toml_plugin(join_key(key.name, name), plugin)
            blocks += section if key.name == "transports" else [_comment_out("\n\n".join(section))]
    return "\n\n".join(blocks) + "\n"


def _toml_plugin(path: str, plugin: type) -> Iterator[str]:
    head, *rest = _toml_section(path, settings_of(plugin), None)
    title, *lines = head.split("\n")
    switch = ["# false: off", f"{ENABLED} = true"]
    yield "\n".join([title, *switch, *lines])
    yield from rest


def _toml_section(path: str, kind: Any, value: Any, *, brief: bool = False) -> Iterator[str]:
    """The blocks of ``[path]``: its own keys, then a block for each table in it. ``value`` None: the defaults of
    the class itself. Brief: only what differs from the class's defaults, without comments."""
    if is_mapping(kind):
        yield from _toml_named_sections(path, kind, value)
        return
    keys = keys_of(kind).values()
    lines = [f"[{path}]"]
    for key in keys:
        if not key.is_table:
            lines += _toml_key(key, getattr(value, key.name, _default_of(key)), brief=brief)
    yield "\n".join(lines)
    for key in keys:
        if key.is_table:
            inner = getattr(value, key.name, _default_of(key))
            first, *rest = _toml_section(join_key(path, key.name), key.kind, inner)
            yield f"{_comment(_sentence(key.option.doc))}\n{first}"
            yield from rest


def _toml_named_sections(path: str, kind: Any, value: Mapping[str, Any] | None) -> Iterator[str]:
    """An example that is commented out and explains each key; then a section for each name, brief."""
    inner = item_kind(kind)
    yield _comment_out("\n\n".join(_toml_section(f"{path}.NAME", inner, None)))
    for name, item in (value or {}).items():
        yield from _toml_section(join_key(path, name), inner, item, brief=True)


def _toml_key(key: Key, value: Any, *, brief: bool) -> Iterator[str]:
    if not brief:
        yield _comment(_explain(key))
    if brief and key.default is not None and value == key.default():
        return
    if value is None and key.default is None:
        yield f"{key.name} = {_placeholder(key.kind)}  # must be set"
    elif value is None:
        yield f"# {key.name} ="
    else:
        yield f"{key.name} = {to_toml(key.kind, value)}"


def _placeholder(kind: Any) -> str:
    if is_list(kind):
        return "[]"
    return "0" if kind in (int, float) else '""'


def _explain(key: Key) -> str:
    """``Longest cursor. Size, from 64B to 16KB.`` Strings and switches show by their default what they are."""
    kind = describe(key.kind, key.option, short=True)
    texts = [key.option.doc, "" if kind in ("a string", "true or false") else kind]
    return " ".join(_sentence(text) for text in texts if text)


def _sentence(text: str) -> str:
    first = (
        text[:1].upper() if text.partition(" ")[0].strip(",;").isalpha() else text[:1]
    )  # host:port stays as it is
    return f"{first}{text[1:].removesuffix('.')}."


def _default_of(key: Key) -> Any:
    return None if key.default is None else key.default()


def _comment(text: str) -> str:
    lines = (textwrap.wrap(line, _WIDTH, break_on_hyphens=False) or [""] for line in text.split("\n"))
    return "\n".join(f"# {part}".rstrip() for wrapped in lines for part in wrapped)


def _comment_out(text: str) -> str:
    return "\n".join(f"#{line}" for line in text.split("\n"))


# --- reStructuredText ------------------------------------------------------------------------------------


def render_documentation(transports: Plugins, sources: Plugins) -> str:
    """``docs/configuration.rst``: a table per section."""
    blocks = [_RST_HEAD]
    for key in keys_of(Settings).values():
        title = f"``[{key.name}]``"
        blocks.append(f"{title}\n{'-' * len(title)}\n\n{_escape(key.option.doc)}")
        if key.name in _GROUPS:
            for name, plugin in (transports if key.name == "transports" else sources).items():
                blocks += _rst_plugin(join_key(key.name, name), plugin)
        else:
            blocks += _rst_section(key.name, key.kind, _default_of(key))
    return "\n\n".join(blocks) + "\n"


def _rst_plugin(path: str, plugin: type) -> Iterator[str]:
    title = f"``[{path}]``"
    yield f"{title}\n{'~' * len(title)}"
    doc = (plugin.__doc__ or "").strip().partition("\n\n")[0]
    if doc:
        yield " ".join(doc.split())
    switch = [f"``{ENABLED}``", "true or false", "``true``", "false: off"]
    yield from _rst_section(path, settings_of(plugin), None, first=[switch])


def _rst_section(path: str, kind: Any, value: Any, *, first: Iterable[list[str]] = ()) -> Iterator[str]:
    if is_mapping(kind):
        inner = item_kind(kind)
        yield f"``[{path}.NAME]``, any number of them:"
        yield from _rst_section(f"{path}.NAME", inner, None)
        if value:
            yield "As shipped:"
            yield _rst_table(
                ["name", "settings"], "20 80", [_rst_shipped(n, inner, v) for n, v in value.items()]
            )
        return
    keys = keys_of(kind).values()
    rows = [*first, *(_rst_key(key) for key in keys if not key.is_table)]
    if rows:
        yield _rst_table(["key", "type", "default", "meaning"], "20 25 15 40", rows)
    for key in keys:
        if key.is_table:
            yield f"``[{join_key(path, key.name)}]``: {_escape(key.option.doc)}"
            yield from _rst_section(join_key(path, key.name), key.kind, _default_of(key))


def _rst_key(key: Key) -> list[str]:
    default = "must be set" if key.default is None else _rst_value(key, key.default())
    about = _escape(key.option.doc)
    return [f"``{key.name}``", _escape(describe(key.kind, key.option, short=True)), default, about]


def _rst_value(key: Key, value: Any) -> str:
    return "not set" if value is None else f"``{to_toml(key.kind, value)}``"


def _rst_shipped(name: str, kind: Any, value: Any) -> list[str]:
    """A row with what differs from the defaults of a shipped table."""
    differing = [
        f"``{key.name} = {to_toml(key.kind, getattr(value, key.name))}``"
        for key in keys_of(kind).values()
        if key.default is None or getattr(value, key.name) != key.default()
    ]
    return [f"``{name}``", ", ".join(differing)]


def _rst_table(titles: list[str], widths: str, rows: Iterable[list[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in (titles, *rows):
        lines += [f"   {'* -' if index == 0 else '  -'} {cell}".rstrip() for index, cell in enumerate(row)]
    return "\n".join(lines)


def _escape(text: str) -> str:
    """Plain text as reStructuredText: a star or a trailing underscore would be markup, a@b a mail address."""
    for mark in ("\\", "*", "`", "_", "|", "@"):
        text = text.replace(mark, f"\\{mark}")
    return text
