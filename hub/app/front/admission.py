"""How many clients may be connected at once: in all, and from one address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hub.app.front.guard import Refused
from hub.sansio.errors import ErrorCode

#: Where a client that cannot have a connection can go on, and when it may try again.
RETRY = {"retry-after": "5", "link": '</poll>; rel="alternate"'}


class Admission:
    """Counts long-lived connections; 0 means no bound. State of those who left is forgotten."""

    def __init__(self, *, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._open: Counter[str] = Counter()

    @contextmanager
    def admit(self, address: str) -> Iterator[None]:
        """Holds a place for as long as the block runs. Raises Refused."""
        if self._total and self._open.total() >= self._total:
            raise Refused(503, "too many connections on this node", code=ErrorCode.UNAVAILABLE, headers=RETRY)
        if self._per_address and self._open[address] >= self._per_address:
            raise Refused(
                429, "too many connections from this address", code=ErrorCode.RATE_LIMITED, headers=RETRY
            )
        self._open[address] += 1
        try:
            yield
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
