"""A link as it should be, over a pipe in memory that holds little; and its far end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

CAPACITY = 100_000


class Pipe:
    """Bytes on their way in one direction."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buffer = bytearray()
        self.has_ended = False  # the writer will write no more
        self.is_broken = False  # the reader will read no more
        self._changed = trio.Event()

    def push(self, data: bytes) -> int:
        """Takes what there is room for."""
        if self.is_broken:
            raise trio.BrokenResourceError
        taken = data[: max(0, self.capacity - len(self.buffer))]
        self.buffer += taken
        self.change()
        return len(taken)

    def pull(self) -> bytes:
        data = bytes(self.buffer)
        self.buffer.clear()
        self.change()
        return data

    def end(self) -> None:
        self.has_ended = True
        self.change()

    def break_(self) -> None:
        self.is_broken = self.has_ended = True
        self.buffer.clear()
        self.change()

    def change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_changed(self) -> None:
        await self._changed.wait()


class SlowLink:
    """Lines, without a fast path."""

    keepalive = (b"\n", 30.0)
    keepalive_is_enough = True

    def __init__(self, out: Pipe, into: Pipe) -> None:
        self.out = out
        self.into = into
        self.input = b""

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        while data := data[self.out.push(data) :]:
            await self.out.wait_changed()

    async def receive(self) -> str | bytes:
        await trio.lowlevel.checkpoint()
        while b"\n" not in self.input:
            self.input += await self.read()
        line, _, self.input = self.input.partition(b"\n")
        return line.decode()

    async def read(self) -> bytes:
        while not self.into.buffer:
            if self.into.is_broken:
                raise trio.BrokenResourceError
            if self.into.has_ended:
                raise trio.EndOfChannel
            await self.into.wait_changed()
        return self.into.pull()

    async def aclose(self, code: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self.out.end()
        while not self.into.has_ended:
            await self.into.wait_changed()


class FastLink(SlowLink):
    """The same with one."""

    def try_send(self, data: bytes) -> int:
        return self.out.push(data)

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while len(self.out.buffer) >= self.out.capacity and not self.out.is_broken:
            await self.out.wait_changed()


class DeafFarEnd:
    """A client that only reads."""

    def __init__(self, out: Pipe, into: Pipe) -> None:
        self.out = out
        self.into = into
        self.input = b""

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        line = b""
        while not line:
            while b"\n" not in self.input:
                if self.out.has_ended and not self.out.buffer:
                    raise trio.EndOfChannel
                if not self.out.buffer:
                    await self.out.wait_changed()
                self.input += self.out.pull()
            line, _, self.input = self.input.partition(b"\n")
        return line

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.into.end()

    async def abort(self) -> None:
        await trio.lowlevel.checkpoint()
        self.into.break_()
        self.out.break_()


class TalkingFarEnd(DeafFarEnd):
    async def send(self, message: str | bytes) -> None:
        await trio.lowlevel.checkpoint()
        assert isinstance(message, str)
        self.into.push(message.encode() + b"\n")


@asynccontextmanager
async def open_pair(
    link: type[SlowLink], far: type[DeafFarEnd] = TalkingFarEnd
) -> AsyncIterator[tuple[SlowLink, DeafFarEnd]]:
    out, into = Pipe(CAPACITY), Pipe(1 << 30)
    yield link(out, into), far(out, into)
