"""The newest trades: a list, oldest first, as the publisher wrote them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.payload import BadPayload
from hub.sansio.views.trades import KEPT_TRADES, Trades

batches = st.lists(
    st.tuples(st.sampled_from([None, "delta", "snapshot"]), st.integers(0, 70), st.sampled_from([",", ", "])),
    max_size=6,
)


@given(batches)
def test_the_last_fifty(batches: list[tuple[str | None, int, str]]) -> None:
    view, count = Trades(), 0
    expected: list[str] = []
    assert view.is_known and view.render() == b"[]"
    for kind, size, comma in batches:
        trades = [f'{{"tradeId": {count + i},"price":"{i}.50"}}' for i in range(size)]
        count += size
        parsed = view.parse(f"[{comma.join(trades)}]".encode(), kind)
        assert view.render() == f"[{','.join(expected)}]".encode()
        view.fold(parsed)
        expected = [*([] if kind == "snapshot" else expected), *trades][-50:]
        assert view.render() == f"[{','.join(expected)}]".encode()
    assert KEPT_TRADES == 50


def test_refused() -> None:
    view = Trades(is_complete=True)
    for bad in (b"{}", b"[1]", b'[{"price":1}]', b'[{"tradeId":1}]'):
        with pytest.raises(BadPayload):
            view.parse(bad, None)


def test_trades_are_always_known() -> None:
    view = Trades()
    view.fold(view.parse(b"[{}]", None))
    view.forget()
    assert json.loads(view.render()) == [{}]
    assert not view.is_final(view.parse(b"[]", None))
    with pytest.raises(NotImplementedError, match="Trades"):
        view.seed(b"[]")
