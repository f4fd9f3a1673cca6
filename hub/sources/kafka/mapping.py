"""From a record to the publications that it is. No Kafka client, no clock: only bytes and rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hub.sources.kafka.cbor import cbor_to_json
from hub.sources.kafka.payload import Payload, RecordRefused, read_payload
from hub.sources.kafka.settings import Topic
from hub.sources.kafka.templates import KEY_HOLE, KeyPattern, Template

#: As the client library gives them: a name may come twice, a value may be missing.
Headers = Sequence[tuple[str, bytes | str | None]]


class Mapped(msgspec.Struct, frozen=True, gc=False):
    """One publication for each of ``channels``; the other fields are those of ``contracts.Publish``.

    A msgspec struct and no attrs class, because there is one a record, and it is made five times as fast.
    """

    channels: tuple[str, ...]
    data: bytes
    ts: int | None
    event: str | None
    kind: str | None
    user: str | None
    last_update_id: int | None


class TopicMapping:
    """The rules of one topic."""

    def __init__(self, topic: Topic) -> None:
        self._wrapped = topic.wrapped
        self._event = topic.event or None
        self._channels = [Template(text) for text in topic.channels]
        self._user = Template(topic.user) if topic.user else None
        self._patterns = [KeyPattern(text) for text in topic.key]
        templates = [*self._channels, *([self._user] if self._user else [])]
        self._fields = sorted({field for template in templates for field in template.fields})
        self._needs_key = any(set(template.holes) - set(template.fields) for template in templates)

    def map(
        self, key: bytes | None, value: bytes | None, headers: Headers | None, timestamp: int | None
    ) -> Mapped:
        """What a record publishes. ``timestamp`` is the record's own, in Unix milliseconds, for a payload that
        has none. Raises RecordRefused."""
        if not value:
            raise RecordRefused("no value")
        if headers is not None and is_cbor(headers):
            value = cbor_to_json(value)
        payload = read_payload(value, wrapped=self._wrapped)
        values = self._key_values(key) if self._needs_key else {}
        if self._fields:
            values |= _field_values(payload, self._fields)
        return Mapped(
            channels=tuple([template.fill(values) for template in self._channels]),
            data=payload.data,
            ts=timestamp if payload.ts is None else payload.ts,
            event=self._event if payload.event is None else payload.event,
            kind=payload.kind,
            user=None if self._user is None else self._user.fill(values),
            last_update_id=payload.last_update_id,
        )

    def _key_values(self, key: bytes | None) -> dict[str, str]:
        if not key:
            raise RecordRefused("no key")
        try:
            text = key.decode()
        except UnicodeDecodeError:
            raise RecordRefused("the key is not UTF-8") from None
        if not self._patterns:
            return {KEY_HOLE: text}
        for pattern in self._patterns:
            if (parts := pattern.match(text)) is not None:
                return {KEY_HOLE: text, **parts}
        raise RecordRefused("the key fits no pattern")


def _field_values(payload: Payload, fields: Sequence[str]) -> dict[str, str]:
    decoded = msgspec.json.decode(payload.data)
    return {field: _field_value(decoded, field) for field in fields}


def _field_value(decoded: Any, field: str) -> str:
    value = decoded
    for name in field.split(".")[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, str) and value:
        return value
    if type(value) is int:
        return str(value)
    raise RecordRefused(f"{field} is no text in the payload")


def is_cbor(headers: Headers) -> bool:
    """Whether a record's headers say that its value is CBOR."""
    for name, value in headers:
        if name.lower() == "content-type":
            return _text(value).partition(";")[0].strip().lower() == "application/cbor"
    return False


def find_trace(headers: Headers | None) -> str | None:
    """The trace that a record belongs to: header ``traceId``, or the trace in a W3C ``traceparent``."""
    found = {name.lower(): _text(value) for name, value in headers or ()}
    if trace := found.get("traceid"):
        return trace
    parts = found.get("traceparent", "").split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None


def _text(value: bytes | str | None) -> str:
    if isinstance(value, str):
        return value
    return (value or b"").decode("ascii", "replace")
