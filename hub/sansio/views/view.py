"""What a view can do. The channel folds each publication into it, in the moment that gives it its number, so the
state always belongs to exactly one seq."""

from __future__ import annotations

import abc
from typing import Any


class View(abc.ABC):
    """The state of one channel. ``kind`` is "snapshot", "delta" or None (whatever is usual for the channel)."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def is_known(self) -> bool:
        """Whether there is a state at all."""

    @property
    def size(self) -> int:
        """Bytes of memory, roughly, that ``forget`` would free; 0 where that is little or could not be had again."""
        return 0

    @abc.abstractmethod
    def parse(self, data: bytes, kind: str | None) -> Any:
        """Checks a payload and gives what ``fold`` takes; changes nothing. Raises BadPayload, whose text names the
        field. That ``data`` is JSON is only looked at where the view must read it."""

    @abc.abstractmethod
    def fold(self, parsed: Any) -> None:
        """Takes what ``parse`` gave. What was parsed need not be folded, and another may come before it."""

    @abc.abstractmethod
    def render(self) -> bytes | None:
        """The state as compact JSON; None while it is unknown."""

    def is_final(self, parsed: Any) -> bool:
        """Whether a payload must not be superseded by the next, however fast that comes (a closing candle)."""
        return False

    def seed(self, data: bytes) -> None:
        """Takes the first state from outside; what was folded before is newer and wins, and so does a state that is
        known by now. Raises BadPayload, and the state is as it was."""
        raise NotImplementedError(f"{type(self).__name__} needs no first state")

    def forget(self) -> None:
        """Lets go of the state, to save memory: unknown until the next snapshot."""
        return
