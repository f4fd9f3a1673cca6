"""Answers: always JSON, whoever refuses, with the status that fits."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Protocol, TypeVar

import msgspec
import trio

from hub.app.front.guard import Refused
from hub.core.contracts import BodyTooLarge, Exchange
from hub.sansio.errors import ErrorCode, RequestRefused

logger = logging.getLogger(__name__)

#: The HTTP status that fits an error code (live-envelope.md leaves the choice).
STATUS_OF_CODE: Mapping[ErrorCode, int] = {
    ErrorCode.UNAVAILABLE_CHANNEL: 404,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.TOKEN_EXPIRED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNAVAILABLE: 503,
}


class AnswerableExchange(Exchange, Protocol):
    """An exchange that knows whether its answer has begun."""

    is_answered: bool


E = TypeVar("E", bound=AnswerableExchange)


def error_body(code: int, msg: str, channel: str | None = None) -> bytes:
    """The body of every refusal (live-envelope.md, "Bodies")."""
    body: dict[str, object] = {"code": int(code), "msg": msg}
    return msgspec.json.encode(body if channel is None else {**body, "channel": channel})


def answer_headers(status: int, body: bytes, headers: Mapping[str, str] | None) -> dict[str, str]:
    """The headers of a whole answer."""
    fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    if status in (204, 304):  # RFC 9110: these have no content
        del fields["content-length"], fields["content-type"]
    return fields


def raw_response(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A whole HTTP/1.1 answer, in one piece."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}\r\n".encode("latin-1") + body


def merged(headers: Mapping[str, str], others: Mapping[str, str]) -> Mapping[str, str]:
    """Both; ``vary`` is a list, to which each may add."""
    if not others:
        return headers
    both = {**headers, **others}
    if "vary" in headers and "vary" in others:
        both["vary"] = f"{headers['vary']}, {others['vary']}"
    return both


def refusal_response(refused: Refused) -> bytes:
    """The answer to what is no request, which ends the connection."""
    body = error_body(refused.code, refused.msg)
    headers = {"cache-control": "no-store", "connection": "close", **refused.headers}
    return raw_response(refused.status, body, answer_headers(refused.status, body, headers))


def _refusal_headers(status: int, code: ErrorCode) -> dict[str, str]:
    """How a client gets on: which credentials it needs (RFC 6750, section 3), or when it may come again."""
    if status == 401:
        problem = ' error="invalid_token"' if code == ErrorCode.TOKEN_EXPIRED else ""
        return {"www-authenticate": f"Bearer{problem}", "cache-control": "no-store"}
    return {"retry-after": "5"} if status in (429, 503) else {}


async def answer(exchange: E, handle: Callable[[E], Awaitable[None]]) -> None:
    """Has the request handled; whatever goes wrong is answered here."""
    try:
        await handle(exchange)
    except Refused as refused:
        await exchange.respond(refused.status, error_body(refused.code, refused.msg), refused.headers)
    except RequestRefused as refused:
        status = STATUS_OF_CODE.get(refused.code, 400)
        body = error_body(refused.code, refused.msg, refused.channel)
        await exchange.respond(status, body, _refusal_headers(status, refused.code))
    except BodyTooLarge as error:
        headers = {"connection": "close"}
        await exchange.respond(413, error_body(ErrorCode.INVALID_REQUEST, str(error)), headers)
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel):
        pass
    except Exception:
        logger.exception("handler failed", extra={"path": exchange.request.path})
        if not exchange.is_answered:
            await exchange.respond(500, error_body(ErrorCode.INTERNAL, "internal error"))
