"""Fair use: what one connection and one user may ask for, by tier (stream-v2.md, "Limits")."""

from __future__ import annotations

from collections import Counter

from hub.sansio.commands import Command, Ping, Subscribe, Unsubscribe
from hub.sansio.rates import TokenBucket
from hub.sansio.tiers import Tier


class Allowance:
    """The rates of one connection, in constant memory. Times are monotonic seconds."""

    __slots__ = ("_buckets", "_messages", "_tier", "_violations")

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._messages = _bucket(tier.messages)
        self._buckets = {
            Subscribe: ("subscribes", _bucket(tier.subscribes)),
            Unsubscribe: ("unsubscribes", _bucket(tier.unsubscribes)),
            Ping: ("pings", _bucket(tier.pings)),
        }
        #: When the latest refusals were: as many as the tier bears.
        self._violations: list[float] = []

    def adopt(self, tier: Tier) -> None:
        """The client has another tier now. What it used up stays used up, or it would go to and fro for more."""
        self._tier = tier
        self._messages.change(tier.messages, max(1, tier.messages))
        for name, bucket in self._buckets.values():
            rate = getattr(tier, name)
            bucket.change(rate, max(1, rate))

    def take(self, command: Command | None, now: float) -> str | None:
        """Counts a message (None: one that is no command). The limit that it is over, or None."""
        if not self._messages.take(now):
            return "messages"
        if (known := self._buckets.get(type(command))) is None:
            return None
        name, bucket = known
        return None if bucket.take(now) else name

    def note_violation(self, now: float) -> bool:
        """One more refusal; says whether it was one too many."""
        tier = self._tier
        self._violations = [*self._violations, now][-max(1, tier.violations) :]
        return len(self._violations) == tier.violations and now - self._violations[0] <= tier.violation_window


def _bucket(rate: int) -> TokenBucket:
    return TokenBucket(rate, max(1, rate))


class Usage:
    """What each user has open on this node. Those who left are forgotten."""

    def __init__(self) -> None:
        self.connections: Counter[str] = Counter()
        self.channels: Counter[str] = Counter()

    def count_connection(self, user: str | None, change: int) -> None:
        """``change`` more connections of ``user``, or fewer."""
        _count(self.connections, user, change)

    def count_channels(self, user: str | None, change: int) -> None:
        """``change`` more subscriptions of ``user``, or fewer."""
        _count(self.channels, user, change)


def _count(counter: Counter[str], user: str | None, change: int) -> None:
    if user is not None:
        counter[user] += change
        if not counter[user]:
            del counter[user]
