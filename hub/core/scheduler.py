"""The scheduler: one task that brings what was published to whoever subscribes.

It walks the channels that have news. Sessions that stand at the same place share the bytes, so the cost of
a subscriber is a dictionary look-up and a system call. Batching comes by itself: idle, an event goes out at
once; busy, the walk takes longer and each write carries more.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import trio

from hub.core.channel import Channel, Slice
from hub.core.statistics import Counts
from hub.core.subscription import Subscription
from hub.core.writer import Writer

#: Seconds of work after which others (reads, pings, sources) have their turn.
TURN = 0.001
#: How many subscribers are served between two looks at the clock.
STRIDE = 16


class Scheduler:
    """Delivers. ``mark`` is all that a publisher calls."""

    def __init__(self, counts: Counts, now_ms: Callable[[], int]) -> None:
        self._counts = counts
        self._now_ms = now_ms
        self._dirty: list[Channel] = []
        self._news = trio.Event()

    def mark(self, channel: Channel) -> None:
        """``channel`` has news. O(1), never waits."""
        if not channel.is_dirty and (channel.subscriptions or channel.waiters):
            channel.is_dirty = True
            self._dirty.append(channel)
            self._news.set()

    async def run(self) -> None:
        """Delivers until cancelled."""
        while True:
            await self._news.wait()
            dirty, self._dirty = self._dirty, []
            self._news = trio.Event()
            for channel in dirty:
                channel.is_dirty = False
                _wake_polls(channel)
            if len(dirty) == 1:
                await self._walk_one(dirty[0])
            else:
                await self._walk_many(dirty)
            await trio.lowlevel.checkpoint()

    async def _walk_one(self, channel: Channel) -> None:
        """One channel has news: the hot path."""
        # The head is taken once, so that all subscribers stay at the same place and go on sharing bytes.
        head = channel.log.head_seq
        slices: dict[object, Slice] = {}
        served: dict[Slice, Writer] = {}
        now = trio.current_time()
        turn_ends = perf_counter() + TURN
        is_done = True
        subscriptions = list(channel.subscriptions)
        for index, subscription in enumerate(subscriptions):
            if index % STRIDE == 0 and perf_counter() > turn_ends:
                await trio.lowlevel.checkpoint()
                now = trio.current_time()
                turn_ends = perf_counter() + TURN
            writer = subscription.writer
            if writer.is_pumping or subscription not in channel.subscriptions:
                continue
            if writer.try_send is None or writer.outbox or not (subscription.is_plain and subscription.is_intact):
                writer.visit((subscription,))
                continue
            if subscription.position >= head:
                continue
            shape = writer.gatherer.shape(subscription)
            slice_ = slices.get(shape)
            if slice_ is None:
                slice_ = slices[shape] = writer.gatherer.slice(subscription)
                served[slice_] = writer
            try:
                taken = writer.try_send(slice_.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                writer.broken()
                continue
            if taken != slice_.size:
                writer.cut_short(subscription, slice_, taken)
                continue
            subscription.position = slice_.last
            writer.last_sent = now
            slice_.receivers += 1
            is_done = is_done and slice_.last >= head
        self._count(channel, served)
        if not is_done:  # a backlog of more than one slice: walk again, so that it is shared again
            self.mark(channel)

    async def _walk_many(self, channels: list[Channel]) -> None:
        """Many channels have news: each session is visited once, for all of them."""
        visits: dict[Writer, list[Subscription]] = {}
        for channel in channels:
            for subscription in channel.subscriptions:
                visits.setdefault(subscription.writer, []).append(subscription)
        turn_ends = perf_counter() + TURN
        for index, (writer, subscriptions) in enumerate(visits.items()):
            if index % STRIDE == 0 and perf_counter() > turn_ends:
                await trio.lowlevel.checkpoint()
                turn_ends = perf_counter() + TURN
            writer.visit(subscriptions)

    def _count(self, channel: Channel, served: dict[Slice, Writer]) -> None:
        now = self._now_ms()
        for slice_, writer in served.items():
            receivers, transport = slice_.receivers, writer.transport
            if not receivers:
                continue
            count = len(slice_.frames)
            self._counts.delivered(channel.type, "event", transport, count * receivers, slice_.size * receivers)
            if slice_.after + 1 >= channel.log.first_seq:
                for publication in channel.log.read(slice_.after, count):
                    self._counts.took(channel.type, transport, (now - publication.ts) / 1000, receivers)


def _wake_polls(channel: Channel) -> None:
    for waiter in channel.waiters:
        waiter.set()
    channel.waiters.clear()
