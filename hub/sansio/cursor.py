"""The cursor: where a client is in a whole set of channels, as one opaque string.

CBOR ``[1, {epoch: {channel: seq}}]`` in base64url without padding: safe in a URL and in a header, and
short where channels share an epoch, as they mostly do. One of many channels is deflated, since names are
alike, and begins with ``z``. It says what a client has seen, never what it may
see: rights are checked again wherever a cursor comes in.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import cbor2

from hub.sansio import strict_cbor
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.names import is_channel_name
from hub.sansio.publication import MAX_SEQ, Position

VERSION = 1
#: The first character of a deflated cursor. The others begin with ``g``, as their CBOR begins with 0x82.
DEFLATED = "z"
#: Bytes of CBOR beyond which deflating is worth its 30 microseconds.
DEFLATE_BEYOND = 384
#: No cursor of ours inflates to more: 200 channels of 64 characters.
MAX_INFLATED = 32 * 1024
MAX_EPOCH_LENGTH = 64
#: Of the CBOR; ours is three deep.
MAX_DEPTH = 8


def encode_cursor(positions: Iterable[tuple[str, Position]]) -> str:
    """The cursor of ``(channel, position)`` pairs."""
    epochs: dict[str, dict[str, int]] = {}
    for channel, position in positions:
        epochs.setdefault(position.epoch, {})[channel] = position.seq
    raw = cbor2.dumps([VERSION, epochs])
    if len(raw) <= DEFLATE_BEYOND:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
    return DEFLATED + base64.urlsafe_b64encode(zlib.compress(raw, level=6)).rstrip(b"=").decode("ascii")


def decode_cursor(text: str, *, max_size: int) -> Mapping[str, Position]:
    """The positions in a cursor, by channel. Raises RequestRefused (40005) for whatever is not one."""
    if len(text) > max_size:
        raise _bad(f"longer than {max_size} characters")
    try:
        value = _decode_value(text)
    except (*strict_cbor.CBOR_ERRORS, zlib.error):
        raise _bad("not a cursor of this hub") from None
    if not (isinstance(value, list) and len(value) == 2 and value[0] == VERSION):
        raise _bad("not a cursor of this hub")
    return _positions(value[1])


def _decode_value(text: str) -> Any:
    is_deflated = text.startswith(DEFLATED)
    encoded = text.removeprefix(DEFLATED).encode("ascii")
    raw = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    if is_deflated:
        inflater = zlib.decompressobj()
        raw = inflater.decompress(raw, MAX_INFLATED)
        if not inflater.eof or inflater.unused_data:
            raise ValueError("not whole, or too long")
    return strict_cbor.loads(raw, max_depth=MAX_DEPTH)


def _positions(epochs: object) -> Mapping[str, Position]:
    if not isinstance(epochs, dict):
        raise _bad("not a cursor of this hub")
    positions: dict[str, Position] = {}
    for epoch, channels in epochs.items():
        if not (is_epoch(epoch) and isinstance(channels, dict)):
            raise _bad("not a cursor of this hub")
        for channel, seq in channels.items():
            if (
                not (isinstance(channel, str) and is_channel_name(channel) and is_seq(seq))
                or channel in positions
            ):
                raise _bad("not a cursor of this hub")
            positions[channel] = Position(epoch, seq)
    return positions


def is_epoch(value: object) -> bool:
    """Whether a value from outside can be an epoch's name."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_EPOCH_LENGTH
        and value.isascii()
        and value.isprintable()
    )


def is_seq(value: object) -> bool:
    """Whether a value from outside can be a sequence number (0 is "before the first")."""
    return type(value) is int and 0 <= value <= MAX_SEQ


def _bad(why: str) -> RequestRefused:
    return RequestRefused(ErrorCode.INVALID_REQUEST, f"bad cursor: {why}")
