"""``hub tail``: prints the events of channels, and comes back when a connection is lost."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NoReturn

import trio

from hub.app.commands.endings import ENOUGH, Ending
from hub.app.commands.following import Follower
from hub.app.commands.over_http import follow_poll, follow_sse
from hub.app.commands.over_websocket import follow_websocket
from hub.sansio.errors import CloseCode

PATHS: Mapping[str, Callable[[str, Follower], Awaitable[Ending]]] = {
    "ws": follow_websocket,
    "sse": follow_sse,
    "poll": follow_poll,
}


def tail(options: argparse.Namespace) -> int:
    """Prints envelopes to stdout, a line each, and what becomes of the connection to stderr. The exit status
    is 1 where the hub does not serve what was asked for. Raises KeyboardInterrupt, BrokenPipeError."""
    follower = Follower(
        options.channels,
        cursor=options.cursor,
        count=options.count,
        tell=_print_event,
        say=_say,
        jitter=random.random,
    )
    try:
        ending = trio.run(follower.run, partial(PATHS[options.transport], options.url))
    except BaseExceptionGroup as group:
        _raise_one(group)
    if ending is not ENOUGH:
        _say(ending.reason)
    return 0 if ending.code == CloseCode.NORMAL else 1


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
