"""Who sends a request: its credentials are looked at once, before any handler sees it."""

from __future__ import annotations

import attrs
import trio

from hub.app.front.rates import AddressRates
from hub.core.contracts import Authenticator, Request
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import ANONYMOUS


class Callers:
    """Asks the authenticator, which has ``patience`` seconds, within what an address may fail."""

    def __init__(self, authenticator: Authenticator, rates: AddressRates, *, patience: float) -> None:
        self._authenticator = authenticator
        self._rates = rates
        self._patience = patience

    async def identify(self, request: Request) -> Request:
        """``request`` with the identity of its sender. Raises RequestRefused like the authenticator, and Refused
        (429) instead of 40100 where the sender's address has failed too often: good credentials pass all the same, since
        others may have the same address."""
        with trio.move_on_after(self._patience):
            try:
                identity = await self._authenticator.identify(request)
            except RequestRefused as reason:
                if reason.code == ErrorCode.UNAVAILABLE:  # which is our own trouble, and nobody's failure
                    raise
                if self._rates.has_failed_too_often(request):
                    raise self._rates.login_refusal(request) from None
                self._rates.note_failure(request)
                raise
            return request if identity is ANONYMOUS else attrs.evolve(request, identity=identity)
        raise RequestRefused(ErrorCode.UNAVAILABLE, "credentials cannot be checked now")

    async def introduce(self, request: Request) -> Request:
        """As ``identify``, for a WebSocket: why credentials are refused is for its handler to tell."""
        try:
            return await self.identify(request)
        except RequestRefused as reason:
            return attrs.evolve(request, refusal=reason)
