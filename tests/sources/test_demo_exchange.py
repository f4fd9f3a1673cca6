"""The simulated exchange, read as a client reads it: from payloads alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import attrs
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.sources.demo.accounts import Accounts
from hub.sources.demo.drafts import Draft
from hub.sources.demo.exchange import SimulatedExchange, SimulatedMarket
from hub.sources.demo.instruments import find_instrument
from hub.sources.demo.matching import MatchingEngine
from hub.sources.demo.order_flow import OrderFlow
from hub.sources.demo.trade_feeds import INTERVALS

START = 1_740_000_000_000
MARKETS = ("btc_tl", "eth_tl", "btc_usdt", "eth_usdt", "avax_tl", "sol_usdt", "new_market")

FIELDS = {
    "ticker": "last bid ask high low vol quoteVol change openPrice closeTime tradeCount",
    "orderbook": "bids asks",
    "trade": "tradeId price amount side ts",
    "kline": "openTime closeTime open high low close vol quoteVol tradeCount closed",
    "bbo": "bid bidQty ask askQty",
}
SIDES = ("bids", "asks")


def open_market(market: str = "btc_tl", seed: int = 1, depth: int = 50, *intervals: str) -> SimulatedMarket:
    instrument = find_instrument(market)
    return SimulatedMarket(
        instrument,
        Accounts(("alice", "bob"), [instrument]),
        rng=random.Random(seed),
        order_ids=itertools.count(1),
        intervals=intervals or ("1m", "5m"),
        depth=depth,
        now_ms=START,
    )


def open_exchange(
    seed: int = 1, markets: Iterable[str] = MARKETS, users: tuple[str, ...] = ("alice", "bob")
) -> SimulatedExchange:
    return SimulatedExchange(
        [find_instrument(market) for market in markets],
        seed=seed,
        intervals=("1m",),
        depth=20,
        now_ms=START,
        users=users,
    )


Book = dict[str, dict[str, str]]


def whole(book: Book) -> dict[str, list[tuple[str, str]]]:
    """The book as a snapshot has it: the best first."""
    return {
        side: sorted(book[side].items(), key=lambda level: Decimal(level[0]), reverse=side == "bids")
        for side in SIDES
    }


@attrs.define
class Reader:
    """Folds one market's publications and checks each against what it already knows."""

    states: dict[str, Any] = attrs.field(factory=dict)
    book: Book = attrs.field(factory=dict)
    trades: list[dict[str, Any]] = attrs.field(factory=list)
    last_update_id: int = 0
    published_at: dict[str, int] = attrs.field(factory=dict)

    def read(self, drafts: Iterable[Draft]) -> None:
        for draft in drafts:
            if draft.user is not None:
                continue
            kind = draft.channel.partition("@")[0]
            payload = msgspec.json.decode(draft.data)
            assert msgspec.json.encode(payload) == draft.data, "compact, in UTF-8"
            assert draft.event is None, "the namespaces name them"
            self.check(kind, payload, draft)
            self.states[kind] = payload

    def check(self, kind: str, payload: Any, draft: Draft) -> None:
        match kind.partition("."):
            case ("trades", _, _):
                self.check_trades(payload, draft)
            case ("orderbook", _, ""):
                self.check_book(payload, draft)
            case ("kline", _, interval):
                self.check_candle(INTERVALS[interval], payload)
            case ("bbo", _, _):
                self.check_best(payload)
            case _:
                self.check_ticker(payload, draft)

    def check_trades(self, payload: Any, draft: Draft) -> None:
        assert payload
        for trade in payload:
            assert list(trade) == FIELDS["trade"].split()
            assert trade["tradeId"] == len(self.trades) + 1
            assert trade["ts"] == draft.ts
            self.trades.append(trade)
        assert len({trade["side"] for trade in payload}) == 1 or len(self.trades) == len(payload)

    def check_book(self, payload: Any, draft: Draft) -> None:
        assert list(payload) == FIELDS["orderbook"].split()
        assert draft.last_update_id is not None
        if draft.kind == "snapshot":
            assert not self.book, "once"
            self.book = {side: dict(payload[side]) for side in SIDES}
            assert {side: [tuple(level) for level in payload[side]] for side in SIDES} == whole(self.book)
        else:
            assert (draft.kind, draft.last_update_id) == ("delta", self.last_update_id + 1)
            self.apply(payload)
        self.last_update_id = draft.last_update_id
        assert all(Decimal(amount) > 0 for side in SIDES for amount in self.book[side].values())
        best = self.best_of_book()
        assert Decimal(best["bid"]) < Decimal(best["ask"])

    def apply(self, delta: dict[str, list[list[str]]]) -> None:
        """As a client does it. A delta says nothing that is known."""
        assert any(delta.values())
        for side in SIDES:
            assert len({price for price, _ in delta[side]}) == len(delta[side])
            for price, amount in delta[side]:
                assert self.book[side].get(price, "0") != amount
                self.book[side][price] = amount
                if not Decimal(amount):
                    del self.book[side][price]

    def check_best(self, payload: Any) -> None:
        assert payload == self.best_of_book()
        assert payload != self.states.get("bbo")

    def best_of_book(self) -> dict[str, str]:
        (bid, bid_qty), (ask, ask_qty) = (levels[0] for levels in whole(self.book).values())
        return {"bid": bid, "bidQty": bid_qty, "ask": ask, "askQty": ask_qty}

    def check_candle(self, length: int, payload: Any) -> None:
        assert list(payload) == FIELDS["kline"].split()
        assert payload["openTime"] % length == 0
        assert payload["closeTime"] == payload["openTime"] + length - 1
        trades = [t for t in self.trades if payload["openTime"] <= t["ts"] <= payload["closeTime"]]
        check_bar(payload, trades)

    def check_ticker(self, payload: Any, draft: Draft) -> None:
        assert list(payload) == FIELDS["ticker"].split()
        assert draft.ts - self.published_at.get(draft.channel, 0) >= 500
        self.published_at[draft.channel] = draft.ts
        best = self.best_of_book()
        assert (payload["bid"], payload["ask"]) == (best["bid"], best["ask"])
        assert payload["last"] == self.trades[-1]["price"]
        assert Decimal(payload["change"]) == Decimal(payload["last"]) - Decimal(payload["openPrice"])
        assert payload["openPrice"] == self.trades[0]["price"]
        assert payload["closeTime"] == draft.ts
        check_bar(payload, self.trades)


