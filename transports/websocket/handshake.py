"""The opening handshake. The port has checked the request (RFC 6455, section 4.2.1), so what is left is the answer."""

from __future__ import annotations

import base64
import hashlib

import trio
import trio.abc

from hub.core.contracts import Request
from hub.sansio.permessage_deflate import Agreement
from transports.websocket.link import DeflatingLink, FastLink, WebSocketLink
from transports.websocket.settings import WebSocketSettings

#: RFC 6455, section 1.3.
_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Seconds. The answer is a few hundred bytes on a new connection.
_PATIENCE = 5.0


async def accept(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    request: Request,
    settings: WebSocketSettings,
    *,
    subprotocol: str | None = None,
    agreement: Agreement | None = None,
) -> WebSocketLink | None:
    """Answers the handshake ``request``; None where the peer leaves before that. ``stream`` goes on after it.

    The link has tasks in ``nursery`` now and then, which end when ``stream`` does.
    """
    if not await _send(stream, _response(request, subprotocol, agreement)):
        return None
    if agreement is not None and agreement.keeps_context:
        return DeflatingLink(nursery, stream, settings, window=agreement.window)
    # There is no fast path where the stream is TLS.
    kind = FastLink if hasattr(stream, "try_send") else WebSocketLink
    return kind(nursery, stream, settings, may_be_deflated=agreement is not None)


def _response(request: Request, subprotocol: str | None, agreement: Agreement | None) -> bytes:
    key = request.headers["sec-websocket-key"].strip().encode("ascii")
    digest = hashlib.sha1(key + _ACCEPT_SUFFIX, usedforsecurity=False).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    if agreement is not None:
        lines.append(f"Sec-WebSocket-Extensions: {agreement.response}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _send(stream: trio.abc.Stream, data: bytes) -> bool:
    """Whether the peer was there to take it."""
    with trio.move_on_after(_PATIENCE):
        try:
            await stream.send_all(data)
            return True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
    return False


async def refuse(stream: trio.abc.Stream, msg: str) -> None:
    """Answers a handshake that breaks the rules of its own headers."""
    body = b'{"code":40005,"msg":"%b"}' % msg.encode("ascii")
    head = (
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    await _send(stream, head.encode("ascii") + body)
