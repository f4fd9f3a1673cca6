"""Which view a namespace's channels have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import assert_never

from hub.sansio.policies import Payload, Policy, Snapshot
from hub.sansio.views.book import Book
from hub.sansio.views.last_value import LastValue, NoState
from hub.sansio.views.records import Balances, OpenOrders
from hub.sansio.views.trades import Trades
from hub.sansio.views.view import View

#: Snapshots that are made of one kind of payload; it need not be named, and no other will do.
PAYLOAD_OF: Mapping[Snapshot, Payload] = MappingProxyType(
    {"book": "orderbook", "trades": "trades", "orders": "order", "balances": "balance"}
)
#: Snapshots whose first state may come from a provider.
PROVIDED: frozenset[Snapshot] = frozenset({"last", "book", "orders", "balances"})


def make_view(policy: Policy) -> View:
    """The view of a new channel. Raises ValueError where the policy's options contradict each other."""
    check_view(policy)
    is_complete, has_provider = policy.payload_complete, bool(policy.provider)
    match policy.snapshot:
        case "none":
            return NoState(policy.payload, is_complete=is_complete)
        case "last" | "top":
            return LastValue(policy.payload, is_complete=is_complete)
        case "book":
            return Book(
                max_levels=policy.max_levels,
                starts_empty=policy.starts_empty,
                is_complete=is_complete,
                has_provider=has_provider,
            )
        case "trades":
            return Trades(is_complete=is_complete)
        case "orders":
            return OpenOrders(is_complete=is_complete, has_provider=has_provider)
        case "balances":
            return Balances(is_complete=is_complete, has_provider=has_provider)
        case _:
            assert_never(policy.snapshot)


def check_view(policy: Policy) -> None:
    """Raises ValueError where ``snapshot``, ``payload`` and ``provider`` contradict each other."""
    needed = PAYLOAD_OF.get(policy.snapshot, policy.payload)
    if policy.payload not in ("any", needed):
        raise ValueError(f'snapshot = "{policy.snapshot}" needs payload = "{needed}", not "{policy.payload}"')
    if policy.provider and policy.snapshot not in PROVIDED:
        raise ValueError(f'snapshot = "{policy.snapshot}" takes no provider')
