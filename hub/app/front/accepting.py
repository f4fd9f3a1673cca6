"""Accepting connections, also where there are too many."""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

logger = logging.getLogger(__name__)

_OUT_OF_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: Seconds between two complaints of one listener.
_COMPLAINT_INTERVAL: Final = 10.0


async def accept_connections(
    listener: trio.SocketListener,
    nursery: trio.Nursery,
    serve: Callable[[trio.SocketStream], Awaitable[None]],
    port: str,
) -> None:
    """Starts ``serve`` for each connection, until the listener is closed. Without descriptors it waits for some."""
    complained_at = -_COMPLAINT_INTERVAL
    while True:  # noqa: ASYNC913  # accept() is the checkpoint, in an `await` that the linter cannot see through
        try:
            stream = await listener.accept()
        except trio.ClosedResourceError:
            return
        except OSError as error:
            if error.errno not in _OUT_OF_DESCRIPTORS:
                raise
            # trio 0.35's serve_listeners logs a traceback for each try, ten times a second.
            if (now := trio.current_time()) - complained_at >= _COMPLAINT_INTERVAL:
                complained_at = now
                logger.error("cannot accept connections", extra={"port": port, "error": str(error)})
            await trio.sleep(0.1)
        else:
            nursery.start_soon(serve, stream)
