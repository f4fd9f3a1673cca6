"""The order book of a market, kept from its changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any

from msgspec import UNSET
from sortedcontainers import SortedDict

from hub.sansio.payload import check_payload
from hub.sansio.views.payloads import payload_reader
from hub.sansio.views.view import View

#: Bytes of memory that a level takes: its price as a Decimal 104, its text 64, its places in a dict and in a list
#: the rest (tracemalloc, 10,000 levels a side, Python 3.11).
LEVEL_SIZE = 200

#: Prices come again and again while a book changes: found again, a delta of three levels takes two thirds of the
#: time. At most 5 MB for all books. A whole book would only push the others out.
_price = lru_cache(maxsize=16384)(Decimal)

#: Stands for a level that was removed before the book's first state came.
_REMOVED = b""

#: Prices and amounts, as their publisher wrote them.
Changes = Iterable[tuple[str, str]]


class _Side:
    """The levels of one side, by price; the best first is the last first where ``is_bids``.

    A level is kept as the JSON that its publisher wrote. Prices are compared and hashed, which is exact, and not
    negated, which would round to the digits of the context.
    """

    __slots__ = ("_is_bids", "_levels", "_max_levels")

    def __init__(self, max_levels: int, *, is_bids: bool) -> None:
        self._max_levels = max_levels
        self._is_bids = is_bids
        self._levels = SortedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def apply(self, changes: Changes, *, keeps_removed: bool = False) -> int:
        """Takes changed levels; returns how many were cut."""
        _apply(self._levels, changes, _price, keeps_removed=keeps_removed)
        return self._cut()

    def replace(self, changes: Changes) -> int:
        """Takes all levels; returns how many were cut."""
        # One sort at the end takes far less than finding a place for each as it comes.
        levels: dict[Decimal, bytes] = {}
        _apply(levels, changes, Decimal)
        self._levels = SortedDict(levels)
        return self._cut()

    def complete(self, changes: Changes) -> int:
        """Takes all levels, except where a change was taken before; returns how many were cut."""
        levels: dict[Decimal, bytes] = {}
        _apply(levels, changes, Decimal)
        levels.update(self._levels)
        self._levels = SortedDict((price, level) for price, level in levels.items() if level is not _REMOVED)
        return self._cut()

    def _cut(self) -> int:
        excess = len(self._levels) - self._max_levels
        if excess <= 0:
            return 0
        for _ in range(excess):
            self._levels.popitem(0 if self._is_bids else -1)
        return excess

    def best(self, depth: int | None = None) -> Iterator[bytes]:
        """The best ``depth`` levels, or all."""
        prices: Iterator[Decimal] = reversed(self._levels) if self._is_bids else iter(self._levels)
        return map(self._levels.__getitem__, islice(prices, depth))

    def clear(self) -> None:
        self._levels.clear()


def _apply(
    levels: MutableMapping[Decimal, bytes],
    changes: Changes,
    price_of: Callable[[str], Decimal],
    *,
    keeps_removed: bool = False,
) -> None:
    for price, amount in changes:
        # Only a zero has nothing but zeros and a point; this way no amount need be a number.
        if amount.strip("0."):
            levels[price_of(price)] = f'["{price}","{amount}"]'.encode()
        elif keeps_removed:
            levels[price_of(price)] = _REMOVED
        else:
            levels.pop(price_of(price), None)


class Book(View):
    """All levels, best first. Unknown until the first snapshot, unless it starts empty or a provider is asked.

    A publication is a delta unless its kind says snapshot: changed levels, an amount of zero removes one. At most
    ``max_levels`` a side are kept; ``cut`` counts those that were dropped for it.
    """

    __slots__ = ("_asks", "_bids", "_has_provider", "_is_known", "_read", "cut")

    def __init__(
        self,
        *,
        max_levels: int,
        starts_empty: bool = False,
        is_complete: bool = False,
        has_provider: bool = False,
    ) -> None:
        self._read = payload_reader("orderbook", is_complete=is_complete)
        self._has_provider = has_provider
        self._is_known = starts_empty
        self._bids = _Side(max_levels, is_bids=True)
        self._asks = _Side(max_levels, is_bids=False)
        self.cut = 0

    @property
    def is_known(self) -> bool:
        return self._is_known

    @property
    def levels(self) -> int:
        """Levels of both sides."""
        return len(self._bids) + len(self._asks)

    @property
    def size(self) -> int:
        return self.levels * LEVEL_SIZE

    def parse(self, data: bytes, kind: str | None) -> tuple[bool, Changes, Changes]:
        payload = self._read(data)
        bids = () if payload.bids is UNSET else payload.bids
        asks = () if payload.asks is UNSET else payload.asks
        return kind == "snapshot", bids, asks

    def fold(self, parsed: Any) -> None:
        is_snapshot, bids, asks = parsed
        if is_snapshot:
            self._is_known = True
            self.cut += self._bids.replace(bids) + self._asks.replace(asks)
        elif self._is_known:
            self.cut += self._bids.apply(bids) + self._asks.apply(asks)
        elif self._has_provider:
            self._bids.apply(bids, keeps_removed=True)
            self._asks.apply(asks, keeps_removed=True)

    def render(self) -> bytes | None:
        return self.top(None) if self._is_known else None

    def top(self, depth: int | None, last_update_id: int | None = None) -> bytes:
        """The best ``depth`` levels of each side (None: all) of a known book. ``last_update_id`` is the matching
        engine's number, where it gave one."""
        bids, asks = b",".join(self._bids.best(depth)), b",".join(self._asks.best(depth))
        if last_update_id is None:
            return b'{"bids":[%b],"asks":[%b]}' % (bids, asks)
        return b'{"bids":[%b],"asks":[%b],"lastUpdateId":%d}' % (bids, asks, last_update_id)

    def seed(self, data: bytes) -> None:
        _, bids, asks = self.parse(check_payload(data), "snapshot")
        if self._is_known:
            return
        self._is_known = True
        self.cut += self._bids.complete(bids) + self._asks.complete(asks)

    def forget(self) -> None:
        self._is_known = False
        self._bids.clear()
        self._asks.clear()
