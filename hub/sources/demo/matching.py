"""A matching engine with price-time priority, for one market.

An incoming order trades with the best opposite level first and, within a level, with the order that came
first, always at the resting order's price. So the book is never crossed between two calls. Prices and
amounts are positive integers.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator
from typing import Literal, NamedTuple

import attrs

Side = Literal["buy", "sell"]


@attrs.define
class Order:
    """A resting order; ``amount`` is what is left of it."""

    order_id: int
    side: Side
    price: int
    amount: int


class Fill(NamedTuple):
    """A trade between an incoming order and the resting order ``maker_id``, at the latter's price."""

    maker_id: int
    price: int
    amount: int


class LevelChange(NamedTuple):
    """The new total amount at a price; 0 when the level is gone."""

    side: Side
    price: int
    amount: int


@attrs.define
class Outcome:
    """What one order or cancel did.

    ``amount`` is what the fills left of the order: it rests in the book after a limit order, is given up
    after a market order, and is what was taken out by a cancel.
    """

    order_id: int
    side: Side
    amount: int
    fills: list[Fill] = attrs.field(factory=list)
    changes: list[LevelChange] = attrs.field(factory=list)


class Level:
    """The orders at one price, oldest first, and the sum of their amounts."""

    __slots__ = ("amount", "orders", "price")

    def __init__(self, price: int) -> None:
        self.price = price
        self.amount = 0
        self.orders: dict[int, Order] = {}

    def add(self, order: Order) -> None:
        self.orders[order.order_id] = order
        self.amount += order.amount

    def remove(self, order: Order) -> None:
        del self.orders[order.order_id]
        self.amount -= order.amount


class BookSide:
    """The levels of one side, best first.

    They are kept in plain lists, sorted by a key that grows away from the best price: with the few hundred
    levels that a book has here, moving a list's tail is cheaper than any tree.
    """

    __slots__ = ("_keys", "_sign", "amount", "levels", "side")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.levels: list[Level] = []
        self.amount = 0
        self._sign = 1 if side == "sell" else -1
        self._keys: list[int] = []

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def best(self) -> int:
        """The best price. Raises IndexError on an empty side."""
        return self.levels[0].price

    def accepts(self, limit: int) -> bool:
        """Whether an incoming order with this limit price would trade with the best level."""
        return bool(self.levels) and self._keys[0] <= limit * self._sign

    def add(self, order: Order) -> LevelChange:
        key = order.price * self._sign
        index = bisect_left(self._keys, key)
        if index == len(self._keys) or self._keys[index] != key:
            self._keys.insert(index, key)
            self.levels.insert(index, Level(order.price))
        level = self.levels[index]
        level.add(order)
        self.amount += order.amount
        return LevelChange(self.side, level.price, level.amount)

    def remove(self, order: Order) -> LevelChange:
        index = bisect_left(self._keys, order.price * self._sign)
        level = self.levels[index]
        level.remove(order)
        self.amount -= order.amount
        if not level.orders:
            del self._keys[index], self.levels[index]
        return LevelChange(self.side, level.price, level.amount)

    def fill_best(self, amount: int) -> list[tuple[Order, int]]:
        """Takes up to ``amount`` from the best level: the orders that were hit, and by how much."""
        level = self.levels[0]
        hits: list[tuple[Order, int]] = []
        while amount and level.orders:
            order = next(iter(level.orders.values()))
            taken = min(amount, order.amount)
            amount -= taken
            order.amount -= taken
            level.amount -= taken
            self.amount -= taken
            if not order.amount:
                del level.orders[order.order_id]
            hits.append((order, taken))
        if not level.orders:
            del self._keys[0], self.levels[0]
        return hits


class MatchingEngine:
    """The book of one market and the rules by which it changes.

    ``update_id`` grows by one with every call that changed the book. ``order_ids`` gives orders their ids; engines
    that share it have no id in common.
    """

    def __init__(self, order_ids: Iterator[int] | None = None) -> None:
        self.bids = BookSide("buy")
        self.asks = BookSide("sell")
        self.orders: dict[int, Order] = {}
        self.update_id = 0
        self._order_ids = itertools.count(1) if order_ids is None else order_ids

    def place_limit(self, side: Side, price: int, amount: int) -> Outcome:
        """Trades as far as ``price`` allows; the rest stays in the book."""
        if price <= 0:
            raise ValueError(f"price {price} is not positive")
        outcome = self._accept(side, amount)
        self._match(outcome, price)
        if outcome.amount:
            order = Order(outcome.order_id, side, price, outcome.amount)
            self.orders[order.order_id] = order
            outcome.changes.append(self.own(side).add(order))
        self.update_id += 1
        return outcome

    def place_market(self, side: Side, amount: int) -> Outcome:
        """Trades at any price; what the book cannot fill is given up."""
        outcome = self._accept(side, amount)
        self._match(outcome, None)
        self.update_id += bool(outcome.changes)
        return outcome

    def cancel(self, order_id: int) -> Outcome:
        """Takes an order out of the book. Raises KeyError for an order that does not rest there."""
        order = self.orders.pop(order_id)
        change = self.own(order.side).remove(order)
        self.update_id += 1
        return Outcome(order_id, order.side, order.amount, changes=[change])

    def sweep(self, side: Side, amount: int) -> tuple[int, int]:
        """What a market order would come to: the sum of price x amount, and the last price; 0 where it would not
        trade at all. Changes nothing."""
        value = price = 0
        for level in self.opposite(side).levels:
            taken = min(amount, level.amount)
            value, price, amount = value + taken * level.price, level.price, amount - taken
            if not amount:
                break
        return value, price

    def _accept(self, side: Side, amount: int) -> Outcome:
        if amount <= 0:
            raise ValueError(f"amount {amount} is not positive")
        return Outcome(next(self._order_ids), side, amount)

    def _match(self, outcome: Outcome, limit: int | None) -> None:
        opposite = self.opposite(outcome.side)
        while outcome.amount and (len(opposite) if limit is None else opposite.accepts(limit)):
            level = opposite.levels[0]
            for order, taken in opposite.fill_best(outcome.amount):
                outcome.amount -= taken
                outcome.fills.append(Fill(order.order_id, level.price, taken))
                if not order.amount:
                    del self.orders[order.order_id]
            outcome.changes.append(LevelChange(opposite.side, level.price, level.amount))

    def own(self, side: Side) -> BookSide:
        """The side that an order of ``side`` rests on."""
        return self.bids if side == "buy" else self.asks

    def opposite(self, side: Side) -> BookSide:
        """The side that an order of ``side`` trades with."""
        return self.asks if side == "buy" else self.bids
