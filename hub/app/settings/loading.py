"""Loads the settings: reads the layers, structures them, brings the plugins' sections in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from hub.app.settings.layers import Leaf, Table, join_key, read_layers
from hub.app.settings.plugins import settings_of
from hub.app.settings.problems import ConfigurationError
from hub.app.settings.sections import Settings
from hub.app.settings.structure import Structurer, known_keys

#: The key of every plugin's section that is not the plugin's.
ENABLED = "enabled"


def load(
    path: str | Path | None,
    environ: Mapping[str, str],
    overrides: Iterable[str],
    known_transports: Mapping[str, type],
    known_sources: Mapping[str, type],
) -> Settings:
    """The settings from a TOML file (None: defaults only), ``HUB_SECTION__KEY`` variables and ``--set`` texts.

    The known plugins are classes with a ``Settings``, by name. Raises ConfigurationError with all problems.
    """
    problems: list[str] = []
    sections = attrs.fields_dict(Settings)
    file = None if path is None else Path(path)
    tree = read_layers(file, environ, overrides, sections=sections, problems=problems)
    structurer = Structurer(problems, tuple(_known_keys(known_transports, known_sources)))

    plugins = _Plugins(structurer, tree)
    transports = plugins.read("transports", known_transports, on_by_default=True)
    sources = plugins.read("sources", known_sources, on_by_default=False)
    rest = {key: node for key, node in tree.items.items() if key not in ("transports", "sources")}
    settings: Settings = structurer.read(Settings, attrs.evolve(tree, items=rest), "")
    if problems:
        raise ConfigurationError(problems)
    return attrs.evolve(settings, transports=transports, sources=sources)


def _known_keys(transports: Mapping[str, type], sources: Mapping[str, type]) -> Iterable[str]:
    yield from known_keys(Settings)
    for group, known in (("transports", transports), ("sources", sources)):
        for name, plugin in known.items():
            path = join_key(group, name)
            yield path
            yield join_key(path, ENABLED)
            yield from known_keys(settings_of(plugin), path)


@attrs.frozen
class _Plugins:
    structurer: Structurer
    tree: Table

    def read(self, group: str, known: Mapping[str, type], *, on_by_default: bool) -> dict[str, Any]:
        """The settings of the plugins that are on, in the order in which they are known."""
        node = self.tree.items.get(group, Table(self.tree.origin))
        if isinstance(node, Leaf):
            self.structurer.report(node, group, f"expected sections such as [{group}.NAME]")
            return {}
        for name in (name for name in node.items if name not in known):
            self.structurer.report_unknown(node.items[name], group, name, known)
        default = Table(self.tree.origin) if on_by_default else None
        results = {}
        for name, plugin in known.items():
            path = join_key(group, name)
            if (table := self._find_enabled(node.items.get(name, default), path)) is not None:
                results[name] = self.structurer.read(settings_of(plugin), table, path, also_known=[ENABLED])
        return results

    def _find_enabled(self, section: Leaf | Table | None, path: str) -> Table | None:
        """The plugin's own keys, if it is on. What is off is not looked at, as if it were commented out."""
        if section is None:
            return None
        if isinstance(section, Leaf):
            self.structurer.report(section, path, f"expected a section, [{path}]")
            return None
        switch = section.items.get(ENABLED, Leaf(True, section.origin))
        if not isinstance(switch, Leaf) or type(switch.value) is not bool:
            self.structurer.report(switch, join_key(path, ENABLED), "expected true or false")
            return None
        own = {key: node for key, node in section.items.items() if key != ENABLED}
        return Table(section.origin, own) if switch.value else None
