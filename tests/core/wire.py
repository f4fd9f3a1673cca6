"""Reads what the hub wrote, as a client would: frames, then what they say in one vocabulary for all protocols."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import attrs
import cbor2

Kind = Literal[
    "welcome",
    "subscribed",
    "unsubscribed",
    "pong",
    "refused",
    "data",
    "snapshot",
    "gap",
    "drop",
    "slow",
    "bye",
    "beat",
    "covered",
    "authenticated",
    "revoked",
    "expiring",
]


@attrs.frozen
class Told:
    """One message. ``cursor`` is the event's id where the framing has ids."""

    kind: Kind
    body: Any
    channel: str = ""
    seq: int = 0
    data: Any = None
    cursor: str | None = None


class WebSocketReader:
    """Unmasked, unfragmented frames (RFC 6455, section 5.2)."""

    def __init__(self, *, is_cbor: bool = False) -> None:
        self._buffer = bytearray()
        self._first = 0x82 if is_cbor else 0x81
        self._loads: Callable[[bytes], Any] = cbor2.loads if is_cbor else json.loads

    def feed(self, data: bytes) -> Iterator[tuple[Any, str | None]]:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 2:
            begin, size = 2, buffer[1]
            assert size < 128, f"not the begin of a frame: {bytes(buffer[:40])!r}"
            if size >= 126:
                begin += 2 if size == 126 else 8
                if len(buffer) < begin:
                    return
                size = int.from_bytes(buffer[2:begin], "big")
            if len(buffer) < begin + size:
                return
            first, payload = buffer[0], bytes(buffer[begin : begin + size])
            del buffer[: begin + size]
            if first != 0x89:
                assert first == self._first, f"a frame of type {first:#x}"
                yield self._loads(payload), None


class EventReader:
    """Server-Sent Events in HTTP chunks."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Any, str | None]]:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n")) >= 0:
            size = int(self._buffer[:end], 16)
            if len(self._buffer) < end + 2 + size + 2:
                return
            block = bytes(self._buffer[end + 2 : end + 2 + size])
            assert self._buffer[end + 2 + size : end + 4 + size] == b"\r\n"
            del self._buffer[: end + 4 + size]
            assert block.endswith(b"\n\n") or block == b":\n"
            fields = dict(
                line.split(": ", 1) for line in block.decode().splitlines() if line and line[0] != ":"
            )
            if fields:
                assert fields["id"], "an empty id makes a browser forget where it was"
                yield json.loads(fields["data"]), fields["id"]


def understand(body: Any, cursor: str | None) -> Told:
    """What a frame of ``/v2`` or an envelope says."""
    assert isinstance(body, dict)
    told = _understand_live(body) if "v" in body else _understand_v2(body)
    return attrs.evolve(told, cursor=cursor)


_V2_EVENTS: dict[str, Kind] = {
    "connected": "welcome", "gap": "gap", "backpressure_drop": "drop", "slow_consumer": "slow",
    "disconnecting": "bye", "unsubscribed": "revoked", "token_expiring": "expiring",
}  # fmt: skip


def _understand_v2(body: dict[str, Any]) -> Told:
    if "event" in body:
        return Told(_V2_EVENTS[body["event"]], body, body.get("ch", ""), data=body.get("data"))
    if "ch" in body:
        if body.get("type") == "covered":
            return Told("covered", body, body["ch"], body["seq"], body["data"])
        is_snapshot = body.get("type") == "snapshot"
        assert is_snapshot == ("snapshotSeq" in body) == ("epoch" in body)
        assert body.get("snapshotSeq", body["seq"]) == body["seq"]
        return Told("snapshot" if is_snapshot else "data", body, body["ch"], body["seq"], body["data"])
    if body.get("method") == "pong":
        return Told("pong", body)
    data = body.get("data", {})
    for kind, field in _V2_ANSWERS.items():
        if field in data:
            return Told(kind, body, data=data)
    return Told("refused", body, data=data)


_V2_ANSWERS: dict[Kind, str] = {
    "subscribed": "subscribed", "unsubscribed": "unsubscribed", "authenticated": "userId"
}  # fmt: skip


_LIVE_EVENTS: dict[str, Kind] = {
    "subscribed": "subscribed", "unsubscribed": "unsubscribed", "pong": "pong", "error": "refused",
    "gap": "gap", "backpressure_drop": "drop", "slow_consumer": "slow", "disconnecting": "bye",
    "heartbeat": "beat", "snapshot": "snapshot", "covered": "covered", "authenticated": "authenticated",
    "token_expiring": "expiring",
}  # fmt: skip


def _understand_live(body: dict[str, Any]) -> Told:
    kind = _LIVE_EVENTS.get(body["event"], "data")
    if kind == "unsubscribed" and "errors" in body["data"]:
        kind = "revoked"
    channel = "" if body["channel"] == "system" else body["channel"]
    return Told(kind, body, channel, body["seq"], body["data"])
