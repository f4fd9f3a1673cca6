"""An order of a user, from the moment it comes in until it is done with."""

from __future__ import annotations

from typing import Literal

import attrs

from hub.sources.demo.instruments import Instrument
from hub.sources.demo.matching import Side
from hub.sources.demo.order_flow import OrderType

Status = Literal["new", "partially_filled", "filled", "cancelled"]


@attrs.define(kw_only=True)
class UserOrder:
    """An order of a user. ``price`` is 0 in a market order; ``remaining`` is what was not filled, also once it is
    cancelled; ``value`` is the sum of price x amount of its fills; ``fee`` is money."""

    instrument: Instrument
    user: str
    order_id: int
    client_order_id: str
    type: OrderType
    side: Side
    price: int
    amount: int
    remaining: int
    created_at: int
    updated_at: int
    status: Status = "new"
    value: int = 0
    fee: int = 0

    @property
    def filled(self) -> int:
        return self.amount - self.remaining

    @property
    def received_asset(self) -> str:
        """The asset that it buys, in which fees are taken."""
        return self.instrument.base if self.side == "buy" else self.instrument.quote

    @property
    def given_asset(self) -> str:
        return self.instrument.quote if self.side == "buy" else self.instrument.base

    def money_for(self, price: int, amount: int) -> int:
        """What it gives for ``amount`` at ``price``."""
        if self.side == "buy":
            return self.instrument.value_money(price * amount)
        return self.instrument.amount_money(amount)
