"""Envelopes as a client reads them (live-envelope.md): the least that must be right, and what the hub says of
itself."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from hub.sansio.live import SYSTEM, VERSION

T = TypeVar("T")


class BadEnvelope(ValueError):
    """The hub's fault, or somebody's in between: an event that cannot be used. It is dropped."""


class Envelope(msgspec.Struct, frozen=True):
    """``data`` stays as it came."""

    v: int
    event: str
    channel: str
    seq: int
    ts: int
    data: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def is_of_connection(self) -> bool:
        """Whether it speaks of the connection rather than of a channel."""
        return self.channel == SYSTEM


class ChannelError(msgspec.Struct, frozen=True):
    """What cannot be had, with a code of stream-v2.md."""

    code: int
    msg: str
    channel: str | None = None


class Head(msgspec.Struct, frozen=True):
    """Where a channel stood when it was subscribed."""

    seq: int
    epoch: str


class Subscribed(msgspec.Struct, frozen=True):
    """``data`` of ``subscribed``."""

    positions: dict[str, Head]
    errors: list[ChannelError] = []
    cursor: str | None = None


class Heartbeat(msgspec.Struct, frozen=True):
    """``data`` of ``heartbeat``."""

    cursor: str | None = None


class Disconnecting(msgspec.Struct, frozen=True, rename="camel"):
    """``data`` of ``disconnecting``."""

    code: int
    msg: str = ""
    retry_after_ms: int = 0


class Expiring(msgspec.Struct, frozen=True, rename="camel"):
    """``data`` of ``token_expiring``: Unix milliseconds."""

    expires_at: int


class Lost(msgspec.Struct, frozen=True, rename="camel"):
    """``data`` of ``gap`` and ``backpressure_drop``; ``to_seq`` is None where nobody can know it."""

    from_seq: int
    to_seq: int | None = None
    reason: str = "slow"
    epoch: str | None = None


class PollAnswer(msgspec.Struct, frozen=True):
    """The body of ``/poll``."""

    cursor: str
    events: list[msgspec.Raw]


_envelopes = msgspec.json.Decoder(Envelope)


def parse_envelope(raw: bytes) -> Envelope:
    """Raises BadEnvelope."""
    try:
        envelope = _envelopes.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadEnvelope(str(error)) from None
    if envelope.v != VERSION:
        raise BadEnvelope(f"version {envelope.v}")
    return envelope


def parse_data(envelope: Envelope, kind: type[T]) -> T:
    """Raises BadEnvelope."""
    try:
        return msgspec.json.decode(envelope.data, type=kind)
    except msgspec.MsgspecError as error:
        raise BadEnvelope(f"{envelope.event}: {error}") from None
