"""Where the users' orders in one market are kept, and settled with what the matching engine says of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hub.sources.demo.accounts import WORLD, Accounts
from hub.sources.demo.drafts import Draft
from hub.sources.demo.instruments import Instrument
from hub.sources.demo.matching import Fill, Side
from hub.sources.demo.order_flow import Step
from hub.sources.demo.private_feeds import publish_balances, publish_fill, publish_order
from hub.sources.demo.user_order import UserOrder

#: Fees in hundredths of a percent of what is received.
MAKER_FEE = 10
TAKER_FEE = 20


class Desk:
    """The users' open orders in one market. It is who the order flow asks for owners."""

    def __init__(self, instrument: Instrument, accounts: Accounts) -> None:
        self._instrument = instrument
        self._accounts = accounts
        self._placed = 0
        self.orders: dict[int, UserOrder] = {}

    def choose(self, rng: random.Random, side: Side, amount: int, value: int, worst_price: int) -> str | None:
        """A user at random who has the money and would not trade with an order of their own."""
        if not self._accounts.users:
            return None
        user = rng.choice(self._accounts.users)
        money, asset = self._instrument.amount_money(amount), self._instrument.base
        if side == "buy":
            money, asset = self._instrument.value_money(value), self._instrument.quote
        can_pay = self._accounts.holding(user, asset).available >= money
        return user if can_pay and not self._meets_own(user, side, worst_price) else None

    def _meets_own(self, user: str, side: Side, worst_price: int) -> bool:
        sign = 1 if side == "buy" else -1
        return any(
            order.user == user and order.side != side and order.price * sign <= worst_price * sign
            for order in self.orders.values()
        )

    def settle(self, step: Step, first_trade_id: int, now_ms: int) -> Iterator[Draft]:
        """Moves the users' money, and publishes what became of their orders, each change of each order; then the
        balances. The fills' trades have the ids from ``first_trade_id`` on."""
        if step.type == "cancel":
            yield from self._cancel(step, now_ms)
        taker = None if step.owner is None else self._accept(step, step.owner, now_ms)
        if taker is not None:
            yield publish_order(taker)
        for trade_id, fill in enumerate(step.outcome.fills, first_trade_id):
            yield from self._trade(taker, fill, trade_id, step.outcome.side, now_ms)
        if taker is not None and taker.remaining:
            yield from self._rest(taker)
        yield from publish_balances(self._accounts, now_ms)

    def _accept(self, step: Step, user: str, now_ms: int) -> UserOrder:
        self._placed += 1
        return UserOrder(
            instrument=self._instrument,
            user=user,
            order_id=step.outcome.order_id,
            client_order_id=f"{user}-{self._instrument.market}-{self._placed}",
            type=step.type,
            side=step.outcome.side,
            price=step.price,
            amount=step.amount,
            remaining=step.amount,
            created_at=now_ms,
            updated_at=now_ms,
        )

    def _rest(self, order: UserOrder) -> Iterator[Draft]:
        """What is left of an incoming order goes to the book, or is given up if it has no price."""
        if order.type == "limit":
            self.orders[order.order_id] = order
            self._accounts.lock(order.user, order.given_asset, order.money_for(order.price, order.remaining))
        else:
            order.status = "cancelled"
            yield publish_order(order)

    def _cancel(self, step: Step, now_ms: int) -> Iterator[Draft]:
        order = self.orders.pop(step.outcome.order_id, None)
        if order is None:
            return
        order.status, order.updated_at = "cancelled", now_ms
        money = order.money_for(order.price, order.remaining)
        self._accounts.unlock(order.user, order.given_asset, money)
        yield publish_order(order)

    def _trade(
        self, taker: UserOrder | None, fill: Fill, trade_id: int, side: Side, now_ms: int
    ) -> Iterator[Draft]:
        maker = self.orders.get(fill.maker_id)
        if maker is None and taker is None:
            return
        if maker is not None:
            # It was locked at its own price, which is the price of the trade.
            money = maker.money_for(fill.price, fill.amount)
            self._accounts.unlock(maker.user, maker.given_asset, money)
        buyer, seller = (taker, maker) if side == "buy" else (maker, taker)
        self._exchange(buyer, seller, fill)
        for order, fee in ((taker, TAKER_FEE), (maker, MAKER_FEE)):
            if order is not None:
                yield from self._fill(order, fill, fee, trade_id, now_ms)
        if maker is not None and not maker.remaining:
            del self.orders[maker.order_id]

    def _exchange(self, buyer: UserOrder | None, seller: UserOrder | None, fill: Fill) -> None:
        base, quote = self._instrument.base, self._instrument.quote
        buying = WORLD if buyer is None else buyer.user
        selling = WORLD if seller is None else seller.user
        self._accounts.transfer(selling, buying, base, self._instrument.amount_money(fill.amount))
        self._accounts.transfer(
            buying, selling, quote, self._instrument.value_money(fill.price * fill.amount)
        )

    def _fill(
        self, order: UserOrder, fill: Fill, fee_rate: int, trade_id: int, now_ms: int
    ) -> Iterator[Draft]:
        received = self._instrument.amount_money(fill.amount)
        if order.side == "sell":
            received = self._instrument.value_money(fill.price * fill.amount)
        fee = received * fee_rate // 10_000
        self._accounts.transfer(order.user, WORLD, order.received_asset, fee)
        order.remaining -= fill.amount
        order.value += fill.price * fill.amount
        order.fee += fee
        order.status = "partially_filled" if order.remaining else "filled"
        order.updated_at = now_ms
        yield publish_fill(order, fill, fee, trade_id, is_maker=fee_rate == MAKER_FEE)
        yield publish_order(order)
