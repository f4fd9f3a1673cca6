"""A record's value: JSON or CBOR, bare or wrapped (channels.md, "Kafka topics")."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw

from hub.sansio.errors import HubError
from hub.sansio.payload import BadPayload, check_payload
from hub.sansio.publication import MAX_SEQ, MAX_UPDATE_ID


class RecordRefused(HubError):
    """The publisher's fault: a record that cannot be a publication. It is counted, skipped and takes no number."""


class Payload(msgspec.Struct, frozen=True, gc=False):
    """What a value says. ``data`` is JSON on one line, with the publisher's own digits; ``ts`` Unix milliseconds."""

    data: bytes
    ts: int | None = None
    kind: str | None = None
    last_update_id: int | None = None
    event: str | None = None


class _Wrapper(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """``id`` says who sent it (it is the idempotency key of ``POST /publish``); a record's identity is its offset."""

    data: Raw
    ts: Annotated[int, Meta(ge=0, le=MAX_SEQ)] | None = None
    type: Literal["snapshot", "delta"] | None = None
    last_update_id: Annotated[int, Meta(ge=0, le=MAX_UPDATE_ID)] | None = None
    event: str | None = None
    id: Raw = Raw(b"null")


class _WrapperShape(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """The same keys, whatever their values: tells a wrapper with a mistake from a payload that is none."""

    data: Raw
    ts: Raw = Raw(b"null")
    type: Raw = Raw(b"null")
    last_update_id: Raw = Raw(b"null")
    event: Raw = Raw(b"null")
    id: Raw = Raw(b"null")


_wrapper_decoder = msgspec.json.Decoder(_Wrapper)
_shape_decoder = msgspec.json.Decoder(_WrapperShape)
_KINDS = (b"null", b'"snapshot"', b'"delta"')


def read_payload(value: bytes, *, wrapped: str = "auto") -> Payload:
    """The payload in a value. Raises RecordRefused.

    ``wrapped`` "auto": an object that has ``data`` and otherwise only keys of a wrapper is one, unless its
    ``type`` is a word of its own; "always" refuses everything else, "never" takes each value as it is.
    """
    wrapper = None
    if wrapped == "always" or (wrapped == "auto" and b'"data"' in value):
        wrapper = _unwrap(value, is_certain=wrapped == "always")
    if wrapper is None:
        return Payload(_check(value))
    return Payload(
        _check(bytes(wrapper.data)), wrapper.ts, wrapper.type, wrapper.last_update_id, wrapper.event
    )


def _check(raw: bytes) -> bytes:
    try:
        return check_payload(raw)
    except BadPayload as error:
        raise RecordRefused(str(error)) from None


def _unwrap(value: bytes, *, is_certain: bool) -> _Wrapper | None:
    """The wrapper, or None when the value is a payload without one."""
    try:
        return _wrapper_decoder.decode(value)
    except msgspec.ValidationError as error:
        if is_certain or _is_wrapper(value):
            raise RecordRefused(f"invalid wrapper: {error}") from None
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordRefused(f"invalid JSON: {error}") from None


def _is_wrapper(value: bytes) -> bool:
    try:
        shape = _shape_decoder.decode(value)
    except msgspec.ValidationError:
        return False
    return bytes(shape.type) in _KINDS
