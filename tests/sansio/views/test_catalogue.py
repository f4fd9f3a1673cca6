"""Which view a policy makes."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from hub.sansio.payload import BadPayload
from hub.sansio.policies import Payload, Policy, Snapshot
from hub.sansio.views.book import Book
from hub.sansio.views.catalogue import PAYLOAD_OF, check_view, make_view
from hub.sansio.views.last_value import LastValue, NoState
from hub.sansio.views.records import Balances, OpenOrders
from hub.sansio.views.trades import Trades
from hub.sansio.views.view import View

CLASSES: dict[Snapshot, type[View]] = {
    "none": NoState, "last": LastValue, "book": Book, "top": LastValue, "trades": Trades, "orders": OpenOrders,
    "balances": Balances,
}  # fmt: skip
INCOMPLETE: dict[Payload, bytes] = {
    "ticker": b"{}", "orderbook": b'{"bids":[]}', "trades": b"[{}]", "kline": b'{"openTime":1}', "bbo": b"{}",
    "order": b'{"orderId":1,"status":"new"}', "fill": b"{}", "balance": b'{"asset":"TL"}',
}  # fmt: skip


def policy(**options: Any) -> Policy:
    return Policy(pattern="*", **options)


def test_a_view_for_each_snapshot() -> None:
    assert set(CLASSES) == set(get_args(Snapshot))
    for snapshot, kind in CLASSES.items():
        assert type(make_view(policy(snapshot=snapshot))) is kind


@pytest.mark.parametrize("snapshot", get_args(Snapshot))
@pytest.mark.parametrize("payload", get_args(Payload))
def test_payloads_are_checked_as_the_policy_says(snapshot: Snapshot, payload: Payload) -> None:
    if payload not in ("any", PAYLOAD_OF.get(snapshot, payload)):
        with pytest.raises(ValueError, match=f'"{snapshot}".*"{PAYLOAD_OF[snapshot]}".*"{payload}"'):
            make_view(policy(snapshot=snapshot, payload=payload))
        return
    checked = PAYLOAD_OF.get(snapshot, payload)
    view = make_view(policy(snapshot=snapshot, payload=payload))
    complete = make_view(policy(snapshot=snapshot, payload=payload, payload_complete=True))
    if checked == "any":
        view.parse(b"1", None)
        complete.parse(b"1", None)
        return
    view.parse(INCOMPLETE[checked], None)
    with pytest.raises(BadPayload, match="missing"):
        complete.parse(INCOMPLETE[checked], None)
    with pytest.raises(BadPayload):
        view.parse(b"1", None)


def test_levels_and_beginnings_of_books() -> None:
    assert not make_view(policy(snapshot="book")).is_known
    book = make_view(policy(snapshot="book", max_levels=1, starts_empty=True))
    assert book.is_known
    book.fold(book.parse(b'{"bids":[["1","1"],["2","1"]]}', None))
    assert book.render() == b'{"bids":[["2","1"]],"asks":[]}'


@pytest.mark.parametrize("snapshot", get_args(Snapshot))
def test_providers(snapshot: Snapshot) -> None:
    provided = policy(snapshot=snapshot, provider="http://back.end/{user}")
    if snapshot in ("none", "top", "trades"):
        with pytest.raises(ValueError, match=f'"{snapshot}".*provider'):
            check_view(provided)
        return
    view = make_view(provided)
    assert not view.is_known
    view.seed(b"[]" if snapshot in ("orders", "balances") else b'{"bids":[]}')
    assert view.is_known
