"""The other end of a link, which the author of a transport plays with a client of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from hub.core.contracts import Link


class FarEnd(Protocol):
    """A client that reads. It reads nothing unless it is asked to."""

    async def receive(self) -> bytes:
        """The hub's next message, without framing; what only keeps the connection alive is passed over. Raises
        EndOfChannel once the hub has closed."""
        ...

    async def aclose(self) -> None:
        """Leaves as the protocol wants it."""
        ...

    async def abort(self) -> None:
        """Is gone without a word, as after a crash. May be called after ``aclose`` and more than once."""
        ...


@runtime_checkable
class Talking(Protocol):
    """A far end that can also send; without it the link is one that only sends."""

    async def send(self, message: str | bytes) -> None:
        """Sends one message to the hub."""
        ...


#: Opens a connected pair for the time of a block, and closes both ends after it.
LinkMaker = Callable[[], AbstractAsyncContextManager[tuple[Link, FarEnd]]]
