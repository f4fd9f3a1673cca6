"""What the hub has done so far, counted where it happens and read from outside (``hub.app.metrics``)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

import attrs

#: Upper bounds in seconds: fine around the targets of operations.md (5 ms, 25 ms, 50 ms).
LATENCY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DURATION_BOUNDS = (1.0, 10.0, 60.0, 600.0, 3600.0, 6 * 3600.0, 24 * 3600.0)


class Histogram:
    """Counts observations in buckets. ``counts[i]`` are those up to ``bounds[i]``; the last are beyond."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


@attrs.define
class Counts:
    """Counters since the start; keys are the labels of the metrics (operations.md), in their order."""

    #: (channel type, message type, transport)
    sent: Counter[tuple[str, str, str]] = attrs.field(factory=Counter)
    #: (channel type, transport)
    sent_bytes: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    received: Counter[str] = attrs.field(factory=Counter)
    dropped: Counter[str] = attrs.field(factory=Counter)
    subscribe_requests: Counter[str] = attrs.field(factory=Counter)
    #: (tier, transport, close code)
    connections: Counter[tuple[str, str, int]] = attrs.field(factory=Counter)
    slow_warnings: int = 0
    slow_disconnects: int = 0
    published: int = 0
    published_bytes: int = 0
    publish_refused: int = 0
    #: Events that a newer one replaced before their channel's pace let them out.
    conflated: int = 0
    #: (limit type)
    rate_limited: Counter[str] = attrs.field(factory=Counter)
    #: (channel type, transport): from the source's timestamp to the kernel, in seconds
    latency: dict[tuple[str, str], Histogram] = attrs.field(factory=dict)
    #: (channel type): from the subscribe to the kernel, in seconds
    snapshot_duration: dict[str, Histogram] = attrs.field(factory=dict)
    #: (tier, transport), in seconds
    connection_duration: dict[tuple[str, str], Histogram] = attrs.field(factory=dict)

    def delivered(self, channel_type: str, kind: str, transport: str, count: int, size: int) -> None:
        """``count`` messages, ``size`` bytes in all, were handed to the kernel."""
        self.sent[channel_type, kind, transport] += count
        self.sent_bytes[channel_type, transport] += size

    def took(self, channel_type: str, transport: str, seconds: float, times: int) -> None:
        key = (channel_type, transport)
        if key not in self.latency:
            self.latency[key] = Histogram(LATENCY_BOUNDS)
        self.latency[key].observe(max(0.0, seconds), times)

    def gave_snapshot(self, channel_type: str, seconds: float) -> None:
        if channel_type not in self.snapshot_duration:
            self.snapshot_duration[channel_type] = Histogram(LATENCY_BOUNDS)
        self.snapshot_duration[channel_type].observe(seconds)

    def closed(self, tier: str, transport: str, code: int, seconds: float) -> None:
        self.connections[tier, transport, code] += 1
        key = (tier, transport)
        if key not in self.connection_duration:
            self.connection_duration[key] = Histogram(DURATION_BOUNDS)
        self.connection_duration[key].observe(seconds)


@attrs.define
class UserCounts:
    """What one user got; ``sent`` and ``dropped`` count events since the start."""

    connections: int = 0
    sent: int = 0
    dropped: int = 0


@attrs.frozen(kw_only=True)
class BrokerStatistics:
    """The broker at this moment."""

    #: (tier, transport) -> sessions
    sessions: dict[tuple[str, str], int]
    #: channel type -> subscriptions
    subscriptions: dict[str, int]
    channels: int
    buffered_bytes: int
    buffered_publications: int
    polls: int
    #: Those of tier mm, by user.
    market_makers: dict[str, UserCounts]
    book_bytes: int
    books_evicted: int
    book_levels_cut: int
    counts: Counts
