"""What pages of which sites may do at a port: WebSockets, commands, and reading answers (CORS).

A browser lets any page open WebSockets and send simple POSTs anywhere, and only says by ``Origin`` whose page it
was. Programs that are no browsers send none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from hub.app.front.guard import Refused
from hub.core.contracts import HttpHandler, Request, StreamingExchange
from hub.sansio.errors import ErrorCode

_ORIGIN: Final = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[^\s:/?#@\[\],]+)(?::([0-9]{1,5}))?", re.ASCII)
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\],]+)(?::([0-9]{1,5}))?", re.ASCII)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_EXPOSED: Final = "etag, retry-after, link, www-authenticate"


class Origins:
    """``configured`` are origins beside the hub's own; "*" is any."""

    def __init__(self, configured: Sequence[str]) -> None:
        self._configured = frozenset(configured)

    @property
    def are_configured(self) -> bool:
        return bool(self._configured)

    def check(self, request: Request) -> None:
        """Raises Refused where a page asks that is neither the hub's own nor of a configured origin."""
        origin = request.headers.get("origin")
        if (
            origin is None
            or self._is_configured(origin)
            or is_same_origin(origin, request.headers.get("host", ""))
        ):
            return
        raise Refused(403, "not for pages of this origin", code=ErrorCode.FORBIDDEN)

    def headers(self, request: Request) -> Mapping[str, str]:
        """What an answer says about who may read it."""
        if not self._configured:
            return {}
        origin = request.headers.get("origin")
        if origin is None or not self._is_configured(origin):
            return {"vary": "origin"}
        return {
            "vary": "origin",
            "access-control-allow-origin": origin,
            "access-control-expose-headers": _EXPOSED,
        }

    def _is_configured(self, origin: str) -> bool:
        return "*" in self._configured or origin in self._configured


def is_same_origin(origin: str, host: str) -> bool:
    """Whether a page of ``origin`` came from ``host``. The scheme may differ: where TLS ends before the hub, it
    does not know what the browser spoke."""
    page, own = _ORIGIN.fullmatch(origin.lower()), _HOST.fullmatch(host.lower())
    if page is None or own is None:
        return False
    default = _DEFAULT_PORTS[page[1]]
    return (page[2], page[3] or default) == (own[1], own[2] or default)


def preflight(methods: Sequence[str]) -> HttpHandler:
    """Answers a browser that asks what a page may send."""

    async def answer(exchange: StreamingExchange) -> None:
        headers = {
            "access-control-allow-methods": ", ".join(methods),
            "access-control-allow-headers": "authorization, content-type, last-event-id",
            "access-control-max-age": "600",
        }
        await exchange.respond(204, b"", headers)

    return answer
