"""What the network does to one connection: decided by a seed, so that bad luck can be had again."""

from __future__ import annotations

import random
from typing import Literal

import attrs

#: How a connection ends early: one side is told politely, or both are told rudely.
Cut = Literal["reset", "finish", "reset client, finish hub", "finish client, reset hub"]
CUTS: tuple[Cut, ...] = ("reset", "finish", "reset client, finish hub", "finish client, reset hub")


@attrs.frozen(kw_only=True)
class Climate:
    """How bad the weather is. Seconds and bytes; chances are for each piece that is forwarded."""

    lifetime: float = 6.0  # mean time to the cut, about
    delay: float = 0.05
    stall_chance: float = 0.004
    stall: tuple[float, float] = (0.3, 3.0)
    throttle_chance: float = 0.002
    throttle: tuple[float, float] = (0.5, 4.0)
    rate: tuple[float, float] = (3_000.0, 60_000.0)  # bytes per second while throttled
    split_chance: float = 0.3


class Weather:
    """The luck of one connection. Both directions share it."""

    def __init__(self, climate: Climate, seed: str) -> None:
        self._climate = climate
        self._random = random.Random(seed)
        # Nobody is so lucky as to be never cut in a run.
        self.lifetime = min(self._random.expovariate(1 / climate.lifetime), 3 * climate.lifetime)
        self.cut: Cut = self._random.choice(CUTS)

    def delay(self) -> float:
        return self._random.uniform(0.0, self._climate.delay)

    def stall(self) -> float:
        """How long nothing moves now; mostly 0."""
        climate = self._climate
        return self._random.uniform(*climate.stall) if self._random.random() < climate.stall_chance else 0.0

    def throttle(self) -> tuple[float, float]:
        """(seconds, bytes per second) of a slow phase that begins now; mostly (0, 0)."""
        climate = self._climate
        if self._random.random() >= climate.throttle_chance:
            return 0.0, 0.0
        return self._random.uniform(*climate.throttle), self._random.uniform(*climate.rate)

    def split(self, size: int) -> int:
        """After how many bytes a piece is torn in two; ``size`` where it is not."""
        is_torn = size > 1 and self._random.random() < self._climate.split_chance
        return self._random.randrange(1, size) if is_torn else size
