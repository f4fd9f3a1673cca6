"""Compressed WebSockets, put to the kit: shared frames, and a compressor for each client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from hub.core.contracts import Link
from hub.sansio.encodings import DeflatedFrames, WebSocketFrames
from hub.sansio.options import Size
from hub.sansio.stream_v2 import StreamV2Cbor
from hub.testing import LinkCatcher, check_transport
from tests.testing.links import connect_loopback, open_port
from transports.websocket import WebSocketSettings, WebSocketTransport

#: What the kit says compresses well, so a path holds much of it; most of its messages are left as they are.
MIN_SIZE = 40_000


class InflatingFarEnd:
    """wsproto's client with its permessage-deflate."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def open(self, subprotocol: str) -> None:
        request = Request("hub.test", "/v2", subprotocols=[subprotocol], extensions=[PerMessageDeflate()])
        await self._stream.send_all(self._protocol.send(request))
        event = await self._next_event()
        assert isinstance(event, AcceptConnection)
        assert event.extensions

    async def send(self, message: str | bytes) -> None:
        event = TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)
        await self._stream.send_all(self._protocol.send(event))

    async def receive(self) -> bytes:
        parts: list[bytes] = []
        while True:
            event = await self._next_event()
            if isinstance(event, CloseConnection):
                if self._protocol.state is ConnectionState.REMOTE_CLOSING:
                    await self._stream.send_all(self._protocol.send(event.response()))
                raise trio.EndOfChannel
            if isinstance(event, Message):
                parts.append(event.data.encode() if isinstance(event.data, str) else bytes(event.data))
                if event.message_finished:
                    return b"".join(parts)

    async def aclose(self) -> None:
        if self._protocol.state is ConnectionState.OPEN:
            await self._stream.send_all(self._protocol.send(CloseConnection(code=1000)))
            while not isinstance(await self._next_event(), CloseConnection):
                pass

    async def abort(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def _next_event(self) -> Event:
        while not self._events:
            self._events += list(self._protocol.events())
            if self._events and isinstance(self._events[0], Ping):
                del self._events[0]
            if not self._events:
                self._protocol.receive_data(await self._stream.receive_some(65536) or None)
        return self._events.pop(0)


@asynccontextmanager
async def open_deflated(deflate: str, subprotocol: str) -> AsyncIterator[tuple[Link, InflatingFarEnd]]:
    catcher = LinkCatcher()
    settings = WebSocketSettings(message_size=Size(10_000), deflate=deflate, deflate_min_size=Size(MIN_SIZE))
    async with open_port() as (port, number), trio.open_nursery() as nursery:
        await nursery.start(WebSocketTransport(settings).serve, catcher, port)
        stream = await connect_loopback(number)
        try:
            far = InflatingFarEnd(stream)
            await far.open(subprotocol)
            yield await catcher.wait_link(), far
        finally:
            await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


async def test_frames_that_all_share() -> None:
    framing = DeflatedFrames(text=True, level=5, window=12, min_size=MIN_SIZE)
    await check_transport(partial(open_deflated, "shared", "hub.v2.json"), framing=framing)


async def test_a_compressor_for_each_client() -> None:
    maker = partial(open_deflated, "context", "hub.v2.json")
    await check_transport(maker, maker, framing=WebSocketFrames(text=True))


async def test_a_compressor_for_each_client_with_cbor() -> None:
    maker = partial(open_deflated, "context", "hub.v2.cbor")
    framing = WebSocketFrames(text=False)
    await check_transport(maker, maker, framing=framing, protocol=StreamV2Cbor())
