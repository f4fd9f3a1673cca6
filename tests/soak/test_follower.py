"""The soak's checker is checked: it takes what it should, and misses nothing that it should not take."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests import needs
from tests.soak.cases import BOOK, CASES, FILLS, ORDERS, PART, TICKER, TRADES, Case
from tests.soak.follower import Follower
from tests.soak.states import comparable, kind_of

CHANNELS = [BOOK, TICKER, TRADES, FILLS, PART, ORDERS]
WEB = Path(__file__).parents[1] / "web"


def channels_of(case: Case) -> list[str]:
    named = {
        name
        for step in case.steps
        for name in (*step.get("positions", {}), step.get("ch"), step.get("channel"))
    }
    return [
        name
        for name in CHANNELS
        if name in named and not (name == TICKER and case.name == "an event of nobody's")
    ]


def outcome(case: Case) -> tuple[int, list[Any]]:
    follower = Follower(channels_of(case))
    asked: list[Any] = []
    for step in case.steps:
        if "positions" in step:
            follower.subscribed(step["positions"], step.get("errors", ()))
        elif "at" in step:
            asked.append(_plain(follower.channels[step["at"]].history.at(step["seq"])))
        elif "lastSeq" in step:
            asked.append(follower.last_seq())
        else:
            follower.take(step)
    return len(follower.failures), asked


def _plain(state: Any) -> Any:
    """As JSON would say it."""
    if isinstance(state, dict) and "bids" in state:
        return {side: [[price, amount] for price, amount in levels.items()] for side, levels in state.items()}
    return state


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_python(case: Case) -> None:
    assert outcome(case) == (case.failures, case.asked)


@pytest.mark.needs("node")
def test_javascript() -> None:
    cases = [{"channels": channels_of(case), **attrs.asdict(case)} for case in CASES]
    answer = subprocess.run(
        [needs.program("node"), str(WEB / "soak_cases.mjs")],
        input=json.dumps(cases),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    outcomes = [
        (case.name, found["failures"], found["asked"])
        for case, found in zip(CASES, json.loads(answer.stdout), strict=True)
    ]
    assert outcomes == [(case.name, case.failures, case.asked) for case in CASES]


def test_books_are_equal_whatever_their_order_and_zeros() -> None:
    one = {"bids": [["10", "1.0"], ["9", "2"]], "asks": []}
    other = {"bids": {"9": "2.00", "10.0": "1"}, "asks": {}}
    assert comparable("book", one) == comparable("book", other)
    assert comparable("book", one) != comparable("book", {**one, "asks": [["11", "1"]]})
    assert [kind_of(name) for name in ("orderbook@a_b", "orderbook.5@a_b", "orders@a_b")] == [
        "book",
        "last",
        "orders",
    ]
