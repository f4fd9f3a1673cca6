"""Views of channels whose publications stand for themselves: the newest is the state, or there is none."""

from __future__ import annotations

from typing import Any

import msgspec

from hub.sansio.payload import check_payload
from hub.sansio.policies import Payload
from hub.sansio.views.payloads import payload_reader
from hub.sansio.views.view import View


class _Candle(msgspec.Struct):
    closed: bool = False


_read_candle = msgspec.json.Decoder(_Candle).decode


class NoState(View):
    """Nothing is kept; payloads are checked, unless they may be anything."""

    __slots__ = ("_is_kline", "_read")

    def __init__(self, payload: Payload = "any", *, is_complete: bool = False) -> None:
        self._read = None if payload == "any" else payload_reader(payload, is_complete=is_complete)
        self._is_kline = payload == "kline"

    @property
    def is_known(self) -> bool:
        return False

    def parse(self, data: bytes, kind: str | None) -> Any:
        if self._read is not None:
            self._read(data)
        return data

    def fold(self, parsed: Any) -> None:
        return None

    def render(self) -> bytes | None:
        return None

    def is_final(self, parsed: Any) -> bool:
        return self._is_kline and _read_candle(parsed).closed


class LastValue(NoState):
    """The newest publication, whole: ``render`` gives the very bytes that were published. One that calls itself a
    delta is no state, and after it there is none."""

    __slots__ = ("_data",)

    def __init__(self, payload: Payload = "any", *, is_complete: bool = False) -> None:
        super().__init__(payload, is_complete=is_complete)
        self._data: bytes | None = None

    @property
    def is_known(self) -> bool:
        return self._data is not None

    def parse(self, data: bytes, kind: str | None) -> Any:
        return super().parse(data, kind), kind != "delta"

    def fold(self, parsed: Any) -> None:
        data, is_state = parsed
        self._data = data if is_state else None

    def is_final(self, parsed: Any) -> bool:
        return super().is_final(parsed[0])

    def render(self) -> bytes | None:
        return self._data

    def seed(self, data: bytes) -> None:
        data = super().parse(check_payload(data), None)
        if self._data is None:
            self._data = data

    def forget(self) -> None:
        self._data = None
