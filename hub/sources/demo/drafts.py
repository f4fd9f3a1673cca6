"""What the simulation hands to its source: a publication that has no number yet, and when it is due."""

from __future__ import annotations

from typing import NamedTuple


class Draft(NamedTuple):
    """The arguments of one ``publish`` call. A tuple, because thousands are made each second.

    ``event`` is None where the channel's namespace names it.
    """

    channel: str
    data: bytes
    ts: int
    event: str | None = None
    kind: str | None = None
    last_update_id: int | None = None
    user: str | None = None


class Pace:
    """Lets something through at most once per ``period_ms``.

    The clock is the wall's, which can be set back: that counts as "long ago", so nothing falls silent.
    """

    __slots__ = ("_last", "_period_ms")

    def __init__(self, period_ms: int) -> None:
        self._period_ms = period_ms
        self._last: int | None = None

    def is_due(self, now_ms: int) -> bool:
        return self._last is None or not 0 <= now_ms - self._last < self._period_ms

    def mark(self, now_ms: int) -> None:
        """Notes that it was let through now."""
        self._last = now_ms


class Allowance:
    """How many publications may go out now, at ``rate`` per second.

    It never holds more than ``window`` seconds' worth: what a stall kept from going out is forgotten, not
    burst. It can go below zero, because feeds that follow the clock do not ask; order flow then waits.
    """

    def __init__(self, rate: float, *, window: float, now: float) -> None:
        self._rate = rate
        self._window = window
        self._last = now
        self._credit = 0.0
        self.forgotten = 0.0

    @property
    def available(self) -> int:
        """Whole publications that may go out."""
        return max(0, int(self._credit))

    def earn(self, now: float) -> None:
        """Adds what the time since the last call (monotonic seconds) is worth."""
        credit = self._credit + (now - self._last) * self._rate
        self._last = now
        # Below ten a second the window is worth less than one publication, and nothing would ever go out.
        self._credit = min(credit, max(1.0, self._rate * self._window))
        self.forgotten += credit - self._credit

    def spend(self, count: int) -> None:
        self._credit -= count
