"""Finds the plugins that are installed, by entry point; in a checkout that is not installed, by looking."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points

#: Entry-point group -> the package that holds the hub's own plugins of that kind.
OWN_PACKAGES = {"hub.transports": "transports", "hub.sources": "hub.sources"}


def find_plugins(group: str, *, own_only: bool = False) -> dict[str, type]:
    """The plugin classes of an entry-point group, by name, in the order of names.

    Own only: without those of other distributions, which the hub's reference does not describe.
    """
    package = OWN_PACKAGES[group]
    entries = [
        entry for entry in entry_points(group=group) if not own_only or entry.module.startswith(f"{package}.")
    ]
    found = {entry.name: entry.load() for entry in entries} or dict(_look_into(package))
    return dict(sorted(found.items()))


def settings_of(plugin: type) -> type:
    """The class of a plugin's settings."""
    settings: type = plugin.Settings  # type: ignore[attr-defined]  # the plugins' contract, hub.core.contracts
    return settings


def _look_into(package: str) -> Iterator[tuple[str, type]]:
    """The classes in a package's modules that declare what a plugin declares: ``name`` and ``Settings``."""
    for module_info in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        module = importlib.import_module(module_info.name)
        for thing in vars(module).values():
            name = getattr(thing, "name", None)
            if isinstance(name, str) and isinstance(getattr(thing, "Settings", None), type):
                yield name, thing
