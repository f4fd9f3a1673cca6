"""Where the operators' port is, and the key that opens it."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path

from hub.app.commands.urls import base_url
from hub.app.settings.layers import Table, read_layers
from hub.app.settings.problems import ConfigurationError
from hub.app.settings.sections import ServerSettings
from hub.app.settings.structure import Structurer

DEFAULT_URL = "http://127.0.0.1:8081"
#: Where the key comes from, if not from a file. Never from an argument, which everybody on the machine can see.
KEY_VARIABLE = "HUB_ADMIN_KEY"

#: An address to listen on -> one to connect to.
_REACHABLE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


def add_operators_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `operators_url` and `operators_key` read."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--admin", metavar="URL", type=base_url, help=f"the operators' port; by default {DEFAULT_URL}"
    )
    where.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="the hub's TOML file, whose server.admin_bind is that port",
    )
    parser.add_argument(
        "--key-file",
        metavar="FILE",
        type=Path,
        help=f"holds the operators' key, where the port wants one; otherwise that is in {KEY_VARIABLE}",
    )


def operators_url(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> str:
    """The operators' port of the hub that is meant. Raises ConfigurationError."""
    if options.config is None:
        return options.admin or DEFAULT_URL
    address = _read_server(options.config, environ).admin_bind
    host, _, port = address.rpartition(":")
    if not address or port == "0":
        what = "is any free one" if address else "is off"
        raise ConfigurationError(
            [
                f'{options.config}: server.admin_bind = "{address}": the operators\' port {what}; say --admin URL'
            ]
        )
    return f"http://{_REACHABLE.get(host, host)}:{port}"


def _read_server(path: Path, environ: Mapping[str, str]) -> ServerSettings:
    """Section [server] alone: what else there is may only make sense to the hub itself."""
    problems: list[str] = []
    tree = read_layers(path, environ, (), sections=("server",), problems=problems)
    node = tree.items.get("server", Table(str(path)))
    if not isinstance(node, Table):
        raise ConfigurationError([f"{path}: server: expected a section, [server]"])
    settings: ServerSettings = Structurer(problems, ()).read(ServerSettings, node, "server")
    if problems:
        raise ConfigurationError(problems)
    return settings


def operators_key(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> str | None:
    """The key that opens the operators' port, if there is one. Raises ConfigurationError, without the key."""
    if options.key_file is None:
        origin, text = KEY_VARIABLE, environ.get(KEY_VARIABLE, "")
        if not text:
            return None
    else:
        origin, text = f"--key-file {options.key_file}", _read_key_file(options.key_file)
    key = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ConfigurationError([f"{origin}: expected a key, which is printable ASCII without spaces"])
    return key


def _read_key_file(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError as error:
        raise ConfigurationError([f"--key-file {path}: cannot be read: {error.strerror or error}"]) from None
