"""How often something may happen: token buckets. The time is the caller's, in seconds of any one clock."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

#: Part of a token that may be missing: whoever waits as long as told gets one, whatever floats round off.
_TOLERANCE: Final = 1e-6


class TokenBucket:
    """``rate`` tokens come in each second, up to ``burst``; it starts full. Rate 0: no limit."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        _check(rate, burst)
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = -math.inf

    def take(self, now: float, count: float = 1) -> bool:
        """Takes ``count`` tokens, or none if there are fewer."""
        if not self._rate:
            return True
        tokens = self._tokens
        if now > self._at:
            tokens += (now - self._at) * self._rate
            self._at = now
            if tokens > self._burst:
                tokens = self._burst
        if tokens + _TOLERANCE < count:
            self._tokens = tokens
            return False
        self._tokens = tokens - count
        return True

    def change(self, rate: float, burst: float) -> None:
        """Other limits; what was taken stays taken."""
        self._rate, self._burst = rate, float(burst)
        self._tokens = min(self._tokens, self._burst)

    def wait(self, now: float) -> float:
        """Seconds until there is one token; 0 where there is."""
        if not self._rate:
            return 0.0
        missing = 1 - _TOLERANCE / 2 - self._tokens
        return max(0.0, missing / self._rate - max(0.0, now - self._at))

    def is_full(self, now: float) -> bool:
        """Whether it is as good as new."""
        return not self._rate or self._tokens + (now - self._at) * self._rate >= self._burst


class Buckets:
    """A bucket for each key, in bounded memory. A bucket that is full again is forgotten; with ``max_keys`` of them
    that are not, the one that was idle longest is, which errs in the favour of its owner."""

    def __init__(self, rate: float, burst: float, max_keys: int) -> None:
        _check(rate, burst)
        self._rate = rate
        self._burst = burst
        self._max_keys = max_keys
        #: In the order of their last use.
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float, count: float = 1) -> bool:
        """See ``TokenBucket.take``."""
        if not self._rate:
            return True
        bucket = self._buckets.pop(key, None) or TokenBucket(self._rate, self._burst)
        self._forget(now)
        self._buckets[key] = bucket
        return bucket.take(now, count)

    def wait(self, key: Hashable, now: float) -> float:
        """See ``TokenBucket.wait``."""
        bucket = self._buckets.get(key)
        return 0.0 if bucket is None else bucket.wait(now)

    def _forget(self, now: float) -> None:
        """Two at a time, where one may come: in the end all go that nobody uses, and no call takes long."""
        for _ in range(2):
            oldest = next(iter(self._buckets), None)
            if oldest is None:
                return
            if len(self._buckets) < self._max_keys and not self._buckets[oldest].is_full(now):
                return
            self._buckets.popitem(last=False)


def _check(rate: float, burst: float) -> None:
    if rate < 0 or burst < 1:
        raise ValueError("a rate is not negative, and a burst is at least 1")
