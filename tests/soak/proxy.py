"""A bad network between clients and hub: delays, throttles, stalls and cuts each connection by a seed.

    python -m tests.soak.proxy HOST:PORT --seed 1 [--lifetime 6]

Listens on a free port of the loopback, says which in one JSON line, and ends when its input does, with a JSON
line of what it has done. Bytes come through whole and in order, up to the moment of a cut.
"""

from __future__ import annotations

import argparse
import itertools
import json
import socket
import struct
import sys
from collections import Counter

import attrs
import trio

from tests.soak.weather import Climate, Weather

#: What the proxy takes ahead of a slow client: little, so that the hub feels that client's slowness.
RECEIVE_BUFFER = 64 * 1024
PIECE = 64 * 1024
#: How long a doomed connection may wait for a piece to be torn in, in seconds.
LAST_PIECE = 1.0

Address = tuple[str, int]


class Proxy:
    """Forwards connections to ``target``. ``counts`` says what it did to them."""

    def __init__(self, target: Address, seed: int, climate: Climate) -> None:
        self.counts: Counter[str] = Counter()
        self._target = target
        self._seed = seed
        self._climate = climate
        self._numbers = itertools.count(1)

    async def serve(self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled; reports the address."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        host, port = listeners[0].socket.getsockname()[:2]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._forward, listeners)
            task_status.started((host, port))

    async def _forward(self, client: trio.SocketStream) -> None:
        number = next(self._numbers)
        self.counts["connections"] += 1
        try:
            upstream = await self._connect()
        except OSError:
            self.counts["refused"] += 1
            _reset(client)
            return
        await _Wire(client, upstream, Weather(self._climate, f"{self._seed}:{number}"), self.counts).run()

    async def _connect(self) -> trio.SocketStream:
        raw = trio.socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)  # before the window is told
        try:
            await raw.connect(self._target)
        except BaseException:
            raw.close()
            raise
        return trio.SocketStream(raw)


@attrs.define(eq=False)
class _Wire:
    """One connection through the proxy."""

    client: trio.SocketStream
    upstream: trio.SocketStream
    weather: Weather
    counts: Counter[str]
    is_doomed: bool = False
    slow_until: float = 0.0
    rate: float = 0.0
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._bring_doom)
                    nursery.start_soon(self._pass_on, self.client, self.upstream)
                    await self._pass_on(self.upstream, self.client)
                    # The hub has closed: what the client still says reaches nobody.
                    nursery.cancel_scope.cancel()
        finally:
            if self.is_doomed:
                self._cut()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await self.client.aclose()
                await self.upstream.aclose()

    async def _pass_on(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            while data := await source.receive_some(PIECE):
                await self._send(sink, bytes(data))
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._scope.cancel()

    async def _send(self, sink: trio.SocketStream, data: bytes) -> None:
        weather = self.weather
        await trio.sleep(weather.delay())
        if stall := weather.stall():
            self.counts["stalls"] += 1
            await trio.sleep(stall)
        at = weather.split(len(data))
        await sink.send_all(data[:at])
        if self.is_doomed:  # in the middle of a frame, mostly
            self._scope.cancel()
            return
        now = trio.current_time()
        seconds, rate = weather.throttle()
        if seconds:
            self.counts["throttles"] += 1
            self.slow_until, self.rate = now + seconds, rate
        if at < len(data):
            await trio.sleep(weather.delay() / 10)
        await self._trickle(sink, data[at:])
        self.counts["bytes"] += len(data)

    async def _trickle(self, sink: trio.SocketStream, data: bytes) -> None:
        """Sends at the rate of a slow phase for as long as that lasts, then the rest at once."""
        step = max(1, int(self.rate / 20))
        while data and trio.current_time() < self.slow_until:
            await sink.send_all(data[:step])
            await trio.sleep(len(data[:step]) / self.rate)
            data = data[step:]
        if data:
            await sink.send_all(data)

    async def _bring_doom(self) -> None:
        await trio.sleep(self.weather.lifetime)
        self.is_doomed = True
        await trio.sleep(LAST_PIECE)
        self._scope.cancel()

    def _cut(self) -> None:
        cut = self.weather.cut
        self.counts[f"cut: {cut}"] += 1
        if cut in ("reset", "reset client, finish hub"):
            _reset(self.client)
        if cut in ("reset", "finish client, reset hub"):
            _reset(self.upstream)


def _reset(stream: trio.SocketStream) -> None:
    """Closes with RST, as a crash or a NAT that forgot does."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def _serve_until_input_ends(proxy: Proxy) -> None:
    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(proxy.serve)
        print(json.dumps({"host": host, "port": port}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lifetime", type=float, default=Climate().lifetime)
    options = parser.parse_args()
    host, _, port = options.target.rpartition(":")
    proxy = Proxy((host, int(port)), options.seed, Climate(lifetime=options.lifetime))
    trio.run(_serve_until_input_ends, proxy)
    print(json.dumps(proxy.counts), flush=True)


if __name__ == "__main__":
    main()
