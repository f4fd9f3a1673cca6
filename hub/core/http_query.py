"""What the HTTP transports have in common: which channels, from where on, in which format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from urllib.parse import parse_qsl

import attrs

from hub.core.broker import Broker
from hub.core.contracts import Request
from hub.sansio import strict_json
from hub.sansio.commands import SeenPosition
from hub.sansio.cursor import encode_cursor
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import Identity
from hub.sansio.live import parse_resume
from hub.sansio.publication import Position

FORMATS = ("live", "v2")
MAX_FIELDS = 32


@attrs.frozen(kw_only=True)
class ChannelQuery:
    """A checked query. ``is_resumed``: the client has been here before."""

    channels: tuple[str, ...]
    seen: Mapping[str, SeenPosition]
    format: str
    fields: Mapping[str, str]
    is_resumed: bool


def parse_fields(request: Request) -> dict[str, str]:
    """The fields of a request's query; ``channels`` may come more than once. Raises RequestRefused (40005)."""
    try:
        pairs = parse_qsl(request.query, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise RequestRefused(ErrorCode.INVALID_REQUEST, "malformed query") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields and name != "channels":
            raise RequestRefused(ErrorCode.INVALID_REQUEST, f"{name[:32]} is given twice")
        fields[name] = f"{fields[name]},{value}" if name in fields else value
    return fields


def parse_format(fields: Mapping[str, str]) -> str:
    """Raises RequestRefused (40005)."""
    if (name := fields.get("format", "live")) not in FORMATS:
        raise RequestRefused(ErrorCode.INVALID_REQUEST, "format must be live or v2")
    return name


def parse_channel_query(request: Request, broker: Broker, *, last_event_id: bool = False) -> ChannelQuery:
    """Checks a request for channels as a whole: over HTTP there is no place to report a part of it.

    Raises RequestRefused.
    """
    fields = parse_fields(request)
    name = parse_format(fields)
    channels = tuple(dict.fromkeys(filter(None, fields.get("channels", "").split(","))))
    _check_channels(channels, broker, request.identity)
    cursor, last_seq = fields.get("cursor") or None, _parse_last_seq(fields)
    if last_event_id and request.headers.get("last-event-id"):
        # The browser repeats the URL it began with, and with it where it began: the header knows better.
        cursor, last_seq = request.headers["last-event-id"], None
    seen = parse_resume(cursor, last_seq, broker.protocol_limits)
    return ChannelQuery(
        channels=channels, seen=seen, format=name, fields=fields, is_resumed=cursor is not None or bool(seen)
    )


def _check_channels(channels: tuple[str, ...], broker: Broker, identity: Identity) -> None:
    limits, tier = broker.limits, broker.tiers.find(identity.tier)
    if not channels:
        raise RequestRefused(ErrorCode.INVALID_REQUEST, "channels must name at least one channel")
    if len(channels) > limits.params:
        raise RequestRefused(ErrorCode.INVALID_REQUEST, f"at most {limits.params} channels at once")
    if tier.channels_per_connection and len(channels) > tier.channels_per_connection:
        msg = f"at most {tier.channels_per_connection} channels per connection"
        raise RequestRefused(ErrorCode.TOO_MANY_SUBSCRIPTIONS, msg)
    for channel in channels:
        broker.registry.check(channel, identity)
    # The answer carries a cursor of all of them, so that must fit, however far they have counted.
    if len(encode_cursor(zip(channels, _far_positions(), strict=False))) > limits.cursor_size:
        msg = f"the cursor of so many channels would be longer than {limits.cursor_size} bytes"
        raise RequestRefused(ErrorCode.TOO_MANY_SUBSCRIPTIONS, msg)


def _far_positions() -> Iterator[Position]:
    """Positions further than any is likely to be (a million million), and too different to be deflated well."""
    return (Position("0123456789abcdef", 2**40 + number * 0x9E3779B97F % 2**40) for number in count())


def _parse_last_seq(fields: Mapping[str, str]) -> object:
    if not (text := fields.get("lastSeq")):
        return None
    try:
        return strict_json.loads(text)
    except strict_json.MalformedJson as error:
        raise RequestRefused(ErrorCode.INVALID_REQUEST, f"lastSeq: {error}") from None
