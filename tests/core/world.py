"""Many slow, lagging, leaving and returning clients over all encodings, driven by a script that Hypothesis writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import cbor2
import pytest
import trio
import trio.testing
from hypothesis import strategies as st

from hub.core import channel as channel_module
from hub.core import pieces as pieces_module
from hub.core import relations as relations_module
from hub.core import scheduler as scheduler_module
from hub.core.broker import Broker
from hub.core.channel import Channel
from hub.core.reading import read_channels
from hub.sansio.commands import SeenPosition, seen_from_cursor
from hub.sansio.cursor import decode_cursor
from hub.sansio.encodings import Bare, Encoding, ServerSentEvents, WebSocketFrames
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.live import LiveEnvelope
from hub.sansio.publication import Position
from hub.sansio.stream_v2 import StreamV2Cbor, StreamV2Json
from tests.core.checker import Asked, Checker, Truth, View, cursor_of
from tests.core.links import FastLink, PumpLink
from tests.core.wire import understand

_V2, _LIVE = Encoding(StreamV2Json(), Bare()), Encoding(LiveEnvelope(), Bare())
_SSE = ServerSentEvents(chunked=True, retry_ms=2000)
ENCODINGS: Mapping[tuple[str, bool], Encoding] = {
    ("v2", False): Encoding(StreamV2Json(), WebSocketFrames(text=True)),
    ("v2.cbor", False): Encoding(StreamV2Cbor(), WebSocketFrames(text=False)),
    ("live", False): Encoding(LiveEnvelope(), WebSocketFrames(text=True)),
    ("v2", True): Encoding(StreamV2Json(), _SSE, bare=_V2),
    ("live", True): Encoding(LiveEnvelope(), _SSE, bare=_LIVE),
}
KINDS = tuple(ENCODINGS)


@attrs.define
class Client:
    link: PumpLink
    checker: Checker
    is_over: bool = False

    def read(self, count: int) -> None:
        self.checker.feed(self.link.take(count))


@attrs.frozen
class Setup:
    """How small everything is, so that borders are crossed often."""

    slice_count: int
    slice_bytes: int
    round_bytes: int
    turn: float
    buffered_bytes: int
    idle: float


Seen = Mapping[str, Position | int]


class World:
    """A broker and its clients, all of one user; each method is one step of a script."""

    def __init__(
        self,
        nursery: trio.Nursery,
        broker: Broker,
        truth: Truth,
        pool: tuple[str, ...],
        identity: Identity = ANONYMOUS,
    ) -> None:
        self.nursery = nursery
        self.broker = broker
        self.truth = truth
        self.identity = identity
        self.clients: list[Client] = []
        #: The channels that this script is about: few, so that much happens on each.
        self.pool = pool
        self.polled: dict[tuple[str, ...], dict[str, Position]] = {}
        self._ids = 0

    # --- connections --------------------------------------------------------------------------------------

    def connect(
        self, kind: tuple[str, bool], *, is_fast: bool, capacity: int, bite: int, views: Mapping[str, View],
        channels: tuple[str, ...] = (), seen: Seen | None = None,
    ) -> Client:  # fmt: skip
        link = FastLink(capacity=capacity) if is_fast else PumpLink(capacity=capacity)
        if isinstance(link, FastLink):
            link.bite = lambda size: size * bite // 8
        checker = Checker(self.truth, kind[0], is_sse=kind[1], views=views)
        client = Client(link, checker)
        if kind[1]:
            checker.expect_stream(channels, seen or {})
        self.nursery.start_soon(self._serve, client, ENCODINGS[kind], channels, seen or {})
        return client

    async def _serve(self, client: Client, encoding: Encoding, channels: tuple[str, ...], seen: Seen) -> None:
        positions = {name: _seen(position) for name, position in seen.items()}
        await self.broker.serve_session(
            client.link,
            encoding,
            transport="test",
            identity=self.identity,
            channels=channels,
            seen=positions,
        )
        client.is_over = True

    def begin(self, kind: tuple[str, bool], places: tuple[int, ...], capacity: int, bite: int) -> None:
        channels = self.channels(places)
        client = self.connect(
            kind, is_fast=bite > 0, capacity=capacity, bite=bite, views={},
            channels=channels if kind[1] else (),
        )  # fmt: skip
        self.clients.append(client)
        if not kind[1]:
            self.ask(client, "subscribe", channels)

    def channels(self, places: tuple[int, ...]) -> tuple[str, ...]:
        """Channels by their places in the pool, each once."""
        return tuple(dict.fromkeys(self.pool[place % len(self.pool)] for place in places))

    def client(self, index: int) -> Client:
        return self.clients[index % len(self.clients)]

    # --- steps --------------------------------------------------------------------------------------------

    def ask(
        self, client: Client, kind: str, channels: tuple[str, ...] = (), seen: Seen | None = None
    ) -> None:
        if client.checker.is_sse or client.is_over:
            return
        self._ids += 1
        asked = Asked(kind, self._ids, channels, seen or {})  # type: ignore[arg-type]
        client.checker.asked.append(asked)
        client.link.give(_request(client.checker.protocol, asked))

    def subscribe(self, client: Client, channels: tuple[str, ...], how: int) -> None:
        memory = client.checker.memory
        seen: dict[str, Position | int] = {}
        for name in channels:
            if how == 1 and name in memory and (position := memory[name].position):
                seen[name] = position
            elif how == 2 and name in memory and (position := memory[name].position):
                seen[name] = position.seq
            elif how == 3:
                seen[name] = Position("another", 3)
            elif how >= 4:
                seen[name] = how - 4
        self.ask(client, "subscribe", channels, seen)

    def return_(self, index: int, kind: tuple[str, bool], capacity: int, bite: int, moment: int) -> None:
        """The client's connection is lost; it comes back, from any moment if its last stream had ids."""
        index %= len(self.clients)
        client = self.clients[index]
        client.read(1 << 30)
        client.link.break_()
        views = client.checker.knowledge() if not client.checker.is_sse else dict(client.checker.views)
        cursor = cursor_of(views)
        if client.checker.moments:
            cursor, views = client.checker.moments[-1 - moment % len(client.checker.moments)]
        seen = decode_cursor(cursor, max_size=2048)
        channels = tuple(views) or self.pool[:2]
        new = self.clients[index] = self.connect(
            kind, is_fast=bite > 0, capacity=capacity, bite=bite, views=views,
            channels=channels if kind[1] else (), seen=seen if kind[1] else None,
        )  # fmt: skip
        if not kind[1]:
            self.ask(new, "subscribe", channels, seen)

    def poll(self, channels: tuple[str, ...], encoding: Encoding) -> None:
        """One poll, checked by itself; the answer's positions are where the next one begins."""
        seen = self.polled.get(channels, {})
        reading = read_channels(
            self.broker,
            self.identity,
            channels,
            seen_from_cursor(seen),
            encoding,
            max_events=len(channels) * 3,
            max_bytes=400,
        )
        protocol = encoding.protocol.name
        checker = Checker(self.truth, protocol)
        for name in channels:
            channel = self.find(name)
            if channel is not None:
                head, first, epoch = channel.log.head_seq, channel.log.first_seq, channel.log.epoch
            else:
                head, first, epoch = 0, 1, reading.positions[name].epoch
            state = {"seq": head, "firstSeq": first, "epoch": epoch}
            position = seen.get(name)
            if position and not (position.epoch == epoch and first - 1 <= position.seq <= head):
                state["recovered"] = False
            checker.views[name] = checker._begin(name, position, state)
        for message in reading.messages:
            checker.is_welcome = True
            checker._take(understand(json.loads(message), None))
        for name, view in checker.views.items():
            assert view.position == reading.positions[name], name
        self.polled[channels] = reading.positions

    def find(self, name: str) -> Channel | None:
        registry = self.broker.registry
        return registry.find(name, None) or registry.find(name, self.identity.user)

    async def settle(self) -> None:
        """All clients read all there is."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            waiting = [client for client in self.clients if client.link.waiting]
            if not waiting:
                return
            for client in waiting:
                client.read(1 << 30)

    def check_complete(self) -> None:
        for client in self.clients:
            if not client.is_over:
                client.checker.check_complete()


def _seen(position: Position | int) -> SeenPosition:
    if isinstance(position, int):
        return SeenPosition(position)
    return SeenPosition(position.seq, position.epoch)


def _last_seq(seen: Seen) -> dict[str, object]:
    return {
        name: position if isinstance(position, int) else {"seq": position.seq, "epoch": position.epoch}
        for name, position in seen.items()
    }


def _request(protocol: str, asked: Asked) -> str | bytes:
    body: dict[str, object]
    if protocol == "live":
        body = {"type": asked.kind, "channels": asked.channels, "lastSeq": _last_seq(asked.seen)}
    else:
        body = {
            "method": asked.kind,
            "id": asked.id,
            "params": asked.channels,
            "lastSeq": _last_seq(asked.seen),
        }
    return cbor2.dumps(body) if protocol == "v2.cbor" else json.dumps(body)


# --- scripts ----------------------------------------------------------------------------------------------

kinds = st.sampled_from(KINDS)
capacities = st.sampled_from((1, 7, 60, 250, 1000, 1 << 20))
bites = st.integers(0, 8)
clients = st.integers(0, 5)
places = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)

SETUPS = st.builds(
    Setup,
    slice_count=st.sampled_from((1, 2, 5, 512)),
    slice_bytes=st.sampled_from((10, 300, 65536)),
    round_bytes=st.sampled_from((50, 500, 131072)),
    turn=st.sampled_from((-1.0, 1000.0)),
    buffered_bytes=st.sampled_from((1 << 30, 20_000)),
    idle=st.sampled_from((600.0, 5.0)),
)


def step(name: str, *strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *strategies)


def steps(sleeps: tuple[float, ...], publish: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """All that can happen; ``publish`` is the caller's own. A script names channels by their places in the pool."""
    return st.one_of(
        step("nothing"),  # what a script shrinks to
        publish,
        publish,
        publish,
        publish,
        step("read", clients, st.sampled_from((1, 5, 50, 400, 5000))),
        step("read", clients, st.sampled_from((1, 5, 50, 400, 5000))),
        step("subscribe", clients, places, st.integers(0, 9)),
        step("unsubscribe", clients, places),
        step("ping", clients),
        step("nonsense", clients),
        step("return", clients, kinds, capacities, bites, st.integers(0, 20)),
        step("poll", places, st.booleans()),
        step("leave", st.integers(0, 40)),  # seldom, or in the end nobody is there
        step("sleep", st.sampled_from(sleeps)),
        step("turn"),
        step("turn"),
        step("block"),
    )


