"""Random orders that make a book look alive, without ever emptying it or letting it grow.

The fair price does a mean-reverting walk (Ornstein-Uhlenbeck on the logarithm), one step per order: a busy
market moves more. Limit orders gather around the fair price, so that one which the walk has carried past the
other side's best trades at once; takers lean towards it too. That is all the price discovery there is. A side
that has as many levels as it may have loses its farthest order before anything else happens.
"""

from __future__ import annotations

import math
import random
from typing import Literal, NamedTuple, Protocol

from hub.sources.demo.instruments import Instrument
from hub.sources.demo.matching import BookSide, MatchingEngine, Outcome, Side

#: Step of the walk and pull back, per order: prices stay within about 2 % of the reference.
_VOLATILITY = 2e-5
_REVERSION = 2e-6
#: Half of the distance at which limit orders are placed on average, as a part of the price.
_SPREAD = 4e-4
_TAKER_SHARE = 0.27
_CANCEL_SHARE = 0.25
#: The part of the orders that belong to somebody with an account, if they can pay for them.
_ACCOUNT_SHARE = 0.1
#: People like round prices; that is why levels hold more than one order.
_ROUNDINGS = (1, 1, 1, 2, 5, 10)

OrderType = Literal["limit", "market", "cancel"]


class Step(NamedTuple):
    """An order of the flow, and what the engine did with it. ``price`` is 0 unless the type is "limit"; ``owner``
    is None for those who have no account, and where an order is cancelled."""

    type: OrderType
    price: int
    amount: int
    owner: str | None
    outcome: Outcome


class Owners(Protocol):
    """Those who have an account."""

    def choose(self, rng: random.Random, side: Side, amount: int, value: int, worst_price: int) -> str | None:
        """Who places an order that takes at most ``value`` (price x amount) at prices up to ``worst_price``; None
        where that is none of them."""
        ...


class OrderFlow:
    """The traders of one market. ``target`` is how many resting orders a side settles at, about; no side ever has
    more than ``max_levels`` levels, which are 2 or more. ``owners`` take part from when they are set."""

    def __init__(
        self,
        instrument: Instrument,
        engine: MatchingEngine,
        rng: random.Random,
        *,
        target: int,
        max_levels: int,
    ) -> None:
        self._instrument = instrument
        self._engine = engine
        self._rng = rng
        self._target = target
        self._max_levels = max_levels
        self._drift = 0.0
        #: Orders that may still rest; the dead are found out when one is picked.
        self._placed: list[int] = []
        self.owners: Owners | None = None

    @property
    def fair_price(self) -> float:
        return self._instrument.reference_price * math.exp(self._drift)

    def seed_book(self) -> None:
        """Fills both sides without a trade, one order at least."""
        fair = self.fair_price
        for _ in range(self._target):
            for side in _SIDES:
                if len(self._engine.own(side)) < self._max_levels:
                    self._place_limit(side, self._limit_price(side, fair), self._amount())

    def step(self) -> Step:
        """The next order: it trades, rests or cancels; each changes the book."""
        self._drift += _VOLATILITY * self._rng.gauss(0.0, 1.0) - _REVERSION * self._drift
        fullest = max(self._engine.bids, self._engine.asks, key=len)
        if len(fullest) >= self._max_levels:
            return self._cancel(next(iter(fullest.levels[-1].orders)))
        roll = self._rng.random()
        if roll < _TAKER_SHARE:
            return self._take()
        crowding = len(self._engine.orders) / (2 * self._target)
        if roll < _TAKER_SHARE + min(_CANCEL_SHARE * crowding**3, 0.7):
            return self._cancel_any() or self._place()
        return self._place()

    def _take(self) -> Step:
        """A market order towards the fair price."""
        side = self._taker_side()
        spare = self._spare(side)
        if spare <= 0:
            return self._refill(self._engine.opposite(side))
        amount = min(self._amount(), spare)
        owner = self._owner(side, amount, *self._engine.sweep(side, amount))
        return Step("market", 0, amount, owner, self._engine.place_market(side, amount))

    def _place(self) -> Step:
        """A limit order, which trades at once where the fair price has left the book behind."""
        side: Side = self._rng.choice(_SIDES)
        price, amount = self._limit_price(side, self.fair_price), self._amount()
        opposite = self._engine.opposite(side)
        if opposite.accepts(price):
            spare = self._spare(side)
            if spare <= 0:
                return self._refill(opposite)
            amount = min(amount, spare)
        return self._place_limit(side, price, amount, self._owner(side, amount, price * amount, price))

    def _refill(self, book_side: BookSide) -> Step:
        """Adds to a side that has nothing to spare, behind its best, so that nothing trades."""
        price = book_side.best + 1 if book_side.side == "sell" else max(1, book_side.best - 1)
        return self._place_limit(book_side.side, price, self._amount())

    def _place_limit(self, side: Side, price: int, amount: int, owner: str | None = None) -> Step:
        outcome = self._engine.place_limit(side, price, amount)
        if outcome.amount:
            self._placed.append(outcome.order_id)
        return Step("limit", price, amount, owner, outcome)

    def _cancel_any(self) -> Step | None:
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
                return self._cancel(order.order_id)

    def _cancel(self, order_id: int) -> Step:
        outcome = self._engine.cancel(order_id)
        return Step("cancel", 0, outcome.amount, None, outcome)

    def _owner(self, side: Side, amount: int, value: int, worst_price: int) -> str | None:
        if self.owners is None or self._rng.random() >= _ACCOUNT_SHARE:
            return None
        return self.owners.choose(self._rng, side, amount, value, worst_price)

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
