"""How a namespace treats its channels: who may see them, how much is kept, what a laggard gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

import attrs

from hub.sansio.options import Seconds, Size, option

Snapshot = Literal["none", "last", "book", "top", "trades", "orders", "balances"]
Payload = Literal["any", "ticker", "orderbook", "trades", "kline", "bbo", "order", "fill", "balance"]


def check_allowed(who: str) -> None:
    """Raises ValueError unless ``who`` names a group of clients."""
    if not re.fullmatch(r"anyone|authenticated|(user|tier|role):.+", who):
        raise ValueError('expected "anyone", "authenticated", "user:ID", "tier:NAME" or "role:NAME"')


@attrs.frozen(kw_only=True)
class Policy:
    """The rules of one ``[namespaces.NAME]``. The field documentation is the configuration reference."""

    pattern: str = option(
        doc="names of its channels, with holes {market}, {interval}, {depth}, {user} (who alone may have it) and *; the first namespace that fits wins"
    )
    private: bool = option(False, doc="each user has a sequence of their own and sees nobody else's")
    available: bool = option(True, doc="false: the name is reserved; subscribing answers 40002")
    event: str = option(
        "message", doc="event name in the live envelope, where a publication has none of its own"
    )
    allow: tuple[str, ...] = option(
        (),
        doc='who may have it: "anyone", "authenticated", "user:ID", "tier:NAME", "role:NAME"; any of them will do; '
        "empty: anyone, or where private: authenticated",
        check=check_allowed,
    )
    snapshot: Snapshot = option(
        "none",
        doc="what a subscriber gets first: nothing, the newest value, the order book, the best {depth} levels of the "
        "book it is derived from, the newest trades, the open orders, all balances",
        choices=get_args(Snapshot),
    )
    payload: Payload = option(
        "any",
        doc="what a payload must be (docs/protocol.rst, Market channels); a field of the wrong type is refused",
        choices=get_args(Payload),
    )
    payload_complete: bool = option(False, doc="a payload that lacks a field is refused too")
    pace: Seconds = option(
        Seconds(0.0),
        doc="a frame at most this often, the newest wins (but a closing candle is always sent); 0: every event",
        at_least=0.0,
    )
    derived_from: str = option(
        "",
        doc='the channel that the hub derives this one from, with the holes of pattern: "orderbook@{market}"',
    )
    parts: str = option(
        "",
        doc="each publication is also one of this channel of the same owner, with a hole for a field of the payload: "
        '"orders@{market}"; who has both gets it there',
    )
    provider: str = option(
        "",
        doc="URL that gives the first state, as a GET with {user} and {channel} and the pattern's holes filled in; "
        "empty: the first state is what was published",
    )
    max_levels: int = option(
        10_000, doc="levels a side of an order book; the farthest are cut", unit="levels", at_least=1
    )
    starts_empty: bool = option(
        False, doc="an order book begins empty, rather than unknown until its first snapshot"
    )
    on_lag: Literal["drop", "latest", "snapshot", "close"] = option(
        "drop",
        doc="a subscriber beyond lag_limit: skips the oldest, skips to the newest, "
        "gets a snapshot, or is closed with 4000 so that it resumes",
        choices=("drop", "latest", "snapshot", "close"),
    )
    lag_limit: int = option(
        256, doc="events that a slow subscriber may be behind; 0: the whole buffer", at_least=0
    )
    buffer_count: int = option(1000, doc="events kept for resume, history and slow subscribers", at_least=1)
    buffer_age: Seconds = option(Seconds(300.0), doc="how long an event is kept", at_least=0.0)
    buffer_bytes: Size = option(Size(64 * 1024 * 1024), doc="bytes kept for one channel", at_least=1024)


def check_policy(policy: Policy) -> None:
    """Raises ValueError where the options of a namespace contradict each other."""
    if (policy.snapshot == "top") != bool(policy.derived_from):
        raise ValueError('snapshot = "top" and derived_from are set both or not at all')
    if policy.derived_from and ("{depth}" not in policy.pattern or policy.private):
        raise ValueError("what is derived is public, and its pattern has {depth}")
    if policy.parts and not policy.private:
        raise ValueError("only private channels have parts")
    if policy.on_lag == "snapshot" and policy.snapshot == "none":
        raise ValueError('on_lag = "snapshot" needs a snapshot')
    if policy.pace and policy.snapshot not in ("none", "last", "top"):
        raise ValueError(f'pace would lose changes of which snapshot = "{policy.snapshot}" is made')
    if policy.pace and policy.private:
        raise ValueError("pace is for public channels: of a private one every event counts")


def check_relations(policies: Mapping[str, Policy]) -> None:
    """Whether namespaces, by name, fit together. Raises ValueError."""
    by_pattern = {policy.pattern: policy for policy in policies.values()}
    for name, policy in policies.items():
        source = by_pattern.get(policy.derived_from)
        if policy.derived_from and (source is None or source.snapshot != "book"):
            raise ValueError(
                f'namespaces.{name}: derived_from = "{policy.derived_from}" is no pattern of a namespace with '
                'snapshot = "book"'
            )
        part = by_pattern.get(policy.parts)
        if policy.parts and (part is None or not part.private or re.search(r"[{*]", policy.pattern)):
            raise ValueError(
                f'namespaces.{name}: parts = "{policy.parts}" is no pattern of a private namespace, or the whole '
                "has holes itself"
            )
        if policy.parts and len(re.findall(r"\{\w+\}", policy.parts)) != 1:
            raise ValueError(f"namespaces.{name}: parts has one hole, for a field of the payload")
        if part is not None and policy.parts and bool(policy.provider) != bool(part.provider):
            raise ValueError(
                f"namespaces.{name}: the whole and its parts have a provider both or not at all; each is asked for "
                "its own state"
            )
