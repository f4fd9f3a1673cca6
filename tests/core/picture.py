"""What a naive client makes of a channel: the state first, then each change, with dictionaries and lists."""

from __future__ import annotations

from typing import Any

import attrs

from hub.sansio.policies import Policy

_KEYS = {"orders": "orderId", "balances": "asset"}


@attrs.frozen
class Picture:
    """``value`` is never changed in place: a book's sides by price, records by their key, else what was told."""

    value: Any

    @classmethod
    def of_state(cls, policy: Policy, state: Any) -> Picture:
        match policy.snapshot:
            case "book":
                return cls({side: _levels(state[side]) for side in ("bids", "asks")})
            case "orders" | "balances":
                return cls({str(item[_KEYS[policy.snapshot]]): item for item in state})
        return cls(state)

    @classmethod
    def after(cls, before: Picture | None, policy: Policy, data: Any, *, is_state: bool) -> Picture | None:
        """The picture with one more event; ``is_state``: the event says all."""
        if policy.snapshot == "none":
            return None
        if policy.snapshot in ("last", "top"):
            return cls(data)
        if is_state:
            items = [item for item in data if _is_open(item)] if policy.snapshot == "orders" else data
            return cls.of_state(policy, items[-50:] if policy.snapshot == "trades" else items)
        if before is None:
            return None
        match policy.snapshot:
            case "book":
                return cls({side: _changed(before.value[side], data.get(side, [])) for side in before.value})
            case "trades":
                return cls((before.value + data)[-50:])
        return cls(_updated(before.value, data if isinstance(data, list) else [data], _KEYS[policy.snapshot]))


def _levels(levels: list[list[str]]) -> dict[str, str]:
    side = {level[0]: level[1] for level in levels}
    assert len(side) == len(levels), "a price is there twice"
    return side


def _changed(side: dict[str, str], changes: list[list[str]]) -> dict[str, str]:
    changed = dict(side)
    for price, amount in changes:
        changed[price] = amount
        if float(amount) == 0:
            del changed[price]
    return changed


def _updated(records: dict[str, Any], items: list[Any], key: str) -> dict[str, Any]:
    updated = dict(records)
    for item in items:
        updated[str(item[key])] = item
        if not _is_open(item):
            del updated[str(item[key])]
    return updated


def _is_open(item: Any) -> bool:
    return item.get("status", "new") in ("new", "partially_filled")
