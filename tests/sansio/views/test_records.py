"""Open orders and balances against models that anybody would believe."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.payload import BadPayload
from hub.sansio.views import records
from hub.sansio.views.records import Balances, OpenOrders, Records

OPEN = ("new", "partially_filled")
Item = dict[str, Any]
orders = st.fixed_dictionaries(
    {
        "orderId": st.integers(1, 5) | st.integers(1, 5).map(str),
        "status": st.sampled_from(["new", "partially_filled", "filled", "cancelled", "expired", "rejected"]),
        "filled": st.integers(0, 99).map(str),
    }
)
balances = st.fixed_dictionaries(
    {"asset": st.sampled_from(["TL", "BTC", "ETH"]), "available": st.integers(0, 9).map(str)}
)


@attrs.frozen
class Step:
    kind: Literal["delta", "snapshot", "seed", "forget"] | None
    items: Item | list[Item]

    @property
    def data(self) -> bytes:
        return json.dumps(self.items).encode()

    @property
    def list(self) -> list[Item]:
        return self.items if isinstance(self.items, list) else [self.items]


def steps(items: st.SearchStrategy[Item]) -> st.SearchStrategy[list[Step]]:
    kinds = st.sampled_from([None, "delta", None, "delta", None, "snapshot", "seed", "forget"])
    return st.lists(st.builds(Step, kinds, items | st.lists(items, max_size=4)), max_size=8)


def state_of(history: list[Step], has_provider: bool, after: Callable[[list[Item]], list[Item]]) -> Any:
    """What the steps come to: all that counts is put in the order in which it was true, then replayed."""
    is_known, items = not has_provider, list[Item]()
    for step in history:
        if step.kind == "forget":
            is_known, items = False, []
        elif step.kind == "seed":
            items = items if is_known else step.list + items  # what was published is newer
            is_known = True
        elif step.kind == "snapshot":
            is_known, items = True, step.list
        else:
            items = items + step.list
    return after(items) if is_known else None


def open_orders(items: list[Item]) -> list[Item]:
    newest = {str(item["orderId"]): item for item in items}
    return [item for item in newest.values() if item["status"] in OPEN]


def all_balances(items: list[Item]) -> list[Item]:
    return list({item["asset"]: item for item in items}.values())


def replay(view: Records, history: list[Step]) -> None:
    for step in history:
        if step.kind == "seed":
            view.seed(step.data)
        elif step.kind == "forget":
            view.forget()
        else:
            view.fold(view.parse(step.data, step.kind))


def check(view: Records, expected: list[Item] | None) -> None:
    rendered = view.render()
    assert view.is_known == (rendered is not None) == (expected is not None)
    if expected is not None and rendered is not None:
        # In any order: a model that also knew the order would be the implementation.
        assert sorted(json.loads(rendered), key=str) == sorted(expected, key=str)


@given(steps(orders), st.booleans())
def test_open_orders(history: list[Step], has_provider: bool) -> None:
    view = OpenOrders(has_provider=has_provider)
    check(view, None if has_provider else [])
    for index, step in enumerate(history):
        replay(view, [step])
        check(view, state_of(history[: index + 1], has_provider, open_orders))


@given(steps(balances), st.booleans())
def test_balances(history: list[Step], has_provider: bool) -> None:
    view = Balances(has_provider=has_provider)
    check(view, None if has_provider else [])
    for index, step in enumerate(history):
        replay(view, [step])
        check(view, state_of(history[: index + 1], has_provider, all_balances))


def order(number: int, status: str = "new", **more: Any) -> bytes:
    return json.dumps({"orderId": number, "status": status, **more}).encode()


def test_a_record_keeps_its_place_and_its_bytes() -> None:
    view = OpenOrders()
    for data in (order(1), b'[{"orderId":2, "status" :"new"},%b]' % order(3), order(1, filled="1.0")):
        view.fold(view.parse(data, None))
    assert view.render() == b'[%b,{"orderId":2, "status" :"new"},%b]' % (order(1, filled="1.0"), order(3))
    assert view.size == 0


def test_a_late_first_state_does_not_bring_back_what_was_closed() -> None:
    view = OpenOrders(has_provider=True)
    for data in (
        order(1, "cancelled"),
        order(2, filled="2"),
        order(3),
        order(3, "filled"),
        order(4, "filled"),
        order(4),
    ):
        view.fold(view.parse(data, None))
    assert view.render() is None
    view.seed(b"[%b]" % b",".join(map(order, range(1, 7))))
    assert view.render() == b"[%b]" % b",".join([order(2, filled="2"), order(4), order(5), order(6)])
    # From now on it is the stream's state: an id that was closed may be opened.
    view.fold(view.parse(order(1), None))
    view.fold(view.parse(order(5, "expired"), None))
    assert view.render() == b"[%b]" % b",".join([order(2, filled="2"), order(4), order(6), order(1)])


def test_closed_orders_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_GONE", 3)
    view = OpenOrders(has_provider=True)
    for number in (1, 2, 3, 1, 4):
        view.fold(view.parse(order(number, "filled"), None))
    view.seed(b"[%b]" % b",".join(map(order, range(1, 5))))
    assert view.render() == b"[%b]" % order(2)


@pytest.mark.parametrize(
    "bad", [b"", b"[", b"1", b'{"orderId":1}', b'[{"orderId":1,"status":"?"}]', b'"\\ud800"']
)
def test_a_bad_first_state_changes_nothing(bad: bytes) -> None:
    view = OpenOrders(has_provider=True)
    with pytest.raises(BadPayload):
        view.seed(bad)
    assert not view.is_known
    view.seed(b"[\n%b\n]" % order(1))
    assert json.loads(view.render() or b"") == [json.loads(order(1))]


def test_a_complete_payload_may_be_asked_for() -> None:
    with pytest.raises(BadPayload, match="clientOrderId"):
        OpenOrders(is_complete=True).parse(order(1), None)
    with pytest.raises(BadPayload, match="locked"):
        Balances(is_complete=True).parse(b'{"asset":"TL","available":"1","total":"1"}', None)


def test_no_asset_leaves() -> None:
    view = Balances()
    for available in ("5", "0"):
        view.fold(view.parse(b'{"asset":"TL","available":"%b"}' % available.encode(), None))
    assert view.render() == b'[{"asset":"TL","available":"0"}]'


def test_what_is_forgotten_does_not_count_against_the_next_first_state() -> None:
    view = OpenOrders(has_provider=True)
    view.fold(view.parse(b"[%b,%b]" % (order(1, "filled"), order(2)), None))
    view.forget()
    view.seed(b"[%b]" % order(1))
    assert view.render() == b"[%b]" % order(1)