def check_bar(bar: dict[str, Any], trades: list[dict[str, Any]]) -> None:
    """``high low vol quoteVol tradeCount``, and in candles ``open close``, are those of the trades."""
    assert bar["tradeCount"] == len(trades)
    assert Decimal(bar["vol"]) == sum(Decimal(trade["amount"]) for trade in trades)
    assert Decimal(bar["quoteVol"]) == sum(Decimal(t["price"]) * Decimal(t["amount"]) for t in trades)
    if trades:
        prices = [Decimal(trade["price"]) for trade in trades]
        assert (Decimal(bar["high"]), Decimal(bar["low"])) == (max(prices), min(prices))
        assert bar.get("open", trades[0]["price"]) == trades[0]["price"]
        assert bar.get("close", trades[-1]["price"]) == trades[-1]["price"]
    elif "close" in bar:
        assert bar["open"] == bar["high"] == bar["low"] == bar["close"]


@settings(max_examples=30, deadline=None)
@given(
    market=st.sampled_from(MARKETS),
    seed=st.integers(0, 2**32),
    pauses=st.lists(st.integers(0, 90_000), max_size=40),
)
def test_all_feeds_agree_at_every_moment(market: str, seed: int, pauses: list[int]) -> None:
    simulated, reader, now = open_market(market, seed), Reader(), START
    reader.read(simulated.publish_opening(now))
    for pause in pauses:
        now += pause
        reader.read(simulated.publish_due(now))
        for _ in range(5):
            book = whole(reader.book)
            known = len(reader.trades)
            reader.read(simulated.publish_order(now))
            check_prints(book, reader.trades[known:])
            assert reader.states["bbo"] == reader.best_of_book()
            check_engine(simulated, reader)


