"""What is traded: precision, a realistic price to wander around, and how busy a market is.

Prices and amounts are integers everywhere in the simulation, in units of the last decimal that the market
shows; money on accounts is an integer too, in units that are the same in all markets. Only payloads hold
decimals, as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

import attrs

#: Decimals of money on accounts: as many as price x amount has in any market here, and fees have a few to lose.
ASSET_DECIMALS = 8

_MARKET_NAME = re.compile(r"[a-z0-9]+_[a-z0-9]+")


@attrs.frozen(kw_only=True)
class Instrument:
    """One market. ``reference_price`` and ``typical_amount`` are in units of the last decimal.

    ``weight`` is its share of the order flow, relative to the others.
    """

    market: str
    price_decimals: int
    amount_decimals: int
    reference_price: int
    typical_amount: int
    weight: int

    @property
    def base(self) -> str:
        """The asset that is traded: "btc" in btc_tl."""
        return self.market.partition("_")[0]

    @property
    def quote(self) -> str:
        """The asset that is paid with: "tl" in btc_tl."""
        return self.market.partition("_")[2]

    def amount_money(self, amount: int) -> int:
        """An amount in units of money on accounts."""
        return _money(amount, self.amount_decimals)

    def value_money(self, value: int) -> int:
        """A sum of price x amount in units of money on accounts."""
        return _money(value, self.price_decimals + self.amount_decimals)

    def price_text(self, price: int) -> str:
        return decimal_text(price, self.price_decimals)

    def amount_text(self, amount: int) -> str:
        return decimal_text(amount, self.amount_decimals)

    def value_text(self, value: int) -> str:
        """The text of a sum of price x amount."""
        return decimal_text(value, self.price_decimals + self.amount_decimals)


def decimal_text(value: int, decimals: int) -> str:
    """``value`` x 10^-``decimals``, exactly, with all its decimals: ``decimal_text(-5, 2) == "-0.05"``."""
    if decimals == 0:
        return str(value)
    digits = f"{abs(value):0{decimals + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-decimals]}.{digits[-decimals:]}"


def _money(value: int, decimals: int) -> int:
    return value * int(10 ** (ASSET_DECIMALS - decimals))


def money_text(money: int) -> str:
    """The text of money on an account."""
    return decimal_text(money, ASSET_DECIMALS)


def check_market(market: str) -> None:
    """Raises ValueError for what is not the name of a market (stream-v2.md, "Channel names")."""
    if _MARKET_NAME.fullmatch(market) is None:
        raise ValueError('a market is "{base}_{quote}" in lower case, like "btc_tl"')


def find_instrument(market: str) -> Instrument:
    """The instrument of a market; one that is not in the table trades around 100. Raises ValueError."""
    check_market(market)
    return _INSTRUMENTS.get(market) or _instrument(market, "100.0000", "1.00", 1)


def _instrument(market: str, price: str, amount: str, weight: int) -> Instrument:
    price_decimals, reference_price = _scaled(price)
    amount_decimals, typical_amount = _scaled(amount)
    return Instrument(
        market=market,
        price_decimals=price_decimals,
        amount_decimals=amount_decimals,
        reference_price=reference_price,
        typical_amount=typical_amount,
        weight=weight,
    )


def _scaled(text: str) -> tuple[int, int]:
    decimals = len(text.partition(".")[2])
    return decimals, int(Decimal(text).scaleb(decimals))


#: Market: reference price, typical amount of an order (each with the precision to show), weight.
_INSTRUMENTS: Mapping[str, Instrument] = {
    market: _instrument(market, price, amount, weight)
    for market, price, amount, weight in (
        ("btc_tl", "4200000", "0.04000", 4),
        ("eth_tl", "147000.0", "0.8000", 2),
        ("btc_usdt", "100000.00", "0.06000", 4),
        ("eth_usdt", "3500.00", "1.2000", 3),
        ("avax_tl", "840.00", "45.000", 1),
        ("sol_usdt", "160.000", "12.000", 2),
    )
}
