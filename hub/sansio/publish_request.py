"""What ``POST /publish`` takes: one event, a list of them, or a line each (operations.md)."""

from __future__ import annotations

import json
from typing import Annotated

import msgspec

from hub.sansio.errors import ErrorCode, PublishRefused
from hub.sansio.payload import BadPayload, check_payload
from hub.sansio.publication import MAX_SEQ, MAX_UPDATE_ID

#: Idempotency keys are remembered by the hundred thousand.
MAX_ID_LENGTH = 256
#: As long as a token's user may be called (``hub.auth``).
MAX_USER_LENGTH = 128


class PublishItem(msgspec.Struct):
    """One event to publish. ``ts`` is Unix milliseconds; ``id`` makes a repetition harmless."""

    channel: str
    data: msgspec.Raw
    event: str | None = None
    ts: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)] | None = None
    id: Annotated[str, msgspec.Meta(max_length=MAX_ID_LENGTH)] | None = None
    type: str | None = None
    user: Annotated[str, msgspec.Meta(max_length=MAX_USER_LENGTH)] | None = None
    last_update_id: Annotated[int, msgspec.Meta(ge=0, le=MAX_UPDATE_ID)] | None = msgspec.field(
        default=None, name="lastUpdateId"
    )


_item_decoder = msgspec.json.Decoder(PublishItem)
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def split_body(body: bytes, *, is_ndjson: bool) -> list[bytes]:
    """The items of a body, not yet looked into. Raises PublishRefused where there is no telling them apart."""
    if is_ndjson:
        return [line for line in body.split(b"\n") if line.strip()]
    try:
        if not body.lstrip().startswith(b"["):
            return [bytes(msgspec.json.decode(body, type=msgspec.Raw))]
        return [bytes(raw) for raw in _list_decoder.decode(body)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PublishRefused(ErrorCode.INVALID_REQUEST, f"invalid JSON: {error}") from None


def parse_item(raw: bytes) -> tuple[PublishItem, bytes]:
    """An item and its payload. Raises PublishRefused (40005)."""
    try:
        item = _item_decoder.decode(raw)
        return item, check_payload(bytes(item.data))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PublishRefused(ErrorCode.INVALID_REQUEST, f"not an event: {error}") from None
    except BadPayload as error:
        raise PublishRefused(ErrorCode.INVALID_REQUEST, f"data: {error}") from None


def find_channel(raw: bytes) -> str | None:
    """The channel that an item names which `parse_item` refused; None where it names none.

    The standard library reads what the decoder above does not, such as NaN.
    """
    try:
        item = json.loads(raw)
        channel = item.get("channel") if isinstance(item, dict) else None
        return channel.encode().decode() if isinstance(channel, str) else None
    except (ValueError, RecursionError):  # a lone surrogate in the name is a ValueError too
        return None
