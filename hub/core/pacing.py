"""Pace: some channels give a frame at most so often, the same for all their subscribers."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

import trio

from hub.core.channel import Channel


class Pacer:
    """Calls channels up when their pace allows the next frame; ``call_up`` gets the channel and the time."""

    def __init__(self, call_up: Callable[[Channel, float], None]) -> None:
        self._call_up = call_up
        self._due: list[tuple[float, int, Channel]] = []
        self._tie = count()
        self._is_sooner = trio.Event()

    def schedule(self, channel: Channel) -> None:
        """``channel`` has something to say. O(log n), never waits."""
        if channel.due_at is not None:
            return
        channel.due_at = channel.paced_at + channel.policy.pace
        heapq.heappush(self._due, (channel.due_at, next(self._tie), channel))
        if self._due[0][2] is channel:
            self._is_sooner.set()

    async def run(self) -> None:
        """Keeps the pace until cancelled."""
        while True:
            next_at = self._due[0][0] if self._due else math.inf
            self._is_sooner = trio.Event()
            with trio.move_on_at(next_at):
                await self._is_sooner.wait()
            now = trio.current_time()
            while self._due and self._due[0][0] <= now:
                _, _, channel = heapq.heappop(self._due)
                channel.due_at = None
                self._call_up(channel, now)
            await trio.lowlevel.checkpoint()
