"""Policies: which options contradict each other, alone and between namespaces."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from hub.sansio.options import Seconds
from hub.sansio.policies import Policy, check_policy, check_relations

BOOK = Policy(pattern="orderbook@{market}", snapshot="book")
TOP = Policy(
    pattern="orderbook.{depth}@{market}", snapshot="top", derived_from="orderbook@{market}", pace=Seconds(0.1)
)
ORDERS = Policy(pattern="orders", private=True, snapshot="orders", parts="orders@{market}")
PART = Policy(pattern="orders@{market}", private=True, snapshot="orders")


@pytest.mark.parametrize(
    "policy",
    [
        Policy(pattern="a"), BOOK, TOP, ORDERS, PART,
        Policy(pattern="a", pace=Seconds(1.0), snapshot="last", on_lag="snapshot"),
        Policy(pattern="a", private=True, on_lag="close"),
    ],
)  # fmt: skip
def test_policies(policy: Policy) -> None:
    check_policy(policy)


@pytest.mark.parametrize(
    "options, why",
    [
        ({"snapshot": "top"}, "derived_from"),
        ({"derived_from": "orderbook@{market}"}, "derived_from"),
        ({"snapshot": "top", "derived_from": "b@{market}", "pattern": "a@{market}"}, "depth"),
        (
            {"snapshot": "top", "derived_from": "b@{market}", "pattern": "a.{depth}", "private": True},
            "public",
        ),
        ({"parts": "a@{market}"}, "private"),
        ({"on_lag": "snapshot"}, "needs a snapshot"),
        ({"private": True, "pace": Seconds(1.0)}, "pace"),
        *(
            ({"snapshot": kind, "pace": Seconds(1.0)}, "pace")
            for kind in ("book", "trades", "orders", "balances")
        ),
    ],
)
def test_contradictions(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_policy(Policy(**{"pattern": "a", **options}))


def test_relations() -> None:
    check_relations({})
    check_relations({"top": TOP, "book": BOOK, "orders": ORDERS, "orders_market": PART})
    whole, part = (attrs.evolve(policy, provider="http://a/") for policy in (ORDERS, PART))
    check_relations({"part": part, "whole": whole})


@pytest.mark.parametrize(
    "policies",
    [
        {"top": TOP},
        {"top": TOP, "book": Policy(pattern="orderbook@{market}", snapshot="last")},
        {"top": TOP, "book": Policy(pattern="book@{market}", snapshot="book")},
        {"whole": ORDERS},
        {"whole": ORDERS, "part": Policy(pattern="orders@{market}")},
        {"whole": ORDERS, "part": Policy(pattern="orders@{user}", private=True)},
        {"whole": attrs.evolve(ORDERS, provider="http://a/"), "part": PART},
        {"whole": ORDERS, "part": attrs.evolve(PART, provider="http://a/")},
        {
            "whole": Policy(pattern="orders", private=True, parts="mine"),
            "part": Policy(pattern="mine", private=True),
        },
        {
            "whole": Policy(pattern="orders", private=True, parts="mine.{interval}@{market}"),
            "part": Policy(pattern="mine.{interval}@{market}", private=True),
        },
        {"whole": Policy(pattern="orders.{depth}", private=True, parts="orders@{market}"), "part": PART},
        {"whole": Policy(pattern="orders*", private=True, parts="orders@{market}"), "part": PART},
    ],
)
def test_relations_that_do_not_hold(policies: dict[str, Policy]) -> None:
    with pytest.raises(ValueError, match=r"^namespaces\.(top|whole): "):
        check_relations(policies)
