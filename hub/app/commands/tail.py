"""``hub tail``: prints the events of channels, and comes back when a connection is lost.

Credentials for channels that are not for everybody come from the environment alone: arguments can be seen by
everybody on the machine, and stay in the shell's history.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, NoReturn
from urllib.parse import urlsplit

import trio

from hub.app.commands.endings import ENOUGH, Ending
from hub.app.commands.following import Follower
from hub.app.commands.over_http import follow_poll, follow_sse
from hub.app.commands.over_websocket import follow_websocket
from hub.app.settings.problems import ConfigurationError
from hub.sansio.errors import CloseCode

PATHS: Mapping[str, Callable[[str, Follower], Awaitable[Ending]]] = {
    "ws": follow_websocket,
    "sse": follow_sse,
    "poll": follow_poll,
}

#: Variables that may hold credentials, and the scheme of Authorization that each is sent with.
CREDENTIALS: Final[Mapping[str, str]] = {"HUB_TOKEN": "Bearer", "HUB_API_KEY": "ApiKey"}


def tail(options: argparse.Namespace) -> int:
    """Prints envelopes to stdout, a line each, and what becomes of the connection to stderr. The exit status
    is 1 where the hub does not serve what was asked for. Raises KeyboardInterrupt, BrokenPipeError, and
    ConfigurationError where the credentials cannot be any."""
    headers = authorization(options.url)
    follower = Follower(
        options.channels,
        cursor=options.cursor,
        count=options.count,
        headers=headers,
        tell=_print_event,
        say=_say,
        jitter=random.random,
    )
    try:
        ending = trio.run(follower.run, partial(PATHS[options.transport], options.url))
    except BaseExceptionGroup as group:
        _raise_one(group)
    if ending is not ENOUGH:
        _say(f"{ending.reason}{_advise(ending)}")
    return 0 if ending.code == CloseCode.NORMAL else 1


def authorization(url: str, environ: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """The header with the credentials of the environment, if there are any. Raises ConfigurationError, without
    them."""
    given = {name: text for name in CREDENTIALS if (text := environ.get(name, "").strip())}
    if not given:
        return {}
    if len(given) > 1:
        raise ConfigurationError([f"{' and '.join(given)} are both set: a client has one of them"])
    ((name, credentials),) = given.items()
    if not re.fullmatch(r"[\x21-\x7e]+", credentials):
        raise ConfigurationError([f"{name}: expected printable ASCII without spaces"])
    if "@" in urlsplit(url).netloc:
        raise ConfigurationError([f"{name} is set and the URL has a user: there is but one Authorization"])
    return {"authorization": f"{CREDENTIALS[name]} {credentials}"}


def _advise(ending: Ending) -> str:
    if ending.code != CloseCode.UNAUTHENTICATED:
        return ""
    given = [name for name in CREDENTIALS if os.environ.get(name, "").strip()]
    return f"; the credentials are those in {given[0]}" if given else f"; set {' or '.join(CREDENTIALS)}"


def _print_event(envelope: bytes) -> None:
    # Bytes, because a terminal's encoding is no reason to lose an event.
    sys.stdout.buffer.write(envelope.replace(b"\n", b" ") + b"\n")
    sys.stdout.buffer.flush()


def _say(text: str) -> None:
    print(f"hub tail: {text}", file=sys.stderr, flush=True)


def _raise_one(group: BaseExceptionGroup) -> NoReturn:
    """What a shell's user did (Ctrl-C, a closed pipe) as itself, wherever in the libraries it struck."""
    for kind in (KeyboardInterrupt, BrokenPipeError):
        if group.subgroup(kind) is not None:
            raise kind from None
    raise group
