"""How much a slow client lost lately: two sliding windows, in constant memory."""

from __future__ import annotations

from collections import deque
from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class SlowRules:
    """More than ``warn_dropped`` in ``warn_window`` seconds: a warning. More than ``close_dropped`` in
    ``close_window``: the end. 0 turns a rule off."""

    warn_dropped: int = 100
    warn_window: float = 10.0
    close_dropped: int = 1000
    close_window: float = 60.0
    #: Seconds that a client has to read why it was closed.
    close_deadline: float = 20.0


class DropWindow:
    """Counts drops by the second, for as long as the longer window is."""

    __slots__ = ("_drops", "_rules", "_warned_at")

    def __init__(self, rules: SlowRules) -> None:
        self._rules = rules
        self._drops: deque[list[float]] = deque()  # [second, count], oldest first
        self._warned_at: float | None = None

    def add(self, count: int, now: float) -> Literal["ok", "warn", "close"]:
        """Takes ``count`` drops at ``now`` (monotonic seconds); says what they call for. A warning comes at
        most once a window."""
        if self._drops and now - self._drops[-1][0] < 1.0:
            self._drops[-1][1] += count
        else:
            self._drops.append([now, count])
        horizon = now - max(self._rules.warn_window, self._rules.close_window)
        while self._drops and self._drops[0][0] < horizon:
            self._drops.popleft()
        if (
            self._rules.close_dropped
            and self.dropped(self._rules.close_window, now) > self._rules.close_dropped
        ):
            return "close"
        return "warn" if self._should_warn(now) else "ok"

    def dropped(self, window: float, now: float) -> int:
        """Drops in the last ``window`` seconds."""
        return int(sum(count for second, count in self._drops if second >= now - window))

    def _should_warn(self, now: float) -> bool:
        rules = self._rules
        if not rules.warn_dropped or self.dropped(rules.warn_window, now) <= rules.warn_dropped:
            return False
        if self._warned_at is not None and now - self._warned_at < rules.warn_window:
            return False
        self._warned_at = now
        return True
