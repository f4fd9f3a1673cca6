"""Links whose peer is played by the test: how much they take, and when, is the test's to say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from hub.sansio.errors import ProtocolViolated

#: More than any test needs.
MAX_SENDS = 20_000


class PumpLink:
    """A link without a fast path. ``capacity`` bytes fit in between; the peer ``take``\\ s them out.

    ``sent`` is all that the hub handed over so far, and ``taken`` what the peer has of it.
    """

    def __init__(
        self,
        *,
        capacity: int = 1 << 30,
        keepalive: tuple[bytes, float] = (b"", 0.0),
        keepalive_is_enough: bool = False,
    ) -> None:
        self.capacity = capacity
        self.keepalive = keepalive
        self.keepalive_is_enough = keepalive_is_enough
        self.waiting = bytearray()
        self.taken = bytearray()
        self.closed_with: tuple[int, str] | None = None
        self.sends = 0
        self.is_broken = False
        self.close_waits = False
        self._commands: deque[str | bytes | Exception] = deque()
        self._changed = trio.Event()
        self._is_sending = False

    # --- the peer's side ----------------------------------------------------------------------------------

    def take(self, count: int = 1 << 30) -> bytes:
        """What the peer reads now."""
        data = bytes(self.waiting[:count])
        del self.waiting[:count]
        self.taken += data
        self._change()
        return data

    def give(self, command: str | bytes | Exception) -> None:
        """The peer sends a message; an exception is what ``receive`` raises."""
        self._commands.append(command)
        self._change()

    def leave(self) -> None:
        """The peer closes politely: reading ends, and writing fails from now on."""
        self.give(trio.EndOfChannel())
        self.break_()

    def break_(self) -> None:
        """The network fails."""
        self.is_broken = True
        self._change()

    @property
    def room(self) -> int:
        return max(0, self.capacity - len(self.waiting))

    # --- the hub's side -----------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        assert not self._is_sending, "two writers at once"
        self._is_sending = True
        self._count()
        try:
            await trio.lowlevel.checkpoint()
            while data:
                self._check()
                taken, data = data[: self.room], data[self.room :]
                self.waiting += taken
                if data:
                    await self._wait()
        finally:
            self._is_sending = False

    async def receive(self) -> str | bytes:
        await trio.lowlevel.checkpoint()
        while not self._commands:
            if self.is_broken:
                raise trio.BrokenResourceError
            await self._wait()
        command = self._commands.popleft()
        if isinstance(command, (ProtocolViolated, trio.EndOfChannel)):
            raise command
        assert isinstance(command, (str, bytes))
        return command

    async def aclose(self, code: int, reason: str) -> None:
        assert not self._is_sending, "closed by one task while another sends"
        self.closed_with = (int(code), reason)
        await trio.lowlevel.checkpoint()
        while self.close_waits:
            await self._wait()

    def _count(self) -> None:
        self.sends += 1
        assert self.sends < MAX_SENDS, "a writer is spinning"

    def _check(self) -> None:
        if self.closed_with is not None and not self.close_waits:
            raise trio.ClosedResourceError
        if self.is_broken:
            raise trio.BrokenResourceError

    async def _wait(self) -> None:
        changed = self._changed
        await changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class FastLink(PumpLink):
    """A link with a fast path. ``bite`` says how much of what fits is taken at once."""

    bite: Callable[[int], int] = staticmethod(lambda size: size)

    def try_send(self, data: bytes) -> int:
        assert not self._is_sending, "two writers at once"
        assert data, "nothing to write"
        self._check()
        self._count()
        taken = min(len(data), self.room)
        taken = min(taken, max(1, self.bite(taken)))
        self.waiting += data[:taken]
        return taken

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self.room:
            self._check()
            await self._wait()
        self._check()


class AudibleLink(FastLink):
    """A link that knows when it last heard of its peer; the test sets ``last_heard``."""

    last_heard = 0.0
