"""The hub's own transports, put to the kit."""

from __future__ import annotations

from functools import partial

from hub.sansio.encodings import ServerSentEvents, WebSocketFrames
from hub.sansio.stream_v2 import StreamV2Cbor
from hub.testing import check_transport
from tests.testing import links


async def test_websocket_over_loopback() -> None:
    await check_transport(links.open_websocket_over_loopback, framing=WebSocketFrames(text=True))


async def test_websocket_with_cbor() -> None:
    maker = partial(links.open_websocket_over_loopback, "hub.v2.cbor")
    await check_transport(maker, framing=WebSocketFrames(text=False), protocol=StreamV2Cbor())


async def test_websocket_without_a_fast_path() -> None:
    await check_transport(
        partial(links.open_websocket_over_memory, is_clogged=False),
        partial(links.open_websocket_over_memory, is_clogged=True),
        framing=WebSocketFrames(text=True),
    )


async def test_server_sent_events() -> None:
    framing = ServerSentEvents(chunked=True, retry_ms=2000)
    await check_transport(links.open_sse_over_loopback, framing=framing)
