"""The newest trades of a market."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from hub.sansio.views.payloads import payload_reader
from hub.sansio.views.view import View

#: What a subscriber gets first (channels.md).
KEPT_TRADES = 50

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Trades(View):
    """A list of trades, oldest first, each as its publisher wrote it; empty before the first."""

    __slots__ = ("_read", "_trades")

    def __init__(self, *, is_complete: bool = False) -> None:
        self._read = payload_reader("trades", is_complete=is_complete)
        self._trades: deque[bytes] = deque(maxlen=KEPT_TRADES)

    @property
    def is_known(self) -> bool:
        return True

    def parse(self, data: bytes, kind: str | None) -> tuple[bool, list[bytes]]:
        self._read(data)
        # A Raw keeps the whole payload alive; bytes are a copy of one trade.
        return kind == "snapshot", [bytes(trade) for trade in _split(data)[-KEPT_TRADES:]]

    def fold(self, parsed: Any) -> None:
        is_snapshot, trades = parsed
        if is_snapshot:
            self._trades.clear()
        self._trades.extend(trades)

    def render(self) -> bytes:
        return b"[%b]" % b",".join(self._trades)
