"""The state of a channel as a client keeps it: a snapshot, and what each event does to it (channels.md)."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from itertools import takewhile
from typing import Any

import attrs

#: Frames that can be undone, so that the state can be compared at the seq of the hub's own snapshot.
HISTORY = 4000
TRADES = 50
#: Stands for a trade that was lost.
UNKNOWN = None
CLOSED = frozenset({"filled", "cancelled", "expired", "rejected"})


def kind_of(channel: str) -> str:
    """``book``, ``trades``, ``orders``, ``balances``; ``last``: each event is the state; ``none``: there is none, so
    an event stands for itself."""
    name = channel.partition("@")[0]
    return {
        "orderbook": "book",
        "trades": "trades",
        "orders": "orders",
        "balances": "balances",
        "fills": "none",
    }.get(name, "last")


def load(kind: str, data: Any) -> Any:
    """The state that a snapshot gives."""
    match kind:
        case "book":
            return {side: dict(data[side]) for side in ("bids", "asks")}
        case "trades":
            return list(data)
        case "orders":
            return {order["orderId"]: order for order in data}
        case "balances":
            return {balance["asset"]: balance for balance in data}
    return data


def fold(kind: str, state: Any, data: Any) -> Any:
    """``state`` after an event; it is changed in place where that can be. None stays unknown."""
    if kind in ("last", "none"):
        return data
    if state is None:
        return None
    match kind:
        case "book":
            for side in ("bids", "asks"):
                _change_levels(state[side], data.get(side, ()))
        case "trades":
            state = (state + data)[-TRADES:]
        case "orders":
            for order in data if isinstance(data, list) else [data]:
                state.pop(order["orderId"], None)
                if order["status"] not in CLOSED:
                    state[order["orderId"]] = order
        case "balances":
            for balance in data if isinstance(data, list) else [data]:
                state[balance["asset"]] = balance
    return state


def _change_levels(levels: dict[str, str], changes: Any) -> None:
    for price, amount in changes:
        if amount.strip("0.") == "":
            levels.pop(price, None)
        else:
            levels[price] = amount


def copied(kind: str, state: Any) -> Any:
    """A copy that ``fold`` may change."""
    if kind == "book" and state is not None:
        return {side: dict(levels) for side, levels in state.items()}
    return dict(state) if kind in ("orders", "balances") and state is not None else state


def comparable(kind: str, state: Any) -> Any:
    """What two equal states have in common: the order of levels, zeros at an end and JSON's keys do not count."""
    if kind == "book":
        return {
            side: {Decimal(price): Decimal(amount) for price, amount in dict(state[side]).items()}
            for side in ("bids", "asks")
        }
    return {str(key): value for key, value in state.items()} if kind in ("orders", "balances") else state


def is_best_first(book: Any) -> bool:
    """Whether a book that came over the wire has its sides in order, and each price once."""
    bids = [Decimal(price) for price, _ in book["bids"]]
    asks = [Decimal(price) for price, _ in book["asks"]]
    return bids == sorted(set(bids), reverse=True) and asks == sorted(set(asks))


@attrs.define
class History:
    """The states of one channel at each of its last seqs: an old one, and the frames since."""

    kind: str
    _base: Any = None
    _base_seq: int = -1
    _frames: deque[tuple[int, str, Any]] = attrs.field(factory=deque)

    def add(self, seq: int, what: str, data: Any) -> None:
        """``what``: "snapshot", "event", or "lost", after which the state is unknown."""
        self._frames.append((seq, what, data))
        if len(self._frames) > HISTORY:
            self._shift()

    def _shift(self) -> None:
        self._base_seq, *frame = self._frames.popleft()
        self._base = self._step(self._base, *frame)

    def clear(self) -> None:
        """Another history has begun."""
        self._frames.clear()
        self._base, self._base_seq = None, -1

    def restore(self, seq: int, state: Any) -> None:
        """Begins with a state that ``newest`` gave, at its seq."""
        self.clear()
        self._base, self._base_seq = state, seq

    def newest(self) -> Any:
        """The state after all that has come; those before it are known no more."""
        while self._frames:
            self._shift()
        return self._base

    def since(self, seq: int) -> list[tuple[int, str, Any]]:
        """The frames after ``seq`` that are kept, as ``add`` took them."""
        return list(takewhile(lambda frame: frame[0] > seq, reversed(self._frames)))[::-1]

    def at(self, seq: int) -> Any:
        """The state at ``seq``; None where it is not known (any more)."""
        if seq < self._base_seq:
            return None
        state, reached = copied(self.kind, self._base), self._base_seq
        for frame_seq, *frame in self._frames:
            if frame_seq > seq:
                break
            state, reached = self._step(state, *frame), frame_seq
        is_whole = self.kind != "trades" or state is None or UNKNOWN not in state
        return state if reached == seq and is_whole else None

    def _step(self, state: Any, what: str, data: Any) -> Any:
        if what == "snapshot":
            return load(self.kind, data)
        if what == "lost":
            return [UNKNOWN] * TRADES if self.kind == "trades" else None
        return fold(self.kind, state, data)
