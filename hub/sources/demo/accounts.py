"""Whose money is where. All of it is in units of 10^-``ASSET_DECIMALS``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import attrs

from hub.sources.demo.instruments import Instrument

#: Everybody who is not a user of the demo, and the exchange. It may owe: users have their money from it.
WORLD = "*"
#: A user's opening balance in an asset, in typical orders of the market where these are the largest.
_TYPICAL_ORDERS = 200
#: Whose available balance falls below this part of the opening one gets that again, from the world.
_LOW_PART = 10


@attrs.define
class Holding:
    """One owner's balance in one asset. ``locked`` is what open orders may need."""

    available: int = 0
    locked: int = 0

    @property
    def total(self) -> int:
        return self.available + self.locked


class Accounts:
    """The balances of all users and of the world; money moves between them and is never made.

    A user of whom little is left in an asset gets a deposit from the world: fees would make everybody poor in the
    end.
    """

    def __init__(self, users: Iterable[str], instruments: Iterable[Instrument]) -> None:
        self.users = tuple(users)
        self.opening = _opening_balances(instruments)
        #: The assets of each user that were touched, in that order.
        self._changed: dict[str, dict[str, None]] = {}
        self._holdings: dict[tuple[str, str], Holding] = defaultdict(Holding)
        for user in self.users:
            for asset, money in self.opening.items():
                self.transfer(WORLD, user, asset, money)

    def holding(self, owner: str, asset: str) -> Holding:
        """The balance as it is; read only."""
        return self._holdings[owner, asset]

    def transfer(self, giver: str, taker: str, asset: str, money: int) -> None:
        """Moves what ``giver`` has available. Raises ValueError where a user has less than that."""
        self._add(giver, asset, -money)
        self._add(taker, asset, money)

    def lock(self, user: str, asset: str, money: int) -> None:
        """Sets money aside for an order. Raises ValueError where there is less."""
        self._add(user, asset, -money)
        self._holdings[user, asset].locked += money

    def unlock(self, user: str, asset: str, money: int) -> None:
        """Gives back what was set aside. Raises ValueError where that was less."""
        holding = self._holdings[user, asset]
        if money > holding.locked:
            raise ValueError(f"{user} has {holding.locked} {asset} locked, not {money}")
        holding.locked -= money
        self._add(user, asset, money)

    def take_changed(self) -> list[tuple[str, list[str]]]:
        """The users whose money moved since the last call, and the assets that it was in, after deposits."""
        changed, self._changed = self._changed, {}
        for user, assets in changed.items():
            for asset in assets:
                self._top_up(user, asset)
        self._changed = {}
        return [(user, list(assets)) for user, assets in changed.items()]

    def _top_up(self, user: str, asset: str) -> None:
        opening = self.opening[asset]
        if self._holdings[user, asset].available < opening // _LOW_PART:
            self.transfer(WORLD, user, asset, opening)

    def _add(self, owner: str, asset: str, money: int) -> None:
        holding = self._holdings[owner, asset]
        if owner != WORLD:
            if holding.available + money < 0:
                raise ValueError(f"{owner} has {holding.available} {asset}, not {-money}")
            self._changed.setdefault(owner, {})[asset] = None
        holding.available += money


def _opening_balances(instruments: Iterable[Instrument]) -> Mapping[str, int]:
    """Enough of each asset for many orders in each market, in the order in which the markets name the assets."""
    opening: dict[str, int] = {}
    for instrument in instruments:
        amount = instrument.typical_amount * _TYPICAL_ORDERS
        needs = {
            instrument.base: instrument.amount_money(amount),
            instrument.quote: instrument.value_money(amount * instrument.reference_price),
        }
        for asset, money in needs.items():
            opening[asset] = max(money, opening.get(asset, 0))
    return opening