BEGINNINGS = st.lists(st.tuples(kinds, places, capacities, bites), min_size=1, max_size=5)


def shrink_everything(patch: pytest.MonkeyPatch, setup: Setup) -> None:
    """Makes slices, rounds and turns as small as ``setup`` says."""
    patch.setattr(channel_module, "SLICE_COUNT", setup.slice_count)
    patch.setattr(channel_module, "SLICE_BYTES", setup.slice_bytes)
    patch.setattr(relations_module, "SLICE_COUNT", setup.slice_count)
    patch.setattr(pieces_module, "SLICE_COUNT", setup.slice_count)
    patch.setattr(pieces_module, "ROUND_BYTES", setup.round_bytes)
    patch.setattr(scheduler_module, "TURN", setup.turn)
    patch.setattr(scheduler_module, "STRIDE", 1)


async def take_step(world: World, step: tuple[Any, ...]) -> None:
    match step:
        case ("read", index, count):
            world.client(index).read(count)
        case ("subscribe", index, places, how):
            world.subscribe(world.client(index), world.channels(places), how)
        case ("unsubscribe", index, places):
            world.ask(world.client(index), "unsubscribe", world.channels(places))
        case ("ping" | "nonsense" as kind, index):
            world.ask(world.client(index), kind)
        case ("return", index, kind, capacity, bite, moment):
            world.return_(index, kind, capacity, bite, moment)
        case ("poll", places, is_live):
            world.poll(world.channels(places), _LIVE if is_live else _V2)
        case ("leave", index):
            if index < len(world.clients):
                world.client(index).link.leave()
        case ("sleep", seconds):
            await trio.sleep(seconds)
        case ("nothing",):
            pass
        case ("turn",):
            await trio.lowlevel.checkpoint()
        case ("block",):
            await trio.testing.wait_all_tasks_blocked()
        case _:
            raise AssertionError(step)
