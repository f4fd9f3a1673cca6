"""The envelope of the live layer: ``/live``, ``/sse`` and ``/poll`` (live-envelope.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hub.sansio import strict_json
from hub.sansio.commands import (
    Authenticate,
    Command,
    Ping,
    SeenPosition,
    Subscribe,
    Subscribed,
    Unsubscribe,
    parse_channels,
    parse_seen,
    parse_token,
    seen_from_cursor,
)
from hub.sansio.cursor import decode_cursor
from hub.sansio.errors import CloseCode, ErrorCode, ProtocolViolated, RequestRefused
from hub.sansio.identity import Identity, identity_as_json
from hub.sansio.log import Gap
from hub.sansio.protocol import Limits, Protocol, Welcome
from hub.sansio.publication import Publication

VERSION = 1
#: The channel of what belongs to the connection rather than to a channel.
SYSTEM = "system"


class LiveEnvelope(Protocol):
    """JSON envelopes of version 1."""

    name = "live"
    is_text = True
    heartbeat_interval = 5.0

    def parse(self, message: str | bytes, limits: Limits) -> Command:
        if isinstance(message, bytes):
            raise ProtocolViolated(CloseCode.UNSUPPORTED_DATA, "/live takes text frames")
        try:
            command = strict_json.loads(message)
        except strict_json.MalformedJson as error:
            raise ProtocolViolated(CloseCode.INVALID_MESSAGE, str(error)) from None
        if not isinstance(command, dict):
            raise RequestRefused(ErrorCode.INVALID_REQUEST, "a command is an object")
        return _parse(command, limits)

    def publication(self, channel: str, epoch: str, publication: Publication, *, has_type: bool) -> bytes:
        return _envelope(publication.event, channel, publication.seq, publication.ts, publication.data)

    def snapshot(self, channel: str, epoch: str, publication: Publication) -> bytes:
        return _envelope("snapshot", channel, publication.seq, publication.ts, publication.data)

    def covered(self, channel: str, publication: Publication, part: str) -> bytes:
        data = msgspec.json.encode({"channel": part})
        return _envelope("covered", channel, publication.seq, publication.ts, data)

    def welcome(self, welcome: Welcome) -> bytes | None:
        if welcome.outcome is None:
            return None
        return self._subscribed(welcome.outcome, welcome.ts)

    def subscribed(self, command: Subscribe, outcome: Subscribed, ts: int) -> bytes:
        return self._subscribed(outcome, ts)

    def _subscribed(self, outcome: Subscribed, ts: int) -> bytes:
        data: dict[str, Any] = {
            "channels": outcome.channels,
            "errors": outcome.errors_as_json(),
            "positions": outcome.states_as_json(),
        }
        return _system(
            "subscribed", ts, data if outcome.cursor is None else {**data, "cursor": outcome.cursor}
        )

    def unsubscribed(self, command: Unsubscribe, ts: int) -> bytes:
        return _system("unsubscribed", ts, {"channels": command.channels})

    def pong(self, command: Ping, ts: int) -> bytes:
        return _system("pong", ts, {})

    def authenticated(self, command: Authenticate, identity: Identity, ts: int) -> bytes:
        return _system("authenticated", ts, identity_as_json(identity))

    def token_expiring(self, expires_at_ms: int, ts: int) -> bytes:
        return _system("token_expiring", ts, {"expiresAt": expires_at_ms})

    def revoked(self, refusal: RequestRefused, ts: int) -> bytes:
        data = {"channel": refusal.channel, "code": int(refusal.code), "msg": refusal.msg}
        return _system("unsubscribed", ts, {"channels": [refusal.channel], "errors": [data]})

    def refused(self, refusal: RequestRefused, ts: int) -> bytes:
        data = {"code": int(refusal.code), "msg": refusal.msg}
        return _envelope(
            "error",
            SYSTEM,
            0,
            ts,
            msgspec.json.encode(data),
            error_code=ERROR_NAMES.get(refusal.code, "BAD_REQUEST"),
        )

    def gap(self, channel: str, gap: Gap, epoch: str, ts: int) -> bytes:
        data = {"reason": gap.reason, "fromSeq": gap.from_seq, "toSeq": gap.to_seq, "epoch": epoch}
        # An envelope's seq says "all up to here is dealt with", so that a client's count goes on from it.
        return _envelope("gap", channel, gap.to_seq or 0, ts, msgspec.json.encode(data))

    def dropped(self, channel: str, from_seq: int, to_seq: int, ts: int) -> bytes:
        data = {"fromSeq": from_seq, "toSeq": to_seq, "dropped": to_seq - from_seq + 1}
        return _envelope("backpressure_drop", channel, to_seq, ts, msgspec.json.encode(data))

    def slow_consumer(self, dropped: int, window: float, ts: int) -> bytes:
        return _system("slow_consumer", ts, {"dropped": dropped, "window": f"{window:g}s"})

    def disconnecting(self, code: int, msg: str, retry_after_ms: int, ts: int) -> bytes:
        return _system("disconnecting", ts, {"code": code, "msg": msg, "retryAfterMs": retry_after_ms})

    def heartbeat(self, cursor: str | None, ts: int) -> bytes | None:
        return _system("heartbeat", ts, {} if cursor is None else {"cursor": cursor})


#: What an envelope's ``errorCode`` says for the codes of stream-v2.md.
ERROR_NAMES: Mapping[ErrorCode, str] = {
    ErrorCode.INVALID_CHANNEL: "INVALID_CHANNEL",
    ErrorCode.UNAVAILABLE_CHANNEL: "CHANNEL_UNAVAILABLE",
    ErrorCode.TOO_MANY_SUBSCRIPTIONS: "TOO_MANY_SUBSCRIPTIONS",
    ErrorCode.RATE_LIMITED: "RATE_LIMITED",
    ErrorCode.INVALID_REQUEST: "INVALID_REQUEST",
    ErrorCode.INVALID_METHOD: "INVALID_METHOD",
    ErrorCode.UNAUTHENTICATED: "UNAUTHENTICATED",
    ErrorCode.TOKEN_EXPIRED: "TOKEN_EXPIRED",
    ErrorCode.FORBIDDEN: "FORBIDDEN",
    ErrorCode.INTERNAL: "INTERNAL_ERROR",
    ErrorCode.UNAVAILABLE: "DATA_UNAVAILABLE",
}


def _envelope(
    event: str, channel: str, seq: int, ts: int, data: bytes, *, error_code: str | None = None
) -> bytes:
    outcome = b'"ok":true' if error_code is None else b'"ok":false,"errorCode":"%b"' % error_code.encode()
    return b'{"v":%d,"event":"%b","channel":"%b","seq":%d,"ts":%d,%b,"data":%b}' % (
        VERSION,
        event.encode(),
        channel.encode(),
        seq,
        ts,
        outcome,
        data,
    )


def _system(event: str, ts: int, data: Mapping[str, Any]) -> bytes:
    return _envelope(event, SYSTEM, 0, ts, msgspec.json.encode(data))


def _parse(command: Mapping[str, Any], limits: Limits) -> Command:
    match command.get("type"):
        case "subscribe":
            channels = parse_channels(command.get("channels"), name="channels", limit=limits.params)
            return Subscribe(
                None, channels, parse_resume(command.get("cursor"), command.get("lastSeq"), limits)
            )
        case "unsubscribe":
            return Unsubscribe(
                None, parse_channels(command.get("channels"), name="channels", limit=limits.params)
            )
        case "ping":
            return Ping(None)
        case "auth":
            return Authenticate(None, parse_token(command.get("token")))
        case str(kind):
            raise RequestRefused(ErrorCode.INVALID_METHOD, f"unknown command {kind[:32]!r}")
        case _:
            raise RequestRefused(ErrorCode.INVALID_REQUEST, "type must be a string")


def parse_resume(cursor: Any, last_seq: Any, limits: Limits) -> Mapping[str, SeenPosition]:
    """Where a client goes on, by ``cursor`` or by ``lastSeq``; the latter wins where both name a channel,
    because a client that counts for itself knows better. Raises RequestRefused (40005)."""
    seen = parse_seen(last_seq)
    if cursor is None:
        return seen
    if not isinstance(cursor, str):
        raise RequestRefused(ErrorCode.INVALID_REQUEST, "cursor must be a string")
    return {**seen_from_cursor(decode_cursor(cursor, max_size=limits.cursor_size)), **seen}
