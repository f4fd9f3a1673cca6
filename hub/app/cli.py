"""The command ``hub``."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from hub import __version__
from hub.app import logs
from hub.app.commands import add_keys_command, add_publish_command, base_url, positive, tail
from hub.app.compose import Hub, PluginFailed
from hub.app.settings import ConfigurationError, Settings, load
from hub.app.settings.plugins import find_plugins

#: Exit status of a command line or a configuration that is wrong.
EXIT_USAGE = 2
EXIT_FAILURE = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hub", description="A real-time hub.")
    parser.add_argument("--version", action="version", version=f"hub {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the hub")
    serve.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file; conf/hub.toml shows every key"
    )
    serve.add_argument("--bind", metavar="HOST:PORT", help="public address; port 0 is any free one")
    serve.add_argument("--admin-bind", metavar="HOST:PORT", help="operators' address")
    _add_set(serve)
    serve.set_defaults(run=_serve)

    check = commands.add_parser("check-config", help="say what is wrong with a configuration")
    check.add_argument("config", type=Path, metavar="FILE")
    _add_set(check)
    check.set_defaults(run=_check)

    add_publish_command(commands)

    tailing = commands.add_parser(
        "tail",
        help="print the events of channels, a line each",
        description="Prints the events of channels, a line each.",
        epilog="Credentials, for channels that are not for everybody, are a token in the variable HUB_TOKEN or an API "
        "key in HUB_API_KEY.",
    )
    tailing.add_argument(
        "url", metavar="URL", type=base_url, help="the public port, such as http://127.0.0.1:8080"
    )
    tailing.add_argument("channels", nargs="+", metavar="CHANNEL")
    tailing.add_argument("--transport", choices=("ws", "sse", "poll"), default="ws")
    tailing.add_argument("--cursor", help="go on from here")
    tailing.add_argument("--count", type=positive, metavar="N", help="end after N events")
    tailing.set_defaults(run=tail)

    add_keys_command(commands, _load)
    return parser


def _tune_garbage_collection() -> None:
    """Looking for garbage is a third of what accepting a connection costs at Python's defaults, and full looks hold
    everybody up; what is garbage here mostly goes by itself."""
    gc.collect()
    gc.freeze()  # what was imported stays anyway
    gc.set_threshold(50_000, 20, 50)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="overrides one key, such as server.node=n2",
    )


def _load(path: Path | None, overrides: Sequence[str]) -> Settings:
    return load(path, os.environ, overrides, find_plugins("hub.transports"), find_plugins("hub.sources"))


def _check(options: argparse.Namespace) -> int:
    _load(options.config, options.set)
    print(f"{options.config}: ok")
    return 0


def _serve(options: argparse.Namespace) -> int:
    overrides = list(options.set)
    overrides += [f"server.bind={options.bind}"] if options.bind is not None else []
    overrides += [f"server.admin_bind={options.admin_bind}"] if options.admin_bind is not None else []
    settings = _load(options.config, overrides)
    logs.configure(settings.logging)
    _tune_garbage_collection()
    hub = Hub(settings, find_plugins("hub.transports"), find_plugins("hub.sources"))
    try:
        trio.run(hub.run)
    except PluginFailed:
        return EXIT_FAILURE
    except OSError as error:  # an address that cannot be had is the operator's to mend
        print(f"hub: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILURE
    return 0
