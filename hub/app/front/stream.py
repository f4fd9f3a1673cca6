"""The byte stream of one peer, shared by the library that keeps the protocol and by the session's writer."""

from __future__ import annotations

import contextlib
import os
from typing import Final

import trio
import trio.abc

#: How long, and how much, a closed connection is still read: closing a socket with unread input resets it,
#: and a reset may overtake the last words that the peer has not read yet.
LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 1024 * 1024

_STREAM_ERRORS = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)


class PeerStream(trio.abc.Stream):
    """A stream with one writer at a time, that remembers when it last heard of its peer.

    ``send_all`` is for libraries; ``send`` is for the session's writer and may finish what the fast path cut.
    ``aclose`` only ends our half: the port, which owns the socket, closes it after a linger. Input that was
    read already can be given back (``unread``).
    """

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self.socket = (
            stream.socket if isinstance(stream, trio.SocketStream) else stream.transport_stream.socket
        )
        self.last_heard = trio.current_time()
        self._unread = b""
        self._is_reserved = False
        self._turns = trio.lowlevel.ParkingLot()
        self._is_closed = False
        self._receiving = trio.CancelScope()

    def unread(self, data: bytes) -> None:
        """``data`` comes again from the next ``receive_some``."""
        self._unread = data + self._unread

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._unread:
            await trio.lowlevel.checkpoint()
            data, self._unread = self._unread, b""
            return data
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return b""
        with trio.CancelScope() as self._receiving:
            received = bytes(await self._stream.receive_some(max_bytes))
            self.last_heard = trio.current_time()
            return received
        return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._reserve()
        try:
            await self._stream.send_all(data)
        finally:
            self._release()

    async def send(self, data: bytes) -> None:
        """The session's writes."""
        await self.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            # Whoever still reads is to go, also where the peer does not.
            self._receiving.cancel()
            if isinstance(self._stream, trio.SocketStream):
                # Not SocketStream.send_eof(), which must not meet a send that is still waiting.
                with contextlib.suppress(OSError):
                    self.socket.shutdown(trio.socket.SHUT_WR)
            else:
                await self._end_tls(self._stream)
        await trio.lowlevel.checkpoint()

    async def _end_tls(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        """Tells the peer that this is the end (close_notify), and closes the socket: TLS has no other half."""
        with trio.move_on_after(LINGER_SECONDS, shield=True), contextlib.suppress(*_STREAM_ERRORS):
            await stream.aclose()

    async def close_for_good(self) -> None:
        """Ends our half, listens on for a moment, and closes the socket."""
        try:
            with trio.move_on_after(LINGER_SECONDS) as scope:
                scope.shield = True
                await self.aclose()
                left = LINGER_BYTES
                while left > 0 and (data := await self._stream.receive_some()):
                    left -= len(data)
        except _STREAM_ERRORS:
            pass
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _reserve(self) -> None:
        while self._is_reserved:
            await self._turns.park()
        self._is_reserved = True

    def _release(self) -> None:
        self._is_reserved = False
        self._turns.unpark_all()


class PlainPeerStream(PeerStream):
    """Without TLS there is a fast path: bytes go to the kernel without waiting."""

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._fd = stream.socket.fileno()
        self._is_cut = False

    def try_send(self, data: bytes) -> int:
        """See ``hub.core.contracts.FastPath``."""
        if self._is_reserved:
            return 0
        if self._is_closed:
            raise trio.ClosedResourceError("this half was closed")
        try:
            taken = os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error
        if taken < len(data):
            self._is_reserved = self._is_cut = True
        return taken

    async def wait_writable(self) -> None:
        """See ``hub.core.contracts.FastPath``."""
        if self._is_cut:
            # The cut was between two messages: nothing has to be finished.
            self._is_cut = False
            self._release()
        # Reserved while waiting: two tasks must not wait for the same descriptor.
        await self._reserve()
        try:
            await trio.lowlevel.wait_writable(self.socket)
        except (trio.ClosedResourceError, OSError) as error:
            raise trio.BrokenResourceError(str(error)) from error
        finally:
            self._release()

    async def send(self, data: bytes) -> None:
        if self._is_cut:
            self._is_cut = False
            try:
                await self._stream.send_all(data)
            finally:
                self._release()
        else:
            await self.send_all(data)

    async def close_for_good(self) -> None:
        await super().close_for_good()
        self._fd = -1
