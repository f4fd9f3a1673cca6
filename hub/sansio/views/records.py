"""Views that keep the newest record of each key: open orders by their id, balances by their asset."""

from __future__ import annotations

import abc
from typing import Any

import msgspec

from hub.sansio.payload import check_payload
from hub.sansio.policies import Payload
from hub.sansio.views.payloads import payload_reader
from hub.sansio.views.view import View

#: Keys that are remembered as gone while the first state is on its way. A provider answers within seconds, so what
#: went before the last ten thousand is not in its answer any more. At most 1 MB a user.
MAX_GONE = 10_000

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_OPEN = ("new", "partially_filled")


class Records(View):
    """A list of records, each as its publisher wrote it, in the order in which their keys came.

    A publication says what is new of the keys that it names, a snapshot says all. Before the first there is nothing,
    unless a provider must be asked: then the state is unknown until its answer, or a snapshot, is there.
    """

    __slots__ = ("_gone", "_is_known", "_read", "_records")

    def __init__(self, payload: Payload, *, is_complete: bool = False, has_provider: bool = False) -> None:
        self._read = payload_reader(payload, is_complete=is_complete)
        self._is_known = not has_provider
        self._records: dict[str, bytes] = {}
        #: The keys that went while the state was unknown, oldest first: the first state must not bring them back.
        self._gone: dict[str, None] = {}

    @staticmethod
    @abc.abstractmethod
    def _key(item: Any) -> str: ...

    @staticmethod
    def _is_gone(item: Any) -> bool:
        return False

    @property
    def is_known(self) -> bool:
        return self._is_known

    def parse(self, data: bytes, kind: str | None) -> tuple[bool, list[tuple[str, bytes | None]]]:
        read = self._read(data)
        if not isinstance(read, list):
            return kind == "snapshot", [self._change(read, data)]
        # A Raw keeps the whole payload alive; bytes are a copy of one record.
        return kind == "snapshot", [
            self._change(*pair) for pair in zip(read, map(bytes, _split(data)), strict=True)
        ]

    def _change(self, item: Any, record: bytes) -> tuple[str, bytes | None]:
        return self._key(item), None if self._is_gone(item) else record

    def fold(self, parsed: Any) -> None:
        is_snapshot, changes = parsed
        if is_snapshot:
            self._records.clear()
            self._gone.clear()
            self._is_known = True
        for key, record in changes:
            self._set(key, record)

    def _set(self, key: str, record: bytes | None) -> None:
        if record is not None:
            self._records[key] = record
            self._gone.pop(key, None)
            return
        self._records.pop(key, None)
        if not self._is_known:
            self._gone.pop(key, None)
            self._gone[key] = None
            if len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]

    def render(self) -> bytes | None:
        return b"[%b]" % b",".join(self._records.values()) if self._is_known else None

    def seed(self, data: bytes) -> None:
        _, changes = self.parse(check_payload(data), "snapshot")
        if self._is_known:
            return
        newer, gone = self._records, self._gone
        self._records, self._gone, self._is_known = {}, {}, True
        for key, record in changes:
            if key not in gone:
                self._set(key, record)
        self._records.update(newer)

    def forget(self) -> None:
        self._records.clear()
        self._gone.clear()
        self._is_known = False


class OpenOrders(Records):
    """The orders that are still open. An id is the same as a number and as a string."""

    __slots__ = ()

    def __init__(self, *, is_complete: bool = False, has_provider: bool = False) -> None:
        super().__init__("order", is_complete=is_complete, has_provider=has_provider)

    @staticmethod
    def _key(item: Any) -> str:
        return str(item.orderId)

    @staticmethod
    def _is_gone(item: Any) -> bool:
        return item.status not in _OPEN


class Balances(Records):
    """All assets, whatever there is of them."""

    __slots__ = ()

    def __init__(self, *, is_complete: bool = False, has_provider: bool = False) -> None:
        super().__init__("balance", is_complete=is_complete, has_provider=has_provider)

    @staticmethod
    def _key(item: Any) -> str:
        asset: str = item.asset
        return asset
