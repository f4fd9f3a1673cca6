"""A simulated exchange: pure, without a clock, the same again for the same seed and the same times.

Every order of a market's flow goes through its matching engine, and everything the market publishes is
folded from what the engine says of that order; so books, trades, tickers, candles, best quotes and what users
are told of their orders and money agree with each other after every order.

Where the events come from: the rate counts publications, of all markets and all feeds together. An order is
the unit of work: it gives one ``orderbook``, ``trades`` when it traded, ``bbo`` when the best quote changed, and
``orders``, ``fills`` and ``balances`` where users are part of it: about two publications an order in all. Orders
are drawn until the budget is spent; what follows the clock (``ticker``, ``kline``) is paid from the same budget.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

from hub.sources.demo.accounts import Accounts
from hub.sources.demo.book_feeds import BookFeeds
from hub.sources.demo.desk import Desk
from hub.sources.demo.drafts import Draft
from hub.sources.demo.instruments import Instrument
from hub.sources.demo.matching import Fill, MatchingEngine, Outcome, Side
from hub.sources.demo.order_flow import OrderFlow
from hub.sources.demo.private_feeds import publish_opening
from hub.sources.demo.trade_feeds import CandleFeed, TickerFeed, TradeTape

#: Orders before the first publication, at least, so that there are trades to show.
_OPENING_ORDERS = 50


class SimulatedMarket:
    """One market: its engine, its order flow and its feeds. It opens at ``now_ms``, with a book and trades; users
    take part from then on. No side of the book has more than ``depth`` levels."""

    def __init__(
        self,
        instrument: Instrument,
        accounts: Accounts,
        *,
        rng: random.Random,
        order_ids: Iterator[int],
        intervals: Sequence[str],
        depth: int,
        now_ms: int,
    ) -> None:
        self.instrument = instrument
        self.engine = MatchingEngine(order_ids)
        self.desk = Desk(instrument, accounts)
        # As many orders as levels: most prices have one order, and far ones are cancelled before it is too many.
        self._flow = OrderFlow(instrument, self.engine, rng, target=depth, max_levels=depth)
        self._books = BookFeeds(instrument, self.engine)
        self._tape = TradeTape(instrument)
        self._opening = self._open()
        price = self._opening[0][1].price
        self._ticker = TickerFeed(instrument, price)
        self._candles = [CandleFeed(instrument, interval, now_ms, price) for interval in intervals]

    def _open(self) -> list[tuple[Side, Fill]]:
        self._flow.seed_book()
        trades: list[tuple[Side, Fill]] = []
        orders = 0
        while orders < _OPENING_ORDERS or not trades:
            trades += _trades_of(self._flow.step().outcome)
            orders += 1
        self._flow.owners = self.desk
        return trades

    def publish_opening(self, now_ms: int) -> Iterator[Draft]:
        """The first publication of every channel. To be called once, at the time of construction."""
        self._count_trades([fill for _, fill in self._opening], now_ms)
        yield from self._books.publish_opening(now_ms)
        yield self._tape.publish(self._opening, now_ms)
        yield from self.publish_due(now_ms)

    def publish_due(self, now_ms: int) -> Iterator[Draft]:
        """What follows the clock: candles that close, and states whose pace allows it. Then nothing is due."""
        for candle in self._candles:
            yield from candle.publish_due(now_ms)
        yield from self._ticker.publish_due(now_ms, self.engine.bids.best, self.engine.asks.best)

    def publish_order(self, now_ms: int) -> Iterator[Draft]:
        """Draws the next order and publishes what it did. Candles that had to close by now must be closed."""
        step = self._flow.step()
        outcome, first_trade_id = step.outcome, self._tape.next_id
        if outcome.fills:
            self._count_trades(outcome.fills, now_ms)
            yield self._tape.publish(_trades_of(outcome), now_ms)
        yield from self._books.publish_changes(outcome.changes, now_ms)
        yield from self.desk.settle(step, first_trade_id, now_ms)

    def _count_trades(self, fills: Sequence[Fill], now_ms: int) -> None:
        for fill in fills:
            self._ticker.add(fill.price, fill.amount, now_ms)
            for candle in self._candles:
                candle.add(fill.price, fill.amount)


def _trades_of(outcome: Outcome) -> list[tuple[Side, Fill]]:
    return [(outcome.side, fill) for fill in outcome.fills]


class SimulatedExchange:
    """All markets, and the users' accounts. Each market has random numbers of its own; which one is next is drawn
    by weight. Orders' ids are the exchange's, trades' ids their market's."""

    def __init__(
        self,
        instruments: Sequence[Instrument],
        *,
        seed: int,
        intervals: Sequence[str],
        depth: int,
        now_ms: int,
        users: Sequence[str] = (),
    ) -> None:
        self.accounts = Accounts(users, instruments)
        order_ids = itertools.count(1)
        self.markets = [
            SimulatedMarket(
                instrument,
                self.accounts,
                order_ids=order_ids,
                rng=random.Random(f"{seed}:{instrument.market}"),
                intervals=intervals,
                depth=depth,
                now_ms=now_ms,
            )
            for instrument in instruments
        ]
        self._rng = random.Random(seed)
        self._weights = list(itertools.accumulate(instrument.weight for instrument in instruments))

    def publish_opening(self, now_ms: int) -> Iterator[Draft]:
        """The first publication of every channel, to be called once."""
        yield from publish_opening(self.accounts, now_ms)
        for market in self.markets:
            yield from market.publish_opening(now_ms)

    def publish_due(self, now_ms: int) -> Iterator[Draft]:
        """What follows the clock. To be called for each new time, before its orders."""
        for market in self.markets:
            yield from market.publish_due(now_ms)

    def publish_orders(self, now_ms: int, budget: int) -> list[Draft]:
        """Draws orders until they gave ``budget`` publications; all of the last order is in."""
        drafts: list[Draft] = []
        while len(drafts) < budget:
            market = self._rng.choices(self.markets, cum_weights=self._weights)[0]
            drafts.extend(market.publish_order(now_ms))
        return drafts
