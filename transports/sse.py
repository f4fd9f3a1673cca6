"""Server-Sent Events: ``GET /sse?channels=a,b``, resumed by the browser itself (live-envelope.md, "HTTP")."""

from __future__ import annotations

from typing import ClassVar

import attrs
import trio

from hub.core.broker import Broker
from hub.core.contracts import Mounts, StreamingExchange
from hub.core.http_query import parse_channel_query
from hub.sansio.encodings import Bare, Encoding, ServerSentEvents
from hub.sansio.live import LiveEnvelope
from hub.sansio.options import Seconds, option
from hub.sansio.stream_v2 import StreamV2Json

_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no"}


@attrs.frozen(kw_only=True)
class SseSettings:
    retry: Seconds = option(Seconds(2.0), doc="how long a browser waits before it reconnects", at_least=0.0)
    comment_interval: Seconds = option(
        Seconds(10.0),
        doc="how often a comment keeps proxies awake (they are promised one every 15 s)",
        at_least=1.0,
    )


class SseTransport:
    """Mounts ``/sse`` on the public port."""

    name: ClassVar[str] = "sse"
    Settings: ClassVar[type] = SseSettings

    def __init__(self, settings: SseSettings) -> None:
        self._settings = settings
        retry_ms = int(settings.retry * 1000)
        self._encodings: dict[tuple[str, bool], Encoding] = {}
        for protocol in (LiveEnvelope(), StreamV2Json()):
            bare = Encoding(protocol, Bare())
            for is_chunked in (True, False):
                framing = ServerSentEvents(chunked=is_chunked, retry_ms=retry_ms)
                self._encodings[protocol.name, is_chunked] = Encoding(protocol, framing, bare=bare)

    async def serve(
        self, broker: Broker, mounts: Mounts, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async def handle(exchange: StreamingExchange) -> None:
            await self._serve_peer(broker, exchange)

        mounts.mount_http("GET", "/sse", handle, is_stream=True)
        task_status.started()
        await trio.sleep_forever()

    async def _serve_peer(self, broker: Broker, exchange: StreamingExchange) -> None:
        # The header wins: the browser repeats the URL, and with it the cursor it began with.
        query = parse_channel_query(exchange.request, broker, last_event_id=True)
        identity = exchange.request.identity
        broker.check_user_connections(identity)
        await broker.prepare(query.channels, identity)
        encoding = self._encodings[query.format, exchange.is_chunked]
        assert isinstance(encoding.framing, ServerSentEvents)
        keepalive = (encoding.framing.comment(), float(self._settings.comment_interval))
        link = await exchange.open_stream(_HEADERS, keepalive=keepalive)
        await broker.serve_session(
            link, encoding, transport="sse", identity=identity, channels=query.channels, seen=query.seen
        )
