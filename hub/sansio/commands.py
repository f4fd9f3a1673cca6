"""What clients ask for, whichever protocol they ask it in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from hub.sansio.cursor import is_epoch, is_seq
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.log import Gap
from hub.sansio.publication import Position


@attrs.frozen
class SeenPosition:
    """Up to where a client has seen a channel. Without an epoch it means whatever history is current."""

    seq: int
    epoch: str | None = None


@attrs.frozen
class Subscribe:
    """Wants ``channels``; ``seen`` says from where on, for those that it has seen before."""

    id: int | None
    channels: tuple[str, ...]
    seen: Mapping[str, SeenPosition]


@attrs.frozen
class Unsubscribe:
    id: int | None
    channels: tuple[str, ...]


@attrs.frozen
class Ping:
    id: int | None


@attrs.frozen
class Authenticate:
    """Brings new credentials. The token is in no log and no text."""

    id: int | None
    token: str = attrs.field(repr=False)


Command = Subscribe | Unsubscribe | Ping | Authenticate


@attrs.frozen
class ChannelState:
    """What an answer tells of a channel: its head, the oldest that is buffered, and what could not be resumed."""

    head: Position
    first_seq: int
    gap: Gap | None = None

    def as_json(self) -> dict[str, Any]:
        state: dict[str, Any] = {"seq": self.head.seq, "firstSeq": self.first_seq, "epoch": self.head.epoch}
        return state if self.gap is None else {**state, "recovered": False}


@attrs.frozen
class Subscribed:
    """The outcome of a Subscribe: what is subscribed now, what is not, and where each channel stands."""

    channels: tuple[str, ...]
    errors: tuple[RequestRefused, ...]
    states: Mapping[str, ChannelState]
    cursor: str | None = None

    def errors_as_json(self) -> list[dict[str, Any]]:
        return [
            {"channel": error.channel, "code": int(error.code), "msg": error.msg} for error in self.errors
        ]

    def states_as_json(self) -> dict[str, Any]:
        return {channel: state.as_json() for channel, state in self.states.items()}


def parse_token(value: Any) -> str:
    """A token from outside, unverified. Raises RequestRefused (40005)."""
    if not isinstance(value, str) or not value:
        raise RequestRefused(ErrorCode.INVALID_REQUEST, "auth takes one token, a string")
    return value


def parse_seen(value: Any) -> Mapping[str, SeenPosition]:
    """A ``lastSeq`` from outside: ``{channel: seq}`` or ``{channel: {"seq": ..., "epoch": ...}}``.

    Raises RequestRefused (40005) for anything else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestRefused(ErrorCode.INVALID_REQUEST, "lastSeq must be an object of channel names")
    return {channel: _parse_seen_position(channel, seen) for channel, seen in value.items()}


def _parse_seen_position(channel: Any, seen: Any) -> SeenPosition:
    seq, epoch = (seen.get("seq"), seen.get("epoch")) if isinstance(seen, dict) else (seen, None)
    if not isinstance(channel, str):
        raise RequestRefused(ErrorCode.INVALID_REQUEST, "lastSeq must be an object of channel names")
    if not is_seq(seq):
        raise RequestRefused(
            ErrorCode.INVALID_REQUEST, f"lastSeq of {channel[:64]!r} is not a sequence number"
        )
    if not (epoch is None or is_epoch(epoch)):
        raise RequestRefused(ErrorCode.INVALID_REQUEST, f"lastSeq of {channel[:64]!r} has an invalid epoch")
    assert isinstance(seq, int)
    return SeenPosition(seq, epoch)


def seen_from_cursor(positions: Mapping[str, Position]) -> Mapping[str, SeenPosition]:
    """What a cursor's bearer has seen."""
    return {channel: SeenPosition(position.seq, position.epoch) for channel, position in positions.items()}


def parse_channels(value: Any, *, name: str, limit: int) -> tuple[str, ...]:
    """A list of channel names from outside, each once, in order. Whether they exist is asked later.

    Raises RequestRefused (40005).
    """
    if not isinstance(value, list) or not value or not all(isinstance(channel, str) for channel in value):
        raise RequestRefused(ErrorCode.INVALID_REQUEST, f"{name} must be a list of channel names")
    if len(value) > limit:
        raise RequestRefused(ErrorCode.INVALID_REQUEST, f"at most {limit} {name} at once")
    return tuple(dict.fromkeys(value))
