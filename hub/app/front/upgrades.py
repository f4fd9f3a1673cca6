"""What a WebSocket's opening handshake must look like (RFC 6455, section 4.2.1)."""

from __future__ import annotations

import base64
import binascii

from hub.app.front.guard import Refused
from hub.core.contracts import Request
from hub.sansio.errors import ErrorCode


def is_websocket(request: Request) -> bool:
    tokens = request.headers.get("connection", "").lower().split(",")
    return request.headers.get("upgrade", "").strip().lower() == "websocket" and "upgrade" in map(
        str.strip, tokens
    )


def check_upgrade(request: Request) -> None:
    """Raises Refused unless the request is a WebSocket handshake."""
    upgrade = {"upgrade": "websocket", "connection": "upgrade, close"}
    if request.method != "GET":
        raise Refused(405, "use GET", code=ErrorCode.INVALID_METHOD, headers={"allow": "GET"})
    if not is_websocket(request) or request.http_version != "1.1":
        raise Refused(426, "this path is a WebSocket", headers=upgrade)
    if request.headers.get("sec-websocket-version") != "13":
        raise Refused(426, "only WebSocket version 13", headers={**upgrade, "sec-websocket-version": "13"})
    try:
        key = base64.b64decode(request.headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        raise Refused(400, "a WebSocket handshake has no body")
    if len(key) != 16:
        raise Refused(400, "Sec-WebSocket-Key must be 16 bytes in base64")
