"""What a market publishes of its book: ``orderbook``, ``orderbook.N`` and ``bbo``.

A whole book goes out with every change, so what it costs to write one decides how fast the demo can be. A
level is rendered when it changes and never again; a side that did not change keeps its text; so most books
are one small encoding and one join of 50 short byte strings.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

import attrs
import msgspec

from hub.sources.demo.drafts import Draft, Pace
from hub.sources.demo.instruments import Instrument
from hub.sources.demo.matching import LevelChange

#: Depths of the ``orderbook.N`` channels, and how often each may publish (channels.md).
DEPTHS = (5, 10, 20)
DEPTH_PERIOD_MS = 100

_encode = msgspec.json.Encoder().encode


class _FullBook(msgspec.Struct):
    bids: msgspec.Raw
    asks: msgspec.Raw


class _TopOfBook(msgspec.Struct):
    bids: msgspec.Raw
    asks: msgspec.Raw
    lastUpdateId: int


class _BestQuote(msgspec.Struct):
    bid: str
    bidQty: str
    ask: str
    askQty: str


class Ladder:
    """One side of a book as text, best level first, kept from the engine's level changes."""

    __slots__ = ("_keys", "_render", "_sign", "_whole", "_whole_depth", "levels")

    def __init__(self, sign: int, render: Callable[[int, int], bytes], *, depth: int) -> None:
        self._sign = sign
        self._render = render
        self._keys: list[int] = []
        self.levels: list[bytes] = []
        self._whole: msgspec.Raw | None = None
        self._whole_depth = depth

    def apply(self, price: int, amount: int) -> int:
        """Sets the amount at a price (0: the level is gone); returns the level's index, 0 for the best."""
        key = price * self._sign
        index = bisect_left(self._keys, key)
        known = index < len(self._keys) and self._keys[index] == key
        if not amount:
            del self._keys[index], self.levels[index]
        elif known:
            self.levels[index] = self._render(price, amount)
        else:
            self._keys.insert(index, key)
            self.levels.insert(index, self._render(price, amount))
        if index < self._whole_depth:
            self._whole = None
        return index

    def whole(self) -> msgspec.Raw:
        """The JSON list of all levels that are published."""
        if self._whole is None:
            self._whole = self.top(self._whole_depth)
        return self._whole

    def top(self, depth: int) -> msgspec.Raw:
        """The JSON list of the best ``depth`` levels."""
        return msgspec.Raw(b"[%b]" % b",".join(self.levels[:depth]))


@attrs.define
class _DepthFeed:
    channel: str
    depth: int
    pace: Pace = attrs.field(factory=lambda: Pace(DEPTH_PERIOD_MS))
    touched: bool = True
    last: tuple[bytes, bytes] | None = None


class BookFeeds:
    """Turns level changes into publications. ``depth`` levels a side are visible."""

    def __init__(self, instrument: Instrument, *, depth: int) -> None:
        def render(price: int, amount: int) -> bytes:
            return _encode((instrument.price_text(price), instrument.amount_text(amount)))

        self._depth = depth
        self.bids = Ladder(-1, render, depth=depth)
        self.asks = Ladder(1, render, depth=depth)
        self._channel = f"orderbook@{instrument.market}"
        self._bbo_channel = f"bbo@{instrument.market}"
        self._last_best: tuple[bytes, bytes] | None = None
        self._depth_feeds = [_DepthFeed(f"orderbook.{count}@{instrument.market}", count) for count in DEPTHS]

    def apply(self, changes: Iterable[LevelChange]) -> int:
        """Takes the changes of one order; returns the index of the best level that they touched."""
        indexes = [
            (self.bids if side == "buy" else self.asks).apply(price, amount)
            for side, price, amount in changes
        ]
        best = min(indexes, default=self._depth)
        for feed in self._depth_feeds:
            if best < feed.depth:
                feed.touched = True
        return best

    def publish_change(self, touched: int, now_ms: int, update_id: int) -> Iterator[Draft]:
        """The full book, and the best quote where it is another one. Levels below the visible say nothing."""
        if touched < self._depth:
            payload = _FullBook(self.bids.whole(), self.asks.whole())
            yield Draft(self._channel, _encode(payload), now_ms, "orderbook", "snapshot", update_id)
        if touched == 0:
            yield from self._publish_best(now_ms)

    def _publish_best(self, now_ms: int) -> Iterator[Draft]:
        best = (self.bids.levels[0], self.asks.levels[0])
        if best != self._last_best:
            self._last_best = best
            (bid, bid_qty), (ask, ask_qty) = map(msgspec.json.decode, best)
            yield Draft(
                self._bbo_channel, _encode(_BestQuote(bid, bid_qty, ask, ask_qty)), now_ms, "price_tick"
            )

    def publish_due(self, now_ms: int, update_id: int) -> Iterator[Draft]:
        """The ``orderbook.N`` whose levels are others than at its last publication, and whose pace allows it."""
        for feed in self._depth_feeds:
            if not feed.touched or not feed.pace.is_due(now_ms):
                continue
            feed.touched = False
            top = (self.bids.top(feed.depth), self.asks.top(feed.depth))
            levels = (bytes(top[0]), bytes(top[1]))
            if levels == feed.last:
                continue
            feed.last = levels
            feed.pace.mark(now_ms)
            yield Draft(
                feed.channel, _encode(_TopOfBook(*top, update_id)), now_ms, "orderbook", "snapshot", update_id
            )
