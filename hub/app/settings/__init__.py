"""The hub's configuration: ``load`` gives `Settings` or raises `ConfigurationError`.

``python -m hub.app.settings`` renders the reference (``conf/hub.toml``, ``docs/configuration.rst``) anew.
"""

from __future__ import annotations

from hub.app.settings.loading import load
from hub.app.settings.problems import ConfigurationError
from hub.app.settings.reference import render_documentation, render_toml
from hub.app.settings.sections import (
    ChannelSettings,
    LimitSettings,
    LogSettings,
    ServerSettings,
    Settings,
    check_address,
)

__all__ = [
    "ChannelSettings",
    "ConfigurationError",
    "LimitSettings",
    "LogSettings",
    "ServerSettings",
    "Settings",
    "check_address",
    "load",
    "render_documentation",
    "render_toml",
]
