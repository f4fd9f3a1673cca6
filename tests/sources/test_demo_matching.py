"""The matching engine against a naive model: one list of orders, searched from end to end."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.sources.demo.matching import BookSide, MatchingEngine, Outcome, Side

SIDES = st.sampled_from(("buy", "sell"))
PRICES = st.integers(90, 110)
AMOUNTS = st.integers(1, 30)


@attrs.define
class NaiveOrder:
    order_id: int
    side: Side
    price: int
    amount: int


class MatchingMachine(RuleBasedStateMachine):
    """Random orders to the engine and to the model; both must agree on fills and on the book."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = MatchingEngine()
        self.resting: list[NaiveOrder] = []  # in order of arrival
        self.placed = self.traded = self.given_up = self.cancelled = 0
        self.levels: dict[tuple[Side, int], int] = {}

    @rule(side=SIDES, price=PRICES, amount=AMOUNTS)
    def limit(self, side: Side, price: int, amount: int) -> None:
        fills = self.match(side, price, amount)
        outcome = self.engine.place_limit(side, price, amount)
        self.check(outcome, fills, amount)
        if outcome.amount:
            self.resting.append(NaiveOrder(outcome.order_id, side, price, outcome.amount))

    @rule(side=SIDES, amount=AMOUNTS)
    def market(self, side: Side, amount: int) -> None:
        fills = self.match(side, None, amount)
        value = sum(price * taken for _, price, taken in fills)
        assert self.engine.sweep(side, amount) == (value, fills[-1][1] if fills else 0)
        outcome = self.engine.place_market(side, amount)
        self.check(outcome, fills, amount)
        self.given_up += outcome.amount

    @precondition(lambda self: self.resting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(self.resting))
        outcome = self.engine.cancel(order.order_id)
        assert (outcome.amount, outcome.fills) == (order.amount, [])
        self.resting.remove(order)
        self.cancelled += outcome.amount
        self.apply(outcome)

    def match(self, side: Side, limit: int | None, amount: int) -> list[tuple[int, int, int]]:
        """What price-time priority says, by the book of rules: fills as (maker, price, amount)."""
        sign = 1 if side == "buy" else -1
        makers = [
            order
            for order in self.resting
            if order.side != side and (limit is None or order.price * sign <= limit * sign)
        ]
        makers.sort(key=lambda order: order.price * sign)  # stable: older first within a price
        fills: list[tuple[int, int, int]] = []
        for maker in makers:
            taken = min(amount, maker.amount)
            if taken:
                fills.append((maker.order_id, maker.price, taken))
            amount -= taken
            maker.amount -= taken
        self.resting = [order for order in self.resting if order.amount]
        return fills

    def check(self, outcome: Outcome, fills: list[tuple[int, int, int]], amount: int) -> None:
        assert [tuple(fill) for fill in outcome.fills] == fills
        filled = sum(fill.amount for fill in outcome.fills)
        assert filled + outcome.amount == amount
        self.placed += amount
        self.traded += filled
        self.apply(outcome)

    def apply(self, outcome: Outcome) -> None:
        for side, price, amount in outcome.changes:
            self.levels[side, price] = amount

    @invariant()
    def never_crossed(self) -> None:
        if self.engine.bids and self.engine.asks:
            assert self.engine.bids.best < self.engine.asks.best

    @invariant()
    def same_book(self) -> None:
        assert _ids(self.engine.bids) == _model_ids(self.resting, "buy")
        assert _ids(self.engine.asks) == _model_ids(self.resting, "sell")
        assert set(self.engine.orders) == {order.order_id for order in self.resting}

    @invariant()
    def sums_agree(self) -> None:
        for side in (self.engine.bids, self.engine.asks):
            for level in side.levels:
                assert level.amount == sum(order.amount for order in level.orders.values()) > 0
            assert side.amount == sum(level.amount for level in side.levels)

    @invariant()
    def nothing_appears_or_is_lost(self) -> None:
        resting = self.engine.bids.amount + self.engine.asks.amount
        # A trade takes its amount from the incoming and from the resting order.
        assert self.placed == resting + 2 * self.traded + self.given_up + self.cancelled

    @invariant()
    def changes_tell_the_whole_book(self) -> None:
        told = {key: amount for key, amount in self.levels.items() if amount}
        assert told == {
            (side.side, level.price): level.amount
            for side in (self.engine.bids, self.engine.asks)
            for level in side.levels
        }


def _ids(side: BookSide) -> list[tuple[int, list[int]]]:
    return [(level.price, list(level.orders)) for level in side.levels]


def _model_ids(resting: Iterable[NaiveOrder], side: Side) -> list[tuple[int, list[int]]]:
    own = [order for order in resting if order.side == side]
    prices = sorted({order.price for order in own}, reverse=side == "buy")
    return [(price, [order.order_id for order in own if order.price == price]) for price in prices]


TestMatching = MatchingMachine.TestCase


def test_update_id_grows_only_when_the_book_changed() -> None:
    engine = MatchingEngine()
    engine.place_market("buy", 5)
    assert engine.update_id == 0
    order = engine.place_limit("sell", 100, 5)
    engine.place_market("buy", 2)
    engine.cancel(order.order_id)
    assert engine.update_id == 3


def test_engines_can_share_their_order_ids() -> None:
    order_ids = itertools.count(7)
    engines = [MatchingEngine(order_ids) for _ in range(2)]
    assert [engine.place_limit("buy", 100, 1).order_id for engine in engines * 2] == [7, 8, 9, 10]


@pytest.mark.parametrize("price, amount", [(0, 1), (-1, 1), (1, 0), (1, -1)])
def test_only_positive_orders_are_taken(price: int, amount: int) -> None:
    engine = MatchingEngine()
    with pytest.raises(ValueError):
        engine.place_limit("buy", price, amount)
    assert not engine.bids


def test_what_does_not_rest_cannot_be_cancelled() -> None:
    with pytest.raises(KeyError):
        MatchingEngine().cancel(1)
