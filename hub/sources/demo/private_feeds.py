"""What users are told of their own: ``orders``, ``fills`` and ``balances`` (channels.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from hub.sources.demo.accounts import Accounts
from hub.sources.demo.drafts import Draft
from hub.sources.demo.instruments import decimal_text, money_text
from hub.sources.demo.matching import Fill, Side
from hub.sources.demo.order_flow import OrderType
from hub.sources.demo.user_order import Status, UserOrder

#: An average price has two decimals more than prices have; it is rounded half up.
_AVERAGE_DECIMALS = 2
_AVERAGE_UNITS = 100

_encode = msgspec.json.Encoder().encode


class _Order(msgspec.Struct, rename="camel"):
    order_id: int
    client_order_id: str
    market: str
    status: Status
    type: OrderType
    side: Side
    price: str
    amount: str
    filled: str
    remaining: str
    avg_price: str
    fee: str
    fee_asset: str
    created_at: int
    updated_at: int


class _Fill(msgspec.Struct, rename="camel"):
    trade_id: int
    order_id: int
    client_order_id: str
    market: str
    side: Side
    price: str
    amount: str
    fee: str
    fee_asset: str
    is_maker: bool
    ts: int


class _Balance(msgspec.Struct):
    asset: str
    available: str
    locked: str
    total: str


def publish_order(order: UserOrder) -> Draft:
    """The order as it is now."""
    instrument = order.instrument
    payload = _Order(
        order.order_id,
        order.client_order_id,
        instrument.market,
        order.status,
        order.type,
        order.side,
        instrument.price_text(order.price),
        instrument.amount_text(order.amount),
        instrument.amount_text(order.filled),
        instrument.amount_text(order.remaining),
        decimal_text(_average(order), instrument.price_decimals + _AVERAGE_DECIMALS),
        money_text(order.fee),
        order.received_asset,
        order.created_at,
        order.updated_at,
    )
    return Draft("orders", _encode(payload), order.updated_at, user=order.user)


def _average(order: UserOrder) -> int:
    if not order.filled:
        return 0
    return (2 * order.value * _AVERAGE_UNITS + order.filled) // (2 * order.filled)


def publish_fill(order: UserOrder, fill: Fill, fee: int, trade_id: int, *, is_maker: bool) -> Draft:
    """One trade of the order, which happened when the order was updated last."""
    instrument = order.instrument
    payload = _Fill(
        trade_id,
        order.order_id,
        order.client_order_id,
        instrument.market,
        order.side,
        instrument.price_text(fill.price),
        instrument.amount_text(fill.amount),
        money_text(fee),
        order.received_asset,
        is_maker,
        order.updated_at,
    )
    return Draft("fills", _encode(payload), order.updated_at, user=order.user)


def publish_balances(accounts: Accounts, now_ms: int) -> Iterator[Draft]:
    """For each user whose money moved, the assets that it was in."""
    for user, assets in accounts.take_changed():
        yield Draft("balances", _balances(accounts, user, assets), now_ms, kind="delta", user=user)


def publish_opening(accounts: Accounts, now_ms: int) -> Iterator[Draft]:
    """The state that each user begins with: all balances, and no order."""
    for user, assets in accounts.take_changed():
        balances = _balances(accounts, user, assets)
        yield Draft("balances", balances, now_ms, kind="snapshot", user=user)
        yield Draft("orders", b"[]", now_ms, kind="snapshot", user=user)


def _balances(accounts: Accounts, user: str, assets: Iterable[str]) -> bytes:
    return _encode([_balance(accounts, user, asset) for asset in assets])


def _balance(accounts: Accounts, user: str, asset: str) -> _Balance:
    holding = accounts.holding(user, asset)
    return _Balance(
        asset, money_text(holding.available), money_text(holding.locked), money_text(holding.total)
    )
