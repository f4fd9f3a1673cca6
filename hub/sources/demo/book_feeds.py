"""What a market publishes of its book: ``orderbook``, which is a snapshot and then every change, and ``bbo``.

All levels are published, so that snapshot + deltas are the engine's book after each ``lastUpdateId``. What else
there is of a book (``orderbook.N``) the hub derives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from hub.sources.demo.drafts import Draft
from hub.sources.demo.instruments import Instrument
from hub.sources.demo.matching import BookSide, LevelChange, MatchingEngine

_Level = tuple[str, str]

_encode = msgspec.json.Encoder().encode


class _Book(msgspec.Struct):
    bids: list[_Level]
    asks: list[_Level]


class _BestQuote(msgspec.Struct, rename="camel"):
    bid: str
    bid_qty: str
    ask: str
    ask_qty: str


class BookFeeds:
    """Turns an engine's book and its changes into publications."""

    def __init__(self, instrument: Instrument, engine: MatchingEngine) -> None:
        self._instrument = instrument
        self._engine = engine
        self._channel = f"orderbook@{instrument.market}"
        self._bbo_channel = f"bbo@{instrument.market}"
        self._last_best: tuple[int, int, int, int] | None = None

    def publish_opening(self, now_ms: int) -> Iterator[Draft]:
        """The whole book, and the best quote."""
        book = _Book(self._whole(self._engine.bids), self._whole(self._engine.asks))
        yield Draft(
            self._channel, _encode(book), now_ms, kind="snapshot", last_update_id=self._engine.update_id
        )
        yield from self._publish_best(now_ms)

    def publish_changes(self, changes: Iterable[LevelChange], now_ms: int) -> Iterator[Draft]:
        """What one order changed, which is the engine's newest update, and the best quote if it is another one."""
        delta = _Book([], [])
        for side, price, amount in changes:
            (delta.bids if side == "buy" else delta.asks).append(self._level(price, amount))
        yield Draft(
            self._channel, _encode(delta), now_ms, kind="delta", last_update_id=self._engine.update_id
        )
        yield from self._publish_best(now_ms)

    def _publish_best(self, now_ms: int) -> Iterator[Draft]:
        bid, ask = self._engine.bids.levels[0], self._engine.asks.levels[0]
        best = (bid.price, bid.amount, ask.price, ask.amount)
        if best != self._last_best:
            self._last_best = best
            quote = _BestQuote(*self._level(bid.price, bid.amount), *self._level(ask.price, ask.amount))
            yield Draft(self._bbo_channel, _encode(quote), now_ms)

    def _whole(self, side: BookSide) -> list[_Level]:
        return [self._level(level.price, level.amount) for level in side.levels]

    def _level(self, price: int, amount: int) -> _Level:
        return self._instrument.price_text(price), self._instrument.amount_text(amount)
