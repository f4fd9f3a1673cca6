"""Random orders that make a book look alive, without ever emptying it.

The fair price does a mean-reverting walk (Ornstein-Uhlenbeck on the logarithm), one step per order: a busy
market moves more. Limit orders gather around the fair price, so that one which the walk has carried past the
other side's best trades at once; takers lean towards it too. That is all the price discovery there is.
"""

from __future__ import annotations

import math
import random

from hub.sources.demo.instruments import Instrument
from hub.sources.demo.matching import BookSide, MatchingEngine, Outcome, Side

#: Step of the walk and pull back, per order: prices stay within about 2 % of the reference.
_VOLATILITY = 2e-5
_REVERSION = 2e-6
#: Half of the distance at which limit orders are placed on average, as a part of the price.
_SPREAD = 4e-4
_TAKER_SHARE = 0.27
_CANCEL_SHARE = 0.25
#: People like round prices; that is why levels hold more than one order.
_ROUNDINGS = (1, 1, 1, 2, 5, 10)


class OrderFlow:
    """The traders of one market. ``target`` is how many resting orders a side settles at, about."""

    def __init__(
        self, instrument: Instrument, engine: MatchingEngine, rng: random.Random, *, target: int
    ) -> None:
        self._instrument = instrument
        self._engine = engine
        self._rng = rng
        self._target = target
        self._drift = 0.0
        #: Orders that may still rest; the dead are found out when one is picked.
        self._placed: list[int] = []

    @property
    def fair_price(self) -> float:
        return self._instrument.reference_price * math.exp(self._drift)

    def seed_book(self) -> None:
        """Fills both sides without a trade."""
        fair = self.fair_price
        for _ in range(self._target):
            for side in _SIDES:
                self._remember(self._engine.place_limit(side, self._limit_price(side, fair), self._amount()))

    def step(self) -> Outcome:
        """The next order: it trades, rests or cancels; each changes the book."""
        self._drift += _VOLATILITY * self._rng.gauss(0.0, 1.0) - _REVERSION * self._drift
        roll = self._rng.random()
        if roll < _TAKER_SHARE:
            return self._take()
        crowding = len(self._engine.orders) / (2 * self._target)
        if roll < _TAKER_SHARE + min(_CANCEL_SHARE * crowding**3, 0.7):
            return self._cancel_any() or self._place()
        return self._place()

    def _take(self) -> Outcome:
        """A market order towards the fair price."""
        side = self._taker_side()
        spare = self._spare(side)
        if spare <= 0:
            return self._refill(self._engine.opposite(side))
        return self._engine.place_market(side, min(self._amount(), spare))

    def _place(self) -> Outcome:
        """A limit order, which trades at once where the fair price has left the book behind."""
        side: Side = self._rng.choice(_SIDES)
        price, amount = self._limit_price(side, self.fair_price), self._amount()
        opposite = self._engine.opposite(side)
        if opposite.accepts(price):
            spare = self._spare(side)
            if spare <= 0:
                return self._refill(opposite)
            amount = min(amount, spare)
        return self._remember(self._engine.place_limit(side, price, amount))

    def _refill(self, book_side: BookSide) -> Outcome:
        """Adds to a side that has nothing to spare, behind its best, so that nothing trades."""
        price = book_side.best + 1 if book_side.side == "sell" else max(1, book_side.best - 1)
        return self._remember(self._engine.place_limit(book_side.side, price, self._amount()))

    def _cancel_any(self) -> Outcome | None:
        """Cancels an order at random; none if that might leave its side empty."""
        placed, orders = self._placed, self._engine.orders
        while True:  # neither side is ever empty, so there is an order to be found
            index = self._rng.randrange(len(placed))
            order = orders.get(placed[index])
            if order is not None and len(self._engine.own(order.side)) == 1:
                return None
            placed[index] = placed[-1]
            placed.pop()
            if order is not None:
                return self._engine.cancel(order.order_id)

    def _remember(self, outcome: Outcome) -> Outcome:
        if outcome.amount:
            self._placed.append(outcome.order_id)
        return outcome

    def _taker_side(self) -> Side:
        mid = (self._engine.bids.best + self._engine.asks.best) / 2
        pull = (self.fair_price - mid) / (mid * _SPREAD)
        return "buy" if self._rng.random() < 0.5 + max(-0.4, min(0.4, pull)) else "sell"

    def _spare(self, side: Side) -> int:
        """What an order of ``side`` may take and leave the opposite side's last level untouched."""
        opposite = self._engine.opposite(side)
        return opposite.amount - opposite.levels[-1].amount

    def _amount(self) -> int:
        return 1 + int(self._instrument.typical_amount * self._rng.expovariate(1.0))

    def _limit_price(self, side: Side, fair: float) -> int:
        """Dense around the fair price, with a long tail; rounded away from it, never to it."""
        distance = _SPREAD * fair * self._rng.expovariate(1.0) ** 2 * 0.5
        rounding = self._rng.choice(_ROUNDINGS)
        if side == "buy":
            return max(1, math.ceil((fair - distance) / rounding) * rounding - rounding)
        return math.floor((fair + distance) / rounding) * rounding + rounding


_SIDES: tuple[Side, Side] = ("buy", "sell")
