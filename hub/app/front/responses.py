"""Answers that the port itself gives: always JSON, whoever refuses."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from hub.app.front.guard import Refused


def error_body(code: int, msg: str, channel: str | None = None) -> bytes:
    """The body of every refusal (live-envelope.md, "Bodies")."""
    body: dict[str, object] = {"code": code, "msg": msg}
    return msgspec.json.encode(body if channel is None else {**body, "channel": channel})


def raw_response(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A whole HTTP/1.1 answer that ends the connection, for refusals that come before any server."""
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "connection": "close",
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}\r\n".encode("latin-1") + body


def refusal_response(refused: Refused) -> bytes:
    return raw_response(refused.status, error_body(refused.code, refused.msg), refused.headers)
