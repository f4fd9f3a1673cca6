"""How many clients may be connected at once: in all, and from one address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hub.app.front.forwarded import limit_key
from hub.app.front.guard import Refused
from hub.app.front.refusals import Refusals
from hub.sansio.errors import ErrorCode

#: Where a client that cannot have a connection can go on, and when it may try again.
RETRY = {"retry-after": "5", "link": '</poll>; rel="alternate"'}


class Admission:
    """Counts long-lived connections; 0 means no bound. State of those who left is forgotten."""

    def __init__(
        self, refusals: Refusals, *, total: int, per_address: int, limit: str = "connections"
    ) -> None:
        self._refusals = refusals
        self._total = total
        self._per_address = per_address
        self._limit = limit
        self._open = 0
        self._of_address: Counter[str] = Counter()

    @contextmanager
    def admit(self, address: str, *, counts_by_address: bool = True) -> Iterator[None]:
        """Holds a place for as long as the block runs. Raises Refused."""
        if self._total and self._open >= self._total:
            self._refusals.add(self._limit, address)
            raise Refused(503, "too many connections on this node", code=ErrorCode.UNAVAILABLE, headers=RETRY)
        key = limit_key(address) if counts_by_address and self._per_address else None
        if key is not None:
            if self._of_address[key] >= self._per_address:
                self._refusals.add(f"{self._limit}_per_ip", address)
                raise Refused(
                    429, "too many connections from this address", code=ErrorCode.RATE_LIMITED, headers=RETRY
                )
            self._of_address[key] += 1
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if key is not None:
                self._leave(key)

    def _leave(self, key: str) -> None:
        self._of_address[key] -= 1
        if not self._of_address[key]:
            del self._of_address[key]
