"""Tickets for clients that cannot set headers: good for one request, for half a minute.

A ticket travels in a URL, where logs and histories keep it; so it is worth nothing once it is used. Only hashes are
kept here. A ticket has 256 random bits: it is found by its hash, whose bits nobody can choose, so the time that
the look-up takes tells nothing of a ticket.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Final

import attrs

from hub.auth.claims import expired, unauthenticated
from hub.sansio.identity import Identity

#: Unused tickets of one user: enough for any page, and nobody can push out those of the others.
PER_USER: Final = 64


@attrs.frozen(kw_only=True)
class TicketStatistics:
    """``outstanding`` are those that are kept, expired ones for a while too; ``failed`` counts by reason: expired,
    used, invalid (operations.md, "token_consume_fail_total")."""

    issued: int
    outstanding: int
    failed: Mapping[str, int]


@attrs.frozen
class _Ticket:
    identity: Identity
    deadline: float


class Tickets:
    """Those that are out. Times are seconds of one clock, which the caller reads."""

    def __init__(self, *, age: float, limit: int) -> None:
        self.age = age
        self._limit = limit
        #: Oldest first, because all live equally long. Expired ones stay for as long again, to be told as such.
        self._tickets: OrderedDict[bytes, _Ticket] = OrderedDict()
        #: When they may be forgotten, oldest first.
        self._used: OrderedDict[bytes, float] = OrderedDict()
        #: Oldest first; as a dictionary, because any of them may go.
        self._of_user: dict[str | None, dict[bytes, None]] = {}
        self._issued = 0
        self._failed = Counter({"expired": 0, "used": 0, "invalid": 0})

    def issue(self, identity: Identity, now: float) -> str:
        """A new ticket for ``identity``. Where there are too many, the oldest is forgotten."""
        self._forget_old(now)
        own = self._of_user.get(identity.user, {})
        if len(own) >= PER_USER:
            self._remove(next(iter(own)))
        elif len(self._tickets) >= self._limit:
            self._remove(next(iter(self._tickets)))
        ticket = secrets.token_urlsafe(32)
        digest = _hash(ticket)
        self._tickets[digest] = _Ticket(identity, now + self.age)
        self._of_user.setdefault(identity.user, {})[digest] = None
        self._issued += 1
        return ticket

    def redeem(self, ticket: str, now: float) -> Identity:
        """Whose the ticket is; it is used then. Raises RequestRefused: 40101 for one that is too old, 40100 for one
        that was used before or that never was."""
        self._forget_old(now)
        digest = _hash(ticket)
        if digest in self._used:
            self._failed["used"] += 1
            raise unauthenticated("ticket used already")
        if digest not in self._tickets:
            self._failed["invalid"] += 1
            raise unauthenticated("invalid ticket")
        found = self._tickets[digest]
        if found.deadline <= now:
            self._failed["expired"] += 1
            raise expired("ticket expired")
        self._remove(digest)
        self._used[digest] = now + self.age
        if len(self._used) > self._limit:
            self._used.popitem(last=False)
        return found.identity

    def statistics(self) -> TicketStatistics:
        return TicketStatistics(
            issued=self._issued, outstanding=len(self._tickets), failed=dict(self._failed)
        )

    def _forget_old(self, now: float) -> None:
        while self._tickets and self._tickets[oldest := next(iter(self._tickets))].deadline + self.age <= now:
            self._remove(oldest)
        while self._used and self._used[oldest := next(iter(self._used))] <= now:
            del self._used[oldest]

    def _remove(self, digest: bytes) -> None:
        user = self._tickets.pop(digest).identity.user
        own = self._of_user[user]
        del own[digest]
        if not own:
            del self._of_user[user]


def _hash(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).digest()
