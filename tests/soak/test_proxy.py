"""The bad network is bad in the ways that it should be, and in no other."""

from __future__ import annotations

import random

import trio

from tests.soak.proxy import Address, Proxy
from tests.soak.weather import CUTS, Climate, Weather

FINE = Climate(lifetime=1e9, delay=0.001, stall_chance=0.0, throttle_chance=0.0)
#: Stalls and slow phases all the time, but short ones.
ROUGH = Climate(
    lifetime=1e9, delay=0.001, stall_chance=0.5, stall=(0.0, 0.01), throttle_chance=0.5, throttle=(0.0, 0.01)
)
DATA = random.Random(1).randbytes(300_000)


async def open_echo(nursery: trio.Nursery) -> Address:
    async def echo(stream: trio.SocketStream) -> None:
        try:
            async for data in stream:
                await stream.send_all(bytes(data))
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(trio.serve_listeners, echo, listeners)
    host, port = listeners[0].socket.getsockname()[:2]
    return host, port


async def read_all(stream: trio.SocketStream) -> bytes:
    """All that comes until the end, or until it is torn off."""
    received = b""
    try:
        async for data in stream:
            received += bytes(data)
    except trio.BrokenResourceError:
        pass
    return received


async def send(stream: trio.SocketStream, data: bytes) -> None:
    try:
        await stream.send_all(data)
        await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def through(proxy: Proxy, nursery: trio.Nursery, data: bytes) -> bytes:
    """What an echo sends back through the proxy."""
    async with await trio.open_tcp_stream(*await nursery.start(proxy.serve)) as stream:
        nursery.start_soon(send, stream, data)
        return await read_all(stream)


async def test_bytes_come_whole_and_in_order(nursery: trio.Nursery) -> None:
    for climate in (FINE, ROUGH):
        proxy = Proxy(await open_echo(nursery), 1, climate)
        assert await through(proxy, nursery, DATA) == DATA
        assert proxy.counts["bytes"] == 2 * len(DATA)


async def test_a_cut_leaves_a_beginning(nursery: trio.Nursery) -> None:
    for seed in range(8):
        proxy = Proxy(await open_echo(nursery), seed, Climate(lifetime=0.02, stall_chance=0.0))
        received = await through(proxy, nursery, DATA)
        assert len(received) < len(DATA) and DATA.startswith(received)
        assert [what for what in proxy.counts if what.startswith("cut")] == [
            f"cut: {Weather(FINE, f'{seed}:1').cut}"
        ]


async def test_nobody_there(nursery: trio.Nursery) -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        host, port = unused.getsockname()
    proxy = Proxy((host, port), 1, FINE)
    assert await through(proxy, nursery, b"hello") == b""
    assert proxy.counts == {"connections": 1, "refused": 1}


def test_the_same_seed_is_the_same_luck() -> None:
    def luck(seed: str) -> list[object]:
        weather = Weather(ROUGH, seed)
        return [weather.cut, weather.lifetime] + [
            (weather.delay(), weather.stall(), weather.throttle(), weather.split(1000)) for _ in range(50)
        ]

    assert luck("1:1") == luck("1:1") != luck("1:2")
    assert {Weather(FINE, str(seed)).cut for seed in range(100)} == set(CUTS)
