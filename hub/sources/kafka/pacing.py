"""How often to say a thing that is true for a long time, or that happens often."""

from __future__ import annotations

from collections.abc import Hashable


class Quiet:
    """Lets one line of each kind through, then none for ``pause`` seconds, and counts what it held back."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def admit(self, kind: Hashable, now: float) -> int | None:
        """None: not now. Otherwise how many were held back since the last one."""
        since, held_back = self._kinds.get(kind, (None, 0))
        if since is not None and now - since < self._pause:
            self._kinds[kind] = (since, held_back + 1)
            return None
        self._kinds[kind] = (now, 0)
        return held_back


class Reminder:
    """Says at once that something is so, then after ``first`` seconds, then each time after twice as long."""

    def __init__(self, *, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.reset()

    def reset(self) -> None:
        """It is no longer so."""
        self._pause = 0.0
        self._due = 0.0

    def is_due(self, now: float) -> bool:
        if self._pause and now < self._due:
            return False
        self._pause = min(self._longest, self._pause * 2) or self._first
        self._due = now + self._pause
        return True
