"""A client played by the test: one session, what it asks, and what it was told."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import trio
import trio.testing

from hub.core.broker import Broker
from hub.sansio.commands import SeenPosition
from hub.sansio.encodings import Bare, Encoding, ServerSentEvents, WebSocketFrames
from hub.sansio.errors import RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.live import LiveEnvelope
from hub.sansio.stream_v2 import StreamV2Json
from tests.core.links import FastLink, PumpLink
from tests.core.wire import EventReader, Told, WebSocketReader, understand

V2 = Encoding(StreamV2Json(), WebSocketFrames(text=True))
LIVE = Encoding(LiveEnvelope(), WebSocketFrames(text=True))
BARE = Encoding(LiveEnvelope(), Bare())
BARE_V2 = Encoding(StreamV2Json(), Bare())
SSE = Encoding(LiveEnvelope(), ServerSentEvents(chunked=True, retry_ms=2000), bare=BARE)
SSE_V2 = Encoding(StreamV2Json(), ServerSentEvents(chunked=True, retry_ms=2000), bare=BARE_V2)

Seen = Mapping[str, SeenPosition]


@attrs.define
class Peer:
    """A client on ``link``. ``told`` is what it has read so far."""

    nursery: trio.Nursery
    broker: Broker
    link: PumpLink = attrs.field(factory=FastLink)
    encoding: Encoding = V2
    identity: Identity = ANONYMOUS
    is_over: bool = False
    told: list[Told] = attrs.field(factory=list)
    _asked: int = 0
    _reader: Any = None

    def __attrs_post_init__(self) -> None:
        self._reader = EventReader() if self.encoding.carries_cursor else WebSocketReader()

    def start(
        self,
        channels: Iterable[str] = (),
        seen: Seen | None = None,
        refusal: RequestRefused | None = None,
    ) -> None:
        """Connects, with its first channels where it is an HTTP client."""
        serve = functools.partial(
            self.broker.serve_session,
            self.link,
            self.encoding,
            transport="test",
            identity=self.identity,
            refusal=refusal,
            channels=tuple(channels),
            seen=seen,
        )

        async def run() -> None:
            await serve()
            self.is_over = True

        self.nursery.start_soon(run)

    def ask(self, method: str, *params: str, last_seq: Mapping[str, Any] | None = None) -> int:
        """Sends a request, without waiting for anything."""
        self._asked += 1
        if self.encoding.protocol.name == "live":
            body: dict[str, Any] = {"type": method}
            body |= {"token": params[0]} if method == "auth" else {"channels": params}
        else:
            body = {"method": method, "id": self._asked, "params": params}
        if last_seq is not None:
            body["lastSeq"] = last_seq
        self.link.give(json.dumps(body))
        return self._asked

    def read(self, count: int = 1 << 30) -> list[Told]:
        """What comes with the next ``count`` bytes."""
        new = [understand(body, cursor) for body, cursor in self._reader.feed(self.link.take(count))]
        self.told += new
        return new

    async def settle(self) -> list[Told]:
        """What comes until nothing more does."""
        begin = len(self.told)
        while True:
            await trio.testing.wait_all_tasks_blocked()
            if not self.link.waiting:
                return self.told[begin:]
            self.read()

    async def request(self, method: str, *params: str, **more: Any) -> list[Told]:
        """Asks, and gives all that comes then."""
        self.ask(method, *params, **more)
        return await self.settle()

    def events(self, channel: str) -> list[tuple[int, Any]]:
        """Publications of a channel, and states: seq and data, in the order in which they came."""
        return [
            (told.seq, told.data)
            for told in self.told
            if told.kind in ("data", "snapshot") and told.channel == channel
        ]


async def connect(
    nursery: trio.Nursery,
    broker: Broker,
    *channels: str,
    identity: Identity = ANONYMOUS,
    encoding: Encoding = V2,
    link: PumpLink | None = None,
    seen: Seen | None = None,
) -> Peer:
    """A client that is connected and has read what there was."""
    peer = Peer(nursery, broker, FastLink() if link is None else link, encoding, identity)
    peer.start(channels, seen)
    await peer.settle()
    return peer
