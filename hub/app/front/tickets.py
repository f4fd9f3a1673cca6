"""``POST /ticket``: for clients that cannot set headers, a ticket that goes into a URL once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote

import msgspec
import trio

from hub.app.front.guard import Refused
from hub.core.contracts import Exchange
from hub.core.http_query import parse_fields
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import Identity

#: The body says nothing; clients that send one anyway need not send much, nor slowly.
BODY_SIZE: Final = 1024
BODY_SECONDS: Final = 10.0


class TicketHandler:
    """``issue`` gives a ticket for an identity, and the seconds it is good for."""

    def __init__(self, issue: Callable[[Identity], tuple[str, float]]) -> None:
        self._issue = issue

    async def handle(self, exchange: Exchange) -> None:
        """Answers ``{"ticket", "expiresIn", "url"}`` to who has shown credentials other than a ticket."""
        with trio.move_on_after(BODY_SECONDS) as patience:
            await exchange.read_body(BODY_SIZE)
        if patience.cancelled_caught:
            raise Refused(408, "the body took too long", headers={"connection": "close"})
        request = exchange.request
        if request.identity.user is None:
            raise RequestRefused(ErrorCode.UNAUTHENTICATED, "a ticket is for a user: send credentials")
        if "ticket" in parse_fields(request):
            raise RequestRefused(ErrorCode.FORBIDDEN, "a ticket buys no ticket")
        ticket, lifetime = self._issue(request.identity)
        body = {"ticket": ticket, "expiresIn": int(lifetime), "url": f"/sse?ticket={quote(ticket, safe='')}"}
        await exchange.respond(200, msgspec.json.encode(body), {"cache-control": "no-store"})
