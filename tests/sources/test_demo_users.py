"""The demo's users, read as they read it: orders, fills and balances, from payloads alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.sansio.policies import Policy
from hub.sansio.views.catalogue import make_view
from hub.sources.demo.accounts import WORLD, Accounts
from hub.sources.demo.drafts import Draft
from hub.sources.demo.exchange import SimulatedExchange
from hub.sources.demo.instruments import find_instrument

START = 1_740_000_000_000
USERS = ("alice", "bob")
MARKETS = ("btc_tl", "eth_tl", "btc_usdt", "new_market")
FIELDS = {
    "orders": "orderId clientOrderId market status type side price amount filled remaining avgPrice fee"
    " feeAsset createdAt updatedAt",
    "fills": "tradeId orderId clientOrderId market side price amount fee feeAsset isMaker ts",
    "balances": "asset available locked total",
}
OPEN = ("new", "partially_filled")
#: What an order may become. A taker's first change is never that it is cancelled, as it trades or rests first.
NEXT = {
    None: {"new"},
    "new": {"partially_filled", "filled", "cancelled"},
    "partially_filled": {"partially_filled", "filled", "cancelled"},
}


def open_exchange(
    seed: int, users: tuple[str, ...] = USERS, markets: Iterable[str] = MARKETS
) -> SimulatedExchange:
    instruments = [find_instrument(market) for market in markets]
    return SimulatedExchange(instruments, seed=seed, intervals=("1m",), depth=20, now_ms=START, users=users)


def decimals(item: dict[str, Any], *names: str) -> list[Decimal]:
    return [Decimal(item[name]) for name in names]


@attrs.define
class User:
    """Folds what one user is told, and checks each publication against what is known already."""

    trades: dict[tuple[str, int], dict[str, Any]]
    orders: dict[int, dict[str, Any]] = attrs.field(factory=dict)
    fills: dict[int, list[dict[str, Any]]] = attrs.field(factory=lambda: defaultdict(list))
    totals: dict[str, Decimal] = attrs.field(factory=dict)
    balances: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    opening: dict[str, Decimal] = attrs.field(factory=dict)

    def read(self, draft: Draft) -> None:
        payload = msgspec.json.decode(draft.data)
        items = payload if isinstance(payload, list) else [payload]
        assert all(list(item) == FIELDS[draft.channel].split() for item in items)
        assert draft.event is None
        if draft.channel == "orders" and draft.kind is None:
            self.read_order(payload, draft.ts)
        elif draft.channel == "fills":
            self.read_fill(payload, draft.ts)
        elif draft.channel == "balances":
            self.read_balances(payload, is_first=draft.kind == "snapshot")

    def read_order(self, order: dict[str, Any], ts: int) -> None:
        before = self.orders.get(order["orderId"])
        assert order["status"] in NEXT[None if before is None else before["status"]]
        assert order["updatedAt"] == ts >= order["createdAt"]
        constant = ("clientOrderId", "market", "type", "side", "price", "amount", "feeAsset", "createdAt")
        assert before is None or all(order[name] == before[name] for name in constant)
        amount, filled, remaining, fee = decimals(order, "amount", "filled", "remaining", "fee")
        assert filled + remaining == amount > 0
        assert (order["status"] == "filled") == (not remaining)
        assert (filled > 0) if order["status"] == "partially_filled" else True
        fills = self.fills[order["orderId"]]
        assert filled == sum(Decimal(fill["amount"]) for fill in fills)
        assert fee == sum(Decimal(fill["fee"]) for fill in fills)
        self.check_average(order, fills)
        base, _, quote = order["market"].partition("_")
        assert order["feeAsset"] == (base if order["side"] == "buy" else quote)
        self.orders[order["orderId"]] = order

    def check_average(self, order: dict[str, Any], fills: list[dict[str, Any]]) -> None:
        average, filled = decimals(order, "avgPrice", "filled")
        value = sum((Decimal(fill["price"]) * Decimal(fill["amount"]) for fill in fills), Decimal(0))
        if fills:
            unit = Decimal(1).scaleb(average.as_tuple().exponent)  # type: ignore[arg-type]
            assert abs(average - value / filled) <= unit / 2
        else:
            assert average == 0

    def read_fill(self, fill: dict[str, Any], ts: int) -> None:
        order = self.orders[fill["orderId"]]
        assert fill["ts"] == ts
        assert all(fill[name] == order[name] for name in ("clientOrderId", "market", "side", "feeAsset"))
        trade = self.trades[fill["market"], fill["tradeId"]]
        assert all(fill[name] == trade[name] for name in ("price", "amount", "ts"))
        assert fill["isMaker"] == (trade["side"] != fill["side"])
        price, limit = decimals({"price": fill["price"], "limit": order["price"]}, "price", "limit")
        if order["type"] == "limit":
            assert price <= limit if fill["side"] == "buy" else price >= limit
        self.fills[fill["orderId"]].append(fill)
        self.move(fill)

    def move(self, fill: dict[str, Any]) -> None:
        base, _, quote = fill["market"].partition("_")
        price, amount, fee = decimals(fill, "price", "amount", "fee")
        sign = 1 if fill["side"] == "buy" else -1
        self.totals[base] += sign * amount
        self.totals[quote] -= sign * amount * price
        self.totals[fill["feeAsset"]] -= fee

    def read_balances(self, balances: list[dict[str, Any]], *, is_first: bool) -> None:
        assert balances and len({balance["asset"] for balance in balances}) == len(balances)
        for balance in balances:
            available, locked, total = decimals(balance, "available", "locked", "total")
            assert available >= 0 and locked >= 0 and available + locked == total
            asset = balance["asset"]
            if is_first:
                self.totals[asset] = self.opening[asset] = total
                assert not locked
            assert total - self.totals[asset] in (0, self.opening[asset]), (
                "only a deposit is not told elsewhere"
            )
            self.totals[asset] = total
            self.balances[asset] = balance

    def check_rest(self) -> None:
        """Between two orders all is told: what is locked is what open orders need, and every total is known."""
        locked: dict[str, Decimal] = defaultdict(Decimal)
        for order in self.orders.values():
            if order["status"] in OPEN:
                base, _, quote = order["market"].partition("_")
                price, remaining = decimals(order, "price", "remaining")
                if order["side"] == "buy":
                    locked[quote] += price * remaining
                else:
                    locked[base] += remaining
        for asset, balance in self.balances.items():
            assert Decimal(balance["locked"]) == locked[asset]
            assert Decimal(balance["total"]) == self.totals[asset]


@attrs.define
class Witness:
    """All users, and the trades that their fills must be among."""

    trades: dict[tuple[str, int], dict[str, Any]] = attrs.field(factory=dict)
    users: dict[str, User] = attrs.field(factory=dict)

    def read(self, drafts: Iterable[Draft]) -> None:
        for draft in drafts:
            if draft.user is not None:
                self.users.setdefault(draft.user, User(self.trades)).read(draft)
            elif draft.channel.startswith("trades@"):
                market = draft.channel.partition("@")[2]
                for trade in msgspec.json.decode(draft.data):
                    self.trades[market, trade["tradeId"]] = trade
        for user in self.users.values():
            user.check_rest()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), pauses=st.lists(st.integers(0, 2_000), max_size=60))
def test_what_users_are_told_is_consistent(seed: int, pauses: list[int]) -> None:
    exchange, witness, now = open_exchange(seed), Witness(), START
    witness.read(exchange.publish_opening(now))
    assert set(witness.users) == set(USERS)
    for pause in pauses:
        now += pause
        for market in exchange.markets:
            witness.read(market.publish_order(now))
        check_books(exchange, witness)


def check_books(exchange: SimulatedExchange, witness: Witness) -> None:
    """The users' open orders rest in the engines' books, with what remains of them."""
    told = {
        (order["market"], order["orderId"]): order["remaining"]
        for user in witness.users.values()
        for order in user.orders.values()
        if order["status"] in OPEN
    }
    resting = {
        (market.instrument.market, order_id): market.instrument.amount_text(
            market.engine.orders[order_id].amount
        )
        for market in exchange.markets
        for order_id in market.desk.orders
    }
    assert told == resting


def test_every_kind_of_life_happens() -> None:
    exchange, witness = open_exchange(3), Witness()
    witness.read(exchange.publish_opening(START))
    lives: dict[tuple[str, int], list[str]] = defaultdict(list)
    makers: Counter[bool] = Counter()
    for _ in range(4_000):
        for draft in exchange.publish_orders(START, 1):
            payload = msgspec.json.decode(draft.data)
            if draft.channel == "orders" and draft.user is not None:
                lives[draft.user, payload["orderId"]].append(f"{payload['type']} {payload['status']}")
            elif draft.channel == "fills":
                makers[payload["isMaker"]] += 1
    seen = set(map(tuple, lives.values()))
    assert {
        ("limit new",),
        ("limit new", "limit cancelled"),
        ("limit new", "limit filled"),
        ("limit new", "limit partially_filled", "limit filled"),
        ("limit new", "limit partially_filled", "limit cancelled"),
        ("market new", "market filled"),
        ("market new", "market partially_filled", "market filled"),
    } <= seen
    assert makers[True] > 100 and makers[False] > 100


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_money_is_neither_made_nor_lost(seed: int) -> None:
    exchange = open_exchange(seed)
    accounts = exchange.accounts
    for _ in range(300):
        exchange.publish_orders(START, 1)
        for asset in accounts.opening:
            holdings = [accounts.holding(owner, asset) for owner in (*USERS, WORLD)]
            assert sum(holding.total for holding in holdings) == 0
            assert all(holding.available >= 0 and holding.locked >= 0 for holding in holdings[:-1])


def test_who_has_little_left_gets_a_deposit() -> None:
    accounts = Accounts(("alice",), [find_instrument("btc_tl")])
    opening = accounts.opening["btc"]
    accounts.take_changed()
    accounts.transfer("alice", WORLD, "btc", opening - opening // 10)
    assert accounts.take_changed() == [("alice", ["btc"])]
    assert accounts.holding("alice", "btc").total == opening // 10
    accounts.lock("alice", "btc", 1)
    assert accounts.take_changed() == [("alice", ["btc"])]
    assert accounts.holding("alice", "btc").total == opening // 10 + opening
    assert accounts.take_changed() == []


def test_nobody_can_spend_what_they_do_not_have() -> None:
    accounts = Accounts(("alice",), [find_instrument("btc_tl")])
    opening = accounts.opening["tl"]
    accounts.lock("alice", "tl", opening)
    with pytest.raises(ValueError, match="alice has"):
        accounts.transfer("alice", WORLD, "tl", 1)
    with pytest.raises(ValueError, match="alice has"):
        accounts.lock("alice", "tl", 1)
    with pytest.raises(ValueError, match="alice has"):
        accounts.unlock("alice", "tl", opening + 1)


def test_users_do_not_trade_with_themselves() -> None:
    exchange = open_exchange(5, ("alice",))
    list(exchange.publish_opening(START))
    fills = [
        msgspec.json.decode(draft.data)
        for draft in exchange.publish_orders(START, 20_000)
        if draft.channel == "fills"
    ]
    assert len(fills) > 500
    assert len({(fill["market"], fill["tradeId"]) for fill in fills}) == len(fills)


def test_there_need_not_be_users() -> None:
    exchange = open_exchange(1, ())
    drafts = [*exchange.publish_opening(START), *exchange.publish_orders(START, 1_000)]
    assert all(draft.user is None and "@" in draft.channel for draft in drafts)


def test_the_hubs_views_take_it_all_and_agree() -> None:
    """Complete payloads of channels.md, folded as the hub folds them."""
    policies = {
        "orders": Policy(pattern="orders", snapshot="orders", payload="order", payload_complete=True),
        "fills": Policy(pattern="fills", payload="fill", payload_complete=True),
        "balances": Policy(pattern="balances", snapshot="balances", payload="balance", payload_complete=True),
    }
    views = {(user, name): make_view(policy) for user in USERS for name, policy in policies.items()}
    exchange, witness = open_exchange(9), Witness()
    drafts = [*exchange.publish_opening(START), *exchange.publish_orders(START, 5_000)]
    witness.read(drafts)
    for draft in drafts:
        if draft.user is not None:
            view = views[draft.user, draft.channel]
            view.fold(view.parse(draft.data, draft.kind))
    for name, user in witness.users.items():
        orders = msgspec.json.decode(views[name, "orders"].render() or b"null")
        assert orders == [order for order in user.orders.values() if order["status"] in OPEN]
        assert orders
        balances = msgspec.json.decode(views[name, "balances"].render() or b"null")
        assert balances == list(user.balances.values())