def check_prints(book: dict[str, list[tuple[str, str]]], trades: list[dict[str, Any]]) -> None:
    """Trades print at prices that were in the book, best first, and take no more than was there."""
    if not trades:
        return
    levels = book["asks" if trades[0]["side"] == "buy" else "bids"]
    printed = [(price, list(group)) for price, group in itertools.groupby(trades, key=lambda t: t["price"])]
    assert [price for price, _ in printed] == [price for price, _ in levels[: len(printed)]]
    for (_, group), (_, amount) in zip(printed, levels, strict=False):
        assert sum(Decimal(trade["amount"]) for trade in group) <= Decimal(amount)


def check_engine(simulated: SimulatedMarket, reader: Reader) -> None:
    """Snapshot and deltas are the engine's book, at this update."""
    instrument = simulated.instrument
    assert reader.last_update_id == simulated.engine.update_id
    sides = (simulated.engine.bids, simulated.engine.asks)
    assert whole(reader.book) == {
        name: [
            (instrument.price_text(level.price), instrument.amount_text(level.amount))
            for level in side.levels
        ]
        for name, side in zip(SIDES, sides, strict=True)
    }


def test_every_channel_has_a_first_state() -> None:
    reader = Reader()
    reader.read(open_market().publish_opening(START))
    assert set(reader.states) == {"orderbook", "bbo", "trades", "ticker", "kline.1m", "kline.5m"}


@settings(max_examples=20, deadline=None)
@given(market=st.sampled_from(MARKETS), seed=st.integers(0, 2**32), depth=st.integers(20, 100))
def test_a_book_stays_within_its_depth(market: str, seed: int, depth: int) -> None:
    engine = (simulated := open_market(market, seed, depth)).engine
    for _ in range(500):
        for _ in simulated.publish_order(START):
            pass
        assert 0 < len(engine.bids) <= depth and 0 < len(engine.asks) <= depth


def test_a_book_keeps_two_sides_and_its_price() -> None:
    for market in MARKETS:
        simulated = open_market(market, 7, 100)
        reference = simulated.instrument.reference_price
        for _ in range(5_000):
            for _ in simulated.publish_order(START):
                pass
            assert simulated.engine.bids and simulated.engine.asks
        assert len(simulated.engine.bids) > 20 and len(simulated.engine.asks) > 20
        assert len(simulated.engine.orders) < 500
        assert abs(simulated.engine.bids.best / reference - 1) < 0.1


@given(
    reference=st.integers(1, 1_000),
    amount=st.integers(0, 5),
    target=st.integers(1, 4),
    levels=st.integers(2, 5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=50, deadline=None)
def test_not_even_a_tiny_book_runs_empty(
    reference: int, amount: int, target: int, levels: int, seed: int
) -> None:
    instrument = attrs.evolve(find_instrument("btc_tl"), reference_price=reference, typical_amount=amount)
    engine = MatchingEngine()
    flow = OrderFlow(instrument, engine, random.Random(seed), target=target, max_levels=levels)
    flow.seed_book()
    for _ in range(100):
        update_id = engine.update_id
        outcome = flow.step().outcome
        assert outcome.changes and engine.update_id == update_id + 1
        assert engine.bids and engine.asks and engine.bids.best < engine.asks.best
        assert len(engine.bids) <= levels and len(engine.asks) <= levels


def test_the_same_seed_is_the_same_day() -> None:
    def run(seed: int, budget: int) -> list[Draft]:
        exchange = open_exchange(seed)
        drafts = [*exchange.publish_opening(START)]
        for now in range(START, START + 5_000, 10):
            drafts += exchange.publish_due(now)
            drafts += exchange.publish_orders(now, budget)
        return drafts

    first = run(1, 3)
    assert run(1, 3) == first
    assert run(2, 3) != first


def test_orders_stop_at_the_budget() -> None:
    exchange = open_exchange(users=())
    list(exchange.publish_opening(START))
    assert exchange.publish_orders(START, 0) == []
    for budget in range(1, 60):
        assert budget <= len(exchange.publish_orders(START, budget)) <= budget + 2


def test_all_markets_are_served_by_weight() -> None:
    exchange = open_exchange(markets=("btc_tl", "avax_tl"), users=())
    drafts = exchange.publish_orders(START, 20_000)
    count = {market: sum(market in draft.channel for draft in drafts) for market in ("btc_tl", "avax_tl")}
    assert 3 < count["btc_tl"] / count["avax_tl"] < 5
