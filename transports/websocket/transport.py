"""The transport: which path and subprotocol speak which protocol, compressed how."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import attrs
import trio
import trio.abc

from hub.core.broker import Broker
from hub.core.contracts import Mounts, Request
from hub.sansio.encodings import DeflatedFrames, Encoding, WebSocketFrames
from hub.sansio.live import LiveEnvelope
from hub.sansio.permessage_deflate import Agreement, agree
from hub.sansio.protocol import Protocol
from hub.sansio.stream_v2 import StreamV2Cbor, StreamV2Json
from transports.websocket.handshake import accept, refuse
from transports.websocket.settings import WebSocketSettings


class Dialect:
    """A protocol on WebSockets, with its encodings: one plain, and one for each size of window that clients
    asked for (nearly all leave it to us). Each is shared by all who use it."""

    def __init__(self, protocol: Protocol, *, text: bool, settings: WebSocketSettings) -> None:
        self._protocol = protocol
        self._text = text
        self._settings = settings
        self._plain = Encoding(protocol, WebSocketFrames(text=text))
        self._deflated: dict[int, Encoding] = {}

    def encoding(self, agreement: Agreement | None) -> Encoding:
        if agreement is None or agreement.keeps_context:  # then the link compresses
            return self._plain
        encoding = self._deflated.get(agreement.window)
        if encoding is None:
            framing = DeflatedFrames(
                text=self._text,
                level=self._settings.deflate_level,
                window=agreement.window,
                min_size=self._settings.deflate_min_size,
            )
            encoding = self._deflated[agreement.window] = Encoding(self._protocol, framing)
        return encoding


@attrs.frozen
class Path:
    """What is spoken where the client names no subprotocol that we know, and what by which subprotocol."""

    default: Dialect
    subprotocols: dict[str, Dialect]

    def choose(self, request: Request) -> tuple[Dialect, str | None]:
        """The dialect that the client likes best, and the subprotocol that it named for it."""
        for proposed in request.headers.get("sec-websocket-protocol", "").split(","):
            if dialect := self.subprotocols.get(name := proposed.strip()):
                return dialect, name
        return self.default, None


class WebSocketTransport:
    """Mounts the two paths on the public port."""

    name: ClassVar[str] = "websocket"
    Settings: ClassVar[type] = WebSocketSettings

    def __init__(self, settings: WebSocketSettings) -> None:
        self._settings = settings
        v2 = Dialect(StreamV2Json(), text=True, settings=settings)
        cbor = Dialect(StreamV2Cbor(), text=False, settings=settings)
        live = Dialect(LiveEnvelope(), text=True, settings=settings)
        self._paths = {
            "/v2": Path(v2, {"hub.v2.json": v2, "hub.v2.cbor": cbor}),
            "/live": Path(live, {}),
        }

    async def serve(
        self, broker: Broker, mounts: Mounts, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with trio.open_nursery() as nursery:
            for path in self._paths:
                mounts.mount_upgrade(path, partial(self._serve_peer, broker, nursery))
            task_status.started()
            await trio.sleep_forever()

    async def _serve_peer(
        self, broker: Broker, nursery: trio.Nursery, request: Request, stream: trio.abc.Stream
    ) -> None:
        dialect, subprotocol = self._paths[request.path].choose(request)
        try:
            agreement = self._agree(request)
        except ValueError as error:
            await refuse(stream, str(error))
            return
        link = await accept(
            nursery, stream, request, self._settings, subprotocol=subprotocol, agreement=agreement
        )
        if link is not None:
            await broker.serve_session(
                link,
                dialect.encoding(agreement),
                transport=self.name,
                identity=request.identity,
                refusal=request.refusal,
            )

    def _agree(self, request: Request) -> Agreement | None:
        """Raises ValueError where the header is malformed."""
        settings = self._settings
        agreement = agree(
            request.headers.get("sec-websocket-extensions", ""),
            window=settings.deflate_window,
            keeps_context=settings.deflate == "context",
        )
        return None if settings.deflate == "off" else agreement
