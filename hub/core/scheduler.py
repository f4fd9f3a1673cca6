"""The scheduler: one task that brings what was published to whoever subscribes.

It walks the channels that have news. Sessions that stand at the same place share the bytes, so the cost of
a subscriber is a dictionary look-up and a system call. Batching comes by itself: idle, an event goes out at
once; busy, the walk takes longer and each write carries more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
            await self._walk(_visits(dirty))
            await trio.lowlevel.checkpoint()

    async def _walk(self, visits: Iterable[tuple[Writer, list[Subscription]]]) -> None:
        """Serves each session once, for all of its channels that have news."""
        walk = Walk(trio.current_time())
        turn_ends = perf_counter() + TURN
        for index, (writer, subscriptions) in enumerate(visits):
            if index % STRIDE == 0 and perf_counter() > turn_ends:
                await trio.lowlevel.checkpoint()
                walk.now = trio.current_time()
                turn_ends = perf_counter() + TURN
            if not writer.is_pumping and not walk.serve(writer, subscriptions):
                writer.visit([subscription for subscription in subscriptions if subscription.is_active])
        walk.count(self._counts, self._now_ms())
        for (
            channel
        ) in walk.unfinished:  # a backlog of more than one slice: walk again, so that it is shared again
            self.mark(channel)


def _visits(channels: list[Channel]) -> Iterable[tuple[Writer, list[Subscription]]]:
    """Who is to be served: each session once, with those of its subscriptions that have news."""
    if len(channels) == 1:
        return [(subscription.writer, [subscription]) for subscription in channels[0].subscriptions]
    visits: dict[Writer, list[Subscription]] = {}
    for channel in channels:
        for subscription in channel.subscriptions:
            visits.setdefault(subscription.writer, []).append(subscription)
    return visits.items()


def _wake_polls(channel: Channel) -> None:
    for waiter in channel.waiters:
        waiter.set()
    channel.waiters.clear()


class Walk:
    """The hot path: one round of the scheduler, with the slices that its sessions share.

    A slice is made once in a walk, even when the channel has grown since, so that all who stood at the same
    place when it began stand at the same place when it ends.
    """

    __slots__ = ("_receivers", "_slices", "_transports", "now", "unfinished")

    def __init__(self, now: float) -> None:
        self.now = now
        #: Channels with more to read than one slice.
        self.unfinished: set[Channel] = set()
        self._slices: dict[object, Slice] = {}
        self._receivers: dict[Slice, int] = {}
        self._transports: dict[Slice, str] = {}

    def serve(self, writer: Writer, subscriptions: list[Subscription]) -> bool:
        """Writes what follows, where that is all there is to do; False where it is not that simple."""
        try_send = writer.try_send
        if try_send is None or writer.outbox:
            return False
        due: list[Subscription] = []
        slices: list[Slice] = []
        for subscription in subscriptions:
            if not subscription.is_plain or (writer.carries_cursor and len(subscriptions) > 1):
                return False
            if subscription.is_active and subscription.position < subscription.channel.log.head_seq:
                due.append(subscription)
                slices.append(self._slice(writer, subscription))
        if not due:
            return True
        data = slices[0].data if len(slices) == 1 else b"".join([slice_.data for slice_ in slices])
        try:
            taken = try_send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            writer.broken()
            return True
        except Exception:
            writer.fail()
            return True
        if taken != len(data):
            writer.account_slices(due, slices, taken)
            return True
        writer.last_sent = self.now
        for subscription, slice_ in zip(due, slices, strict=True):
            subscription.position = slice_.last
            self._receivers[slice_] += 1
        return True

    def _slice(self, writer: Writer, subscription: Subscription) -> Slice:
        channel = subscription.channel
        key: object = (channel, writer.encoding, subscription.position)
        if writer.carries_cursor and not writer.gatherer.is_alone:
            key = (channel, writer.encoding, subscription.position, writer.gatherer.shape())
        slice_ = self._slices.get(key)
        if slice_ is None:
            slice_ = self._slices[key] = writer.gatherer.slice(subscription)
            self._receivers[slice_] = 0
            self._transports[slice_] = writer.transport
            if slice_.last < channel.log.head_seq:
                self.unfinished.add(channel)
        return slice_

    def count(self, counts: Counts, now_ms: int) -> None:
        """Adds what was delivered to the statistics, a slice at a time."""
        for slice_, receivers in self._receivers.items():
            if receivers:
                _count(counts, slice_, self._transports[slice_], receivers, now_ms)


def _count(counts: Counts, slice_: Slice, transport: str, receivers: int, now_ms: int) -> None:
    channel, count = slice_.channel, len(slice_.frames)
    counts.delivered(channel.type, "event", transport, count * receivers, slice_.size * receivers)
    if slice_.after + 1 >= channel.log.first_seq:
        for publication in channel.log.read(slice_.after, count):
            counts.took(channel.type, transport, (now_ms - publication.ts) / 1000, receivers)
