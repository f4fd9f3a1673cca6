"""From a tree of what was said to settings objects, with every mistake told at its place."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import attrs

from hub.app.settings.kinds import (
    Key,
    choices_of,
    describe,
    is_list,
    is_mapping,
    is_settings,
    item_kind,
    keys_of,
    read_scalar,
    to_toml,
)
from hub.app.settings.layers import Leaf, Node, Table, join_key
from hub.app.settings.redaction import redact
from hub.sansio.options import Option

_LONGEST_SHOWN = 80
#: How alike the name of a key must be that stands in another section.
_NEAR_ELSEWHERE = 0.8


class _Unusable(Exception):
    """The value was wrong and has been reported; what is built of it cannot be built."""


@attrs.frozen
class Structurer:
    """Reads settings classes from tables and collects what is wrong in ``problems``, one line each.

    ``known`` are all keys there are, in full: an unknown key is compared with them.
    """

    problems: list[str]
    known: tuple[str, ...]

    def read(self, cls: type, table: Table, path: str, *, also_known: Iterable[str] = ()) -> Any:
        """An instance of ``cls``, or None when something was wrong. ``also_known`` are keys that the caller has
        taken out already."""
        try:
            return self._read_settings(cls, table, path, also_known)
        except _Unusable:
            return None

    def report_unknown(
        self, node: Node, path: str, key: str, siblings: Iterable[str], *, masked: bool = False
    ) -> None:
        """Reports a key that nobody knows, with the nearest one that is known."""
        full = join_key(path, key)
        what = f"[{full}]" if isinstance(node, Table) else _show(node, full, masked=masked)
        self.problems.append(
            f"{node.origin}: {what} is not a known key; {self._suggest(path, key, list(siblings))}"
        )

    def report(self, node: Node, path: str, expected: str, *, masked: bool = False) -> None:
        """Reports a value that cannot stand where it stands."""
        self.problems.append(f"{node.origin}: {_show(node, path, masked=masked)}: {expected}")

    # --- settings classes --------------------------------------------------------------------------------

    def _read_settings(self, cls: type, table: Table, path: str, also_known: Iterable[str] = ()) -> Any:
        keys = keys_of(cls)
        self._check_keys(keys, table, path, also_known)
        values = self._collect((key.argument, self._reader(key, table, path)) for key in keys.values())
        try:
            return cls(**{name: value for name, value in values.items() if value is not attrs.NOTHING})
        except ValueError as error:  # keys that do not go together
            self.problems.append(f"{table.origin}: [{path}] {error}")
            raise _Unusable from error

    def _check_keys(
        self, keys: Mapping[str, Key], table: Table, path: str, also_known: Iterable[str]
    ) -> None:
        # A misspelt secret is still a secret.
        masked = any(key.option.secret for key in keys.values())
        for name in (name for name in table.items if name not in keys):
            self.report_unknown(table.items[name], path, name, [*keys, *also_known], masked=masked)

    def _reader(self, key: Key, table: Table, path: str) -> Callable[[], Any]:
        full, node = join_key(path, key.name), table.items.get(key.name)
        if node is not None:
            return partial(self._read, key.kind, node, full, key.option)
        return partial(self._read_nothing, key, table, full)

    def _read_nothing(self, key: Key, table: Table, path: str) -> Any:
        if key.default is None and is_settings(key.kind):
            return self._read_settings(key.kind, Table(table.origin), path)
        if key.default is None:
            doc = f" ({key.option.doc})" if key.option.doc else ""
            self.problems.append(
                f"{table.origin}: {path} is missing; set it to {describe(key.kind, key.option)}{doc}"
            )
            raise _Unusable
        return attrs.NOTHING

    def _collect(self, readers: Iterable[tuple[str, Callable[[], Any]]]) -> dict[str, Any]:
        """What all readers give. When one fails the others run all the same, so that all mistakes are told."""
        results, failed = {}, False
        for name, read in readers:
            try:
                results[name] = read()
            except _Unusable:
                failed = True
        if failed:
            raise _Unusable
        return results

    # --- values ------------------------------------------------------------------------------------------

    def _read(self, kind: Any, node: Node, path: str, option: Option) -> Any:
        if is_settings(kind) and isinstance(node, Table):
            return self._check(self._read_settings(kind, node, path), node, path, option)
        if is_mapping(kind) and isinstance(node, Table):
            return self._read_mapping(kind, node, path, option)
        if is_list(kind) and isinstance(node, Leaf) and isinstance(node.value, list):
            return self._read_list(kind, node, path, option)
        if isinstance(node, Table) or is_settings(kind) or is_mapping(kind) or is_list(kind):
            raise self._refuse(kind, node, path, option)
        return self._read_scalar(kind, node, path, option)

    def _read_mapping(self, kind: Any, table: Table, path: str, option: Option) -> Mapping[str, Any]:
        inner = item_kind(kind)
        return self._collect(
            (name, partial(self._read, inner, node, join_key(path, name), option))
            for name, node in table.items.items()
        )

    def _read_list(self, kind: Any, leaf: Leaf, path: str, option: Option) -> tuple[Any, ...]:
        inner = item_kind(kind)
        nodes = [
            Table(leaf.origin, {k: Leaf(v, leaf.origin) for k, v in item.items()})
            if isinstance(item, dict)
            else Leaf(item, leaf.origin)
            for item in leaf.value
        ]
        items = self._collect(
            (str(index), partial(self._read, inner, node, f"{path}[{index}]", option))
            for index, node in enumerate(nodes)
        )
        return tuple(items.values())

    def _read_scalar(self, kind: Any, leaf: Leaf, path: str, option: Option) -> Any:
        # In the environment 12345 may well be a password.
        value = (
            leaf.text if kind is str and leaf.text is not None and type(leaf.value) is not str else leaf.value
        )
        try:
            result = read_scalar(kind, value, option)
        except ValueError:
            raise self._refuse(kind, leaf, path, option) from None
        return self._check(result, leaf, path, option)

    def _check(self, value: Any, node: Node, path: str, option: Option) -> Any:
        try:
            if option.check is not None:
                option.check(value)
        except ValueError as error:
            if isinstance(node, Table):
                self.problems.append(f"{node.origin}: [{path}] {error}")
            else:
                self.report(node, path, str(error), masked=option.secret)
            raise _Unusable from error
        return value

    def _refuse(self, kind: Any, node: Node, path: str, option: Option) -> _Unusable:
        hint = ""
        if isinstance(node, Leaf) and isinstance(node.value, str):
            hint = _nearest_choice(node.value, [c for c in choices_of(kind, option) if isinstance(c, str)])
        self.report(node, path, f"expected {describe(kind, option)}{hint}", masked=option.secret)
        return _Unusable()

    # --- suggestions -------------------------------------------------------------------------------------

    def _suggest(self, path: str, key: str, siblings: list[str]) -> str:
        if near := difflib.get_close_matches(key, siblings, 1):
            return f"did you mean {join_key(path, near[0])}?"
        elsewhere = {known.rpartition(".")[2]: known for known in reversed(self.known)}
        if near := difflib.get_close_matches(key, elsewhere, 1, _NEAR_ELSEWHERE):
            return f"did you mean {elsewhere[near[0]]}?"
        return f"known here: {', '.join(siblings) or 'nothing'}"


def known_keys(cls: type, path: str = "") -> Iterator[str]:
    """All keys of a settings class in full; NAME stands for the names that the operator gives."""
    for key in keys_of(cls).values():
        full = join_key(path, key.name)
        yield full
        if key.is_table and is_mapping(key.kind):
            yield from known_keys(item_kind(key.kind), f"{full}.NAME")
        elif key.is_table:
            yield from known_keys(key.kind, full)


def _nearest_choice(value: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(value.lower(), choices, 1)
    return f"; did you mean {to_toml(str, near[0])}?" if near else ""


def _show(node: Node, path: str, *, masked: bool) -> str:
    # Redacted as a whole, because a key nobody knows may be called password.
    return f"{path} = ***" if masked else redact(f"{path} = {_show_value(node)}")


def _show_value(node: Node) -> str:
    if isinstance(node, Table):
        return "a table"
    if isinstance(node.value, list) and any(isinstance(item, dict) for item in node.value):
        return "a list of tables"
    shown = to_toml(None, node.value)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
