"""What a market publishes of its trades: ``trades``, ``kline`` and ``ticker``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import attrs
import msgspec

from hub.sources.demo.drafts import Draft, Pace
from hub.sources.demo.instruments import Instrument
from hub.sources.demo.matching import Fill, Side

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
#: The intervals of channels.md, in milliseconds.
INTERVALS: Mapping[str, int] = MappingProxyType(
    {f"{count}m": count * _MINUTE for count in (1, 3, 5, 15, 30)}
    | {f"{count}h": count * _HOUR for count in (1, 2, 4, 6, 12)}
    | {"1d": _DAY, "1w": 7 * _DAY}
)
#: How often ``ticker`` and ``kline`` are published while they change. The pace that clients see is the hub's.
STATE_PERIOD_MS = 500
#: The Unix epoch was a Thursday; weeks open on Monday.
_WEEK_OFFSET = 4 * _DAY

_encode = msgspec.json.Encoder().encode


class _Trade(msgspec.Struct, rename="camel"):
    trade_id: int
    price: str
    amount: str
    side: Side
    ts: int


class _Candle(msgspec.Struct, rename="camel"):
    open_time: int
    close_time: int
    open: str
    high: str
    low: str
    close: str
    vol: str
    quote_vol: str
    trade_count: int
    closed: bool


class _Ticker(msgspec.Struct, rename="camel"):
    last: str
    bid: str
    ask: str
    high: str
    low: str
    vol: str
    quote_vol: str
    change: str
    open_price: str
    close_time: int
    trade_count: int


@attrs.define
class Bar:
    """What the trades of a span of time come to. It is flat until its first trade, which is its open."""

    open_time: int
    open: int
    high: int
    low: int
    close: int
    vol: int = 0
    quote_vol: int = 0
    trade_count: int = 0

    @classmethod
    def flat(cls, open_time: int, price: int) -> Bar:
        return cls(open_time, price, price, price, price)

    def add(self, price: int, amount: int) -> None:
        if not self.trade_count:
            self.open = self.high = self.low = price
        elif price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price
        self.vol += amount
        self.quote_vol += price * amount
        self.trade_count += 1


class TradeTape:
    """``trades``: the trades of one order are one publication. Trade ids count from 1."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._channel = f"trades@{instrument.market}"
        #: The id of the next trade.
        self.next_id = 1

    def publish(self, trades: Sequence[tuple[Side, Fill]], now_ms: int) -> Draft:
        """``trades`` are the takers' sides and the fills."""
        return Draft(
            self._channel,
            _encode([self._trade(side, fill, now_ms) for side, fill in trades]),
            now_ms,
        )

    def _trade(self, side: Side, fill: Fill, now_ms: int) -> _Trade:
        trade_id, self.next_id = self.next_id, self.next_id + 1
        price_text, amount_text = self._instrument.price_text, self._instrument.amount_text
        return _Trade(trade_id, price_text(fill.price), amount_text(fill.amount), side, now_ms)


class CandleFeed:
    """``kline`` of one interval. A candle without a trade is flat at the close of the one before.

    Candles lie on multiples of the interval and follow each other without a hole as long as the clock does; a
    clock that jumps ahead leaves one, a clock that is set back keeps the candle open until it has caught up.
    """

    def __init__(self, instrument: Instrument, interval: str, now_ms: int, price: int) -> None:
        self._instrument = instrument
        self._channel = f"kline.{interval}@{instrument.market}"
        self._length = INTERVALS[interval]
        self._offset = _WEEK_OFFSET if interval == "1w" else 0
        self._pace = Pace(STATE_PERIOD_MS)
        self._bar = Bar.flat(self._open_time(now_ms), price)
        self._changed = True

    def add(self, price: int, amount: int) -> None:
        self._bar.add(price, amount)
        self._changed = True

    def publish_due(self, now_ms: int) -> Iterator[Draft]:
        """The closing candle and the next, as soon as the interval is over; else the open one when it changed and
        its pace allows it."""
        if is_over := now_ms >= self._bar.open_time + self._length:
            yield self._draft(now_ms, closed=True)
            self._bar = Bar.flat(self._open_time(now_ms), self._bar.close)
        if is_over or (self._changed and self._pace.is_due(now_ms)):
            self._changed = False
            self._pace.mark(now_ms)
            yield self._draft(now_ms, closed=False)

    def _open_time(self, now_ms: int) -> int:
        return now_ms - (now_ms - self._offset) % self._length

    def _draft(self, now_ms: int, *, closed: bool) -> Draft:
        bar, price_text = self._bar, self._instrument.price_text
        candle = _Candle(
            bar.open_time,
            bar.open_time + self._length - 1,
            price_text(bar.open),
            price_text(bar.high),
            price_text(bar.low),
            price_text(bar.close),
            self._instrument.amount_text(bar.vol),
            self._instrument.value_text(bar.quote_vol),
            bar.trade_count,
            closed,
        )
        return Draft(self._channel, _encode(candle), now_ms)


class TickerFeed:
    """``ticker``: the last 24 hours by the minute, or what there is since the start.

    ``change`` is ``last - openPrice``, a price and not a percentage, so that it is exact.
    """

    def __init__(self, instrument: Instrument, price: int) -> None:
        self._instrument = instrument
        self._channel = f"ticker@{instrument.market}"
        self._pace = Pace(STATE_PERIOD_MS)
        self._minutes: deque[Bar] = deque()
        self._last = price
        self._quote = (0, 0)
        self._changed = True

    def add(self, price: int, amount: int, now_ms: int) -> None:
        minute = now_ms - now_ms % _MINUTE
        if not self._minutes or minute > self._minutes[-1].open_time:
            self._minutes.append(Bar.flat(minute, price))
        self._minutes[-1].add(price, amount)
        self._last = price
        self._changed = True

    def publish_due(self, now_ms: int, bid: int, ask: int) -> Iterator[Draft]:
        """When something changed, the best prices too, and its pace allows it."""
        if (self._changed or self._quote != (bid, ask)) and self._pace.is_due(now_ms):
            self._changed = False
            self._quote = (bid, ask)
            self._pace.mark(now_ms)
            yield Draft(self._channel, _encode(self._ticker(now_ms, bid, ask)), now_ms)

    def _ticker(self, now_ms: int, bid: int, ask: int) -> _Ticker:
        day, price_text = self._day(now_ms), self._instrument.price_text
        return _Ticker(
            price_text(self._last),
            price_text(bid),
            price_text(ask),
            price_text(day.high),
            price_text(day.low),
            self._instrument.amount_text(day.vol),
            self._instrument.value_text(day.quote_vol),
            price_text(self._last - day.open),
            price_text(day.open),
            now_ms,
            day.trade_count,
        )

    def _day(self, now_ms: int) -> Bar:
        minutes = self._minutes
        while minutes and minutes[0].open_time <= now_ms - _DAY:
            minutes.popleft()
        if not minutes:
            return Bar.flat(now_ms, self._last)
        # 1440 bars at most, once a second: cheaper than keeping maxima of a window that slides.
        return Bar(
            minutes[0].open_time,
            minutes[0].open,
            max(bar.high for bar in minutes),
            min(bar.low for bar in minutes),
            self._last,
            sum(bar.vol for bar in minutes),
            sum(bar.quote_vol for bar in minutes),
            sum(bar.trade_count for bar in minutes),
        )
