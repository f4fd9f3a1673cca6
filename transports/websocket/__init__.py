"""WebSocket: ``/v2`` (JSON or CBOR by subprotocol) and ``/live``, compressed where the client offers it."""

from __future__ import annotations

from transports.websocket.handshake import accept
from transports.websocket.link import WebSocketLink
from transports.websocket.settings import WebSocketSettings
from transports.websocket.transport import WebSocketTransport

__all__ = ["WebSocketSettings", "WebSocketTransport", "WebSocketLink", "accept"]
