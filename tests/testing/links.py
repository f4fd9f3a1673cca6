"""Pairs of a link and its far end, over memory streams and over the loopback, for the hub's own transports and
for the example in the documentation."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h11
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from hub.app.front.port import Port, PortSettings
from hub.core.contracts import Link, Request, UpgradeHandler
from hub.sansio.options import Size
from hub.sansio.sse_parser import SseParser
from hub.testing import FarEnd, LinkCatcher
from tests.hub_process import ROOT
from transports.sse import SseSettings, SseTransport
from transports.websocket import WebSocketSettings, WebSocketTransport

EXAMPLES = ROOT / "docs" / "examples"
#: What the kernel keeps for a client that does not read. Less, and TCP would wait for its timers.
SMALL_BUFFER = 128 * 1024


def load_example(name: str) -> Any:
    """A module of ``docs/examples``, which import each other as if they were installed."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    return importlib.import_module(name)


lines = load_example("line_transport")


# --- ways between two ends ----------------------------------------------------------------------------------


async def connect_loopback(port: int) -> trio.SocketStream:
    """A client whose kernel keeps little for it."""
    sock = trio.socket.socket()
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, SMALL_BUFFER)
    await sock.connect(("127.0.0.1", port))
    return trio.SocketStream(sock)


@asynccontextmanager
async def loopback_pair() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """The hub's stream and the client's."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near, far = None, await connect_loopback(listener.socket.getsockname()[1])
        near = await listener.accept()
    near.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, SMALL_BUFFER)
    try:
        yield near, far
    finally:
        await trio.aclose_forcefully(near)
        await trio.aclose_forcefully(far)


@asynccontextmanager
async def open_port(settings: PortSettings | None = None) -> AsyncIterator[tuple[Port, int]]:
    """A public port and its number."""
    port = Port("kit", settings or PortSettings(send_buffer=SMALL_BUFFER))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0], trio.open_nursery() as nursery:
        await nursery.start(port.serve, listeners)
        yield port, listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


# --- lines ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_lines(make_link: Callable[[Any, int], Link]) -> AsyncIterator[tuple[Link, FarEnd]]:
    async with loopback_pair() as (near, far):
        yield make_link(near, 10_000), load_example("test_line_transport").LineClient(far)


# --- WebSocket -----------------------------------------------------------------------------------------------


@attrs.define
class WebSocketFarEnd:
    connection: WebSocketConnection
    stream: trio.abc.Stream

    async def send(self, message: str | bytes) -> None:
        await self.connection.send_message(message)

    async def receive(self) -> bytes:
        try:
            message = await self.connection.get_message()
        except ConnectionClosed:
            raise trio.EndOfChannel from None
        return message.encode() if isinstance(message, str) else message

    async def aclose(self) -> None:
        await self.connection.aclose()

    async def abort(self) -> None:
        await trio.aclose_forcefully(self.stream)


@asynccontextmanager
async def open_websocket(stream: Any, subprotocol: str) -> AsyncIterator[WebSocketFarEnd]:
    async with trio.open_nursery() as nursery:
        connection = await wrap_client_stream(
            nursery, stream, "hub.test", "/v2", subprotocols=[subprotocol], max_message_size=1 << 26
        )
        yield WebSocketFarEnd(connection, stream)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_websocket_over_loopback(
    subprotocol: str = "hub.v2.json",
) -> AsyncIterator[tuple[Link, WebSocketFarEnd]]:
    """With a fast path: as the hub serves it."""
    catcher = LinkCatcher()
    async with open_port() as (port, number), trio.open_nursery() as nursery:
        await nursery.start(
            WebSocketTransport(WebSocketSettings(message_size=Size(10_000))).serve, catcher, port
        )
        stream = await connect_loopback(number)
        try:
            async with open_websocket(stream, subprotocol) as far:
                yield await catcher.wait_link(), far
        finally:
            await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


class Upgrades:
    """Takes the place of the public port: keeps what is mounted."""

    def __init__(self) -> None:
        self.handlers: dict[str, UpgradeHandler] = {}

    def mount_upgrade(self, path: str, handler: UpgradeHandler) -> None:
        self.handlers[path] = handler


@asynccontextmanager
async def open_websocket_over_memory(*, is_clogged: bool) -> AsyncIterator[tuple[Link, WebSocketFarEnd]]:
    """Without a fast path."""
    catcher, mounts = LinkCatcher(), Upgrades()
    make_pair = trio.testing.lockstep_stream_pair if is_clogged else trio.testing.memory_stream_pair
    near, far_stream = make_pair()
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            await mounts.handlers["/v2"](await _read_request(near), near)

        transport: Any = WebSocketTransport(WebSocketSettings(message_size=Size(10_000)))
        await nursery.start(transport.serve, catcher, mounts)
        await nursery.start(serve)
        async with open_websocket(far_stream, "hub.v2.json") as far:
            yield await catcher.wait_link(), far
            nursery.cancel_scope.cancel()


async def _read_request(stream: trio.abc.Stream) -> Request:
    """As the port does: the stream goes on after the head."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await stream.receive_some(1)
    lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:-2]]
    headers = {name.lower(): value for name, _, value in lines}
    return Request(method="GET", path="/v2", query="", headers=headers, peer="kit")


# --- Server-Sent Events --------------------------------------------------------------------------------------


class EventFarEnd:
    """Reads a stream of events from a chunked HTTP answer."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._parser = SseParser()
        self._messages: list[bytes] = []

    async def open(self) -> None:
        request = h11.Request(
            method="GET", target="/sse?channels=kit:1&format=v2", headers=[("host", "hub.test")]
        )
        await self._stream.send_all(
            (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        )
        response = await self._next_event()
        assert isinstance(response, h11.Response)
        assert response.status_code == 200

    async def receive(self) -> bytes:
        while not self._messages:
            event = await self._next_event()
            if not isinstance(event, h11.Data):
                raise trio.EndOfChannel
            self._messages += [event.data.encode() for event in self._parser.feed(bytes(event.data))]
        return self._messages.pop(0)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def abort(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def _next_event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                self._http.receive_data(await self._stream.receive_some(65536))
            except trio.BrokenResourceError:
                raise trio.EndOfChannel from None
        return event


@asynccontextmanager
async def open_sse_over_loopback() -> AsyncIterator[tuple[Link, EventFarEnd]]:
    catcher = LinkCatcher()
    async with open_port() as (port, number), trio.open_nursery() as nursery:
        await nursery.start(SseTransport(SseSettings()).serve, catcher, port)
        stream = await connect_loopback(number)
        far = EventFarEnd(stream)
        try:
            await far.open()
            yield await catcher.wait_link(), far
        finally:
            await trio.aclose_forcefully(stream)
            catcher.release()
            nursery.cancel_scope.cancel()
