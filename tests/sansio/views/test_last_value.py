"""The newest publication as the state, and no state at all."""

from __future__ import annotations

import pytest

from hub.sansio.payload import BadPayload
from hub.sansio.policies import Payload
from hub.sansio.views.last_value import LastValue, NoState
from hub.sansio.views.view import View


def publish(view: View, data: bytes, kind: str | None = None) -> None:
    view.fold(view.parse(data, kind))


def test_the_newest_is_the_state_byte_for_byte() -> None:
    assert not LastValue().is_known
    view = LastValue()
    assert view.render() is None
    for kind in (None, "snapshot"):
        data = b'{"a": "%b"}' % str(kind).encode()
        publish(view, data, kind)
        assert view.is_known and view.render() is data
    publish(view, b"{}", "delta")
    assert not view.is_known, "a change is no state"
    assert view.size == 0


def test_any_payload_is_not_even_read() -> None:
    view = LastValue("any")
    publish(view, b"\xff no JSON")
    assert view.render() == b"\xff no JSON"


@pytest.mark.parametrize("view", [LastValue("ticker"), NoState("ticker")])
def test_what_is_refused_changes_nothing(view: View) -> None:
    publish(view, b'{"last":"1"}')
    before = view.render()
    with pytest.raises(BadPayload, match="last"):
        view.parse(b'{"last":1}', None)
    assert view.render() is before


def test_a_complete_payload_may_be_asked_for() -> None:
    bbo = b'{"bid":"1","ask":"2","askQty":"3"}'
    publish(LastValue("bbo"), bbo)
    for view in (LastValue("bbo", is_complete=True), NoState("bbo", is_complete=True)):
        with pytest.raises(BadPayload, match="bidQty"):
            view.parse(bbo, None)


@pytest.mark.parametrize("kind", [LastValue, NoState])
def test_a_closing_candle_is_final(kind: type[NoState]) -> None:
    candles = kind("kline")
    assert candles.is_final(candles.parse(b'{"openTime":1,"closed":true}', None))
    assert not candles.is_final(candles.parse(b'{"openTime":1,"closed":false}', None))
    assert not candles.is_final(candles.parse(b'{"openTime":1}', None))


@pytest.mark.parametrize("payload", ["any", "ticker", "fill"])
def test_nothing_else_is_final(payload: Payload) -> None:
    view = LastValue(payload)
    assert not view.is_final(view.parse(b'{"closed":true}', None))


def test_no_state() -> None:
    view = NoState()
    publish(view, b"1", "snapshot")
    assert not view.is_known and view.render() is None
    view.forget()


def test_the_first_value_may_come_from_outside() -> None:
    view = LastValue("ticker")
    for bad in (b"{", b'{"last":1}'):
        with pytest.raises(BadPayload):
            view.seed(bad)
    assert not view.is_known
    view.seed(b'{"last":\n"1"}')
    assert view.render() == b'{"last":"1"}'
    view.seed(b'{"last":"2"}')
    assert view.render() == b'{"last":"1"}'
    view.forget()
    assert not view.is_known
    publish(view, b'{"last":"3"}')
    view.seed(b'{"last":"4"}')
    assert view.render() == b'{"last":"3"}'
