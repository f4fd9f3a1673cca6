"""A public port of our own with few things mounted, and a client made of bytes, in one Trio run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from hub.app.front.port import Port, PortSettings
from hub.core.contracts import Exchange, Request, StreamingExchange
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from tests.wire.rawpeer import Response

ALICE = Identity(user="alice", tier="mm")


@attrs.define
class Doorman:
    """Knows Alice's token, and some that are not valid. ``asked`` are the requests whose credentials it saw."""

    asked: list[Request] = attrs.field(factory=list)
    _news: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    async def wait_asked(self, count: int) -> None:
        while len(self.asked) < count:
            await self._news.park()

    async def identify(self, request: Request) -> Identity:
        self.asked.append(request)
        self._news.unpark_all()
        if (user := request.headers.get("x-user-id")) is not None:
            return Identity(user=user, tier=request.headers.get("x-user-tier", "retail"))
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        token = token or request.query.partition("token=")[2]
        return await self.verify_token(token) if token else ANONYMOUS

    async def verify_token(self, token: str) -> Identity:
        await trio.lowlevel.checkpoint()
        match token:
            case "alice":
                return ALICE
            case "old":
                raise RequestRefused(ErrorCode.TOKEN_EXPIRED, "token expired")
            case "down":
                raise RequestRefused(ErrorCode.UNAVAILABLE, "no keys")
            case "slow":
                await trio.sleep_forever()
        raise RequestRefused(ErrorCode.UNAUTHENTICATED, "not a token")


def describe(request: Request) -> dict[str, Any]:
    return {
        "user": request.identity.user,
        "tier": request.identity.tier,
        "peer": request.peer,
        "direct": request.direct_peer,
        "refusal": None if request.refusal is None else int(request.refusal.code),
        "headers": dict(request.headers),
    }


async def tell(exchange: Exchange) -> None:
    """Answers who asked."""
    await exchange.respond(200, json.dumps(describe(exchange.request)).encode())


async def echo(exchange: Exchange) -> None:
    await exchange.respond(200, await exchange.read_body(1 << 20), {"content-type": "text/plain"})


async def hold(exchange: StreamingExchange) -> None:
    """A stream that ends with its client."""
    link = await exchange.open_stream({"content-type": "text/event-stream"}, keepalive=(b"", 60.0))
    await link.send(b"5\r\n: hi\n\r\n")
    await exchange.wait_disconnected()


async def upgraded(request: Request, stream: trio.abc.Stream) -> None:
    """Switches protocols, says who asked, and then what it hears."""
    answer = json.dumps(describe(request)).encode()
    head = b"HTTP/1.1 101 Switching Protocols\r\ncontent-length: %d\r\n\r\n" % len(answer)
    await stream.send_all(head + answer)
    while data := await stream.receive_some():
        await stream.send_all(data)


def mount_all(port: Port) -> None:
    for method in ("GET", "POST"):
        port.mount_http(method, "/who", tell)
    port.mount_direct("POST", "/direct", tell)
    port.mount_http("POST", "/echo", echo)
    port.mount_http("GET", "/stream", hold, is_stream=True)
    port.mount_http("GET", "/poll", tell, is_stream=True, is_fallback=True)
    port.mount_http("GET", "/file", tell, is_open=True)
    port.mount_upgrade("/v2", upgraded)


class Client:
    """A connection; it reads exactly what came."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = b""

    async def ask(self, data: bytes) -> Response:
        await self.stream.send_all(data)
        return await self.read_response(is_head=data.startswith(b"HEAD"))

    async def read_response(self, *, is_head: bool = False) -> Response:
        """One answer. Of an endless one, or of an upgrade, what stands in its head."""
        lines = (await self.read_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in filter(None, lines[1:]):
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value.strip()
        size = 0 if is_head else int(headers.get("content-length", "0"))
        return Response(int(lines[0].split(" ")[1]), headers, await self.read(size))

    async def read(self, size: int) -> bytes:
        while len(self.buffer) < size:
            await self._receive()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    async def read_until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            await self._receive()
        data, _, self.buffer = self.buffer.partition(mark)
        return data + mark

    async def has_ended(self) -> bool:
        """Whether nothing more comes; waits for what comes."""
        try:
            return not self.buffer and not await self.stream.receive_some()
        except trio.BrokenResourceError:
            return True

    async def _receive(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise EOFError(f"ended after {self.buffer!r}")
        self.buffer += bytes(data)


@attrs.frozen
class Served:
    """A port that is served on a free port number of the loopback."""

    port: Port
    number: int

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with await trio.open_tcp_stream("127.0.0.1", self.number) as stream:
            yield Client(stream)

    async def ask(self, data: bytes) -> Response:
        """One request on a connection of its own."""
        async with self.client() as client:
            return await client.ask(data)


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Served]:
    """A port with ``mount_all``."""
    port = Port("public", PortSettings(**settings))
    mount_all(port)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0], trio.open_nursery() as nursery:
        await nursery.start(port.serve, listeners)
        yield Served(port, listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()
