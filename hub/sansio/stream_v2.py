"""The wire protocol at ``/v2``: what frames look like, in JSON and in CBOR (stream-v2.md).

Every function is pure: it turns values into the bytes of one message, or a message into a command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cbor2
import msgspec

from hub.sansio import strict_cbor, strict_json
from hub.sansio.commands import (
    Authenticate,
    Command,
    Ping,
    Subscribe,
    Subscribed,
    Unsubscribe,
    parse_channels,
    parse_seen,
    parse_token,
)
from hub.sansio.errors import CloseCode, ErrorCode, ProtocolViolated, RequestRefused
from hub.sansio.identity import Identity, identity_as_json
from hub.sansio.log import Gap
from hub.sansio.protocol import Limits, Protocol, Welcome
from hub.sansio.publication import Publication

MAX_ID = 2**31


class StreamV2Json(Protocol):
    """Text frames of JSON. Publications are spliced from the publisher's own bytes, never re-encoded."""

    name = "v2"
    is_text = True
    heartbeat_interval = None

    def decode(self, message: str | bytes) -> Any:
        if isinstance(message, bytes):
            raise ProtocolViolated(
                CloseCode.UNSUPPORTED_DATA, "binary frames need the subprotocol hub.v2.cbor"
            )
        try:
            return strict_json.loads(message)
        except strict_json.MalformedJson as error:
            raise ProtocolViolated(CloseCode.INVALID_MESSAGE, str(error)) from None

    def encode(self, value: Mapping[str, Any]) -> bytes:
        return msgspec.json.encode(value)

    def publication(self, channel: str, epoch: str, publication: Publication, *, has_type: bool) -> bytes:
        return _publication(channel, epoch, publication, has_type=has_type)

    def snapshot(self, channel: str, epoch: str, publication: Publication) -> bytes:
        return _snapshot(channel, epoch, publication)

    def covered(self, channel: str, publication: Publication, part: str) -> bytes:
        return self.encode(
            {
                "ch": channel,
                "ts": publication.ts,
                "seq": publication.seq,
                "type": "covered",
                "data": {"channel": part},
            }
        )

    def welcome(self, welcome: Welcome) -> bytes | None:
        return self.encode(
            {"event": "connected", "ts": welcome.ts, "connId": welcome.connection_id, "server": welcome.node}
        )

    def subscribed(self, command: Subscribe, outcome: Subscribed, ts: int) -> bytes:
        errors = outcome.errors_as_json()
        if not outcome.channels and errors:
            first = errors[0]
            return self.encode(
                _answer(command.id, first["code"], first["msg"], {"subscribed": [], "errors": errors})
            )
        data: dict[str, Any] = {"subscribed": outcome.channels, "positions": outcome.states_as_json()}
        if errors:
            return self.encode(_answer(command.id, 0, "partial", {**data, "errors": errors}))
        return self.encode(_answer(command.id, 0, "ok", data))

    def unsubscribed(self, command: Unsubscribe, ts: int) -> bytes:
        return self.encode(_answer(command.id, 0, "ok", {"unsubscribed": command.channels}))

    def pong(self, command: Ping, ts: int) -> bytes:
        return self.encode({"method": "pong", "id": command.id, "ts": ts})

    def authenticated(self, command: Authenticate, identity: Identity, ts: int) -> bytes:
        return self.encode(_answer(command.id, 0, "ok", identity_as_json(identity)))

    def token_expiring(self, expires_at_ms: int, ts: int) -> bytes:
        return self.encode({"event": "token_expiring", "ts": ts, "expiresAt": expires_at_ms})

    def revoked(self, refusal: RequestRefused, ts: int) -> bytes:
        return self.encode(
            {
                "event": "unsubscribed",
                "ch": refusal.channel,
                "ts": ts,
                "data": {"code": int(refusal.code), "msg": refusal.msg},
            }
        )

    def refused(self, refusal: RequestRefused, ts: int) -> bytes:
        answer: dict[str, Any] = {"code": int(refusal.code), "msg": refusal.msg}
        return self.encode(answer if refusal.request_id is None else {"id": refusal.request_id, **answer})

    def gap(self, channel: str, gap: Gap, epoch: str, ts: int) -> bytes:
        data = {"reason": gap.reason, "fromSeq": gap.from_seq, "toSeq": gap.to_seq, "epoch": epoch}
        return self.encode({"event": "gap", "ch": channel, "ts": ts, "data": data})

    def dropped(self, channel: str, from_seq: int, to_seq: int, ts: int) -> bytes:
        data = {"fromSeq": from_seq, "toSeq": to_seq, "dropped": to_seq - from_seq + 1}
        return self.encode({"event": "backpressure_drop", "ch": channel, "ts": ts, "data": data})

    def slow_consumer(self, dropped: int, window: float, ts: int) -> bytes:
        return self.encode({"event": "slow_consumer", "ts": ts, "dropped": dropped, "window": f"{window:g}s"})

    def disconnecting(self, code: int, msg: str, retry_after_ms: int, ts: int) -> bytes:
        return self.encode(
            {"event": "disconnecting", "code": code, "msg": msg, "retryAfterMs": retry_after_ms}
        )

    def heartbeat(self, cursor: str | None, ts: int) -> bytes | None:
        return None  # WebSocket pings do this on /v2

    def parse(self, message: str | bytes, limits: Limits) -> Command:
        request = self.decode(message)
        if not isinstance(request, dict):
            raise RequestRefused(ErrorCode.INVALID_REQUEST, "a request is an object")
        request_id = request.get("id")
        if type(request_id) is not int or not 1 <= request_id <= MAX_ID:
            raise RequestRefused(ErrorCode.INVALID_REQUEST, f"id must be an integer from 1 to {MAX_ID}")
        try:
            return _parse(request, request_id, limits)
        except RequestRefused as refusal:
            refusal.request_id = request_id
            raise


class StreamV2Cbor(StreamV2Json):
    """The same frames in CBOR, as binary frames (subprotocol ``hub.v2.cbor``)."""

    name = "v2.cbor"
    is_text = False

    def decode(self, message: str | bytes) -> Any:
        if isinstance(message, str):
            raise ProtocolViolated(CloseCode.UNSUPPORTED_DATA, "hub.v2.cbor takes binary frames")
        try:
            return strict_cbor.loads(message, max_depth=strict_json.MAX_DEPTH, tags=strict_cbor.INTEGER_TAGS)
        except strict_cbor.CBOR_ERRORS as error:
            raise ProtocolViolated(CloseCode.INVALID_MESSAGE, f"invalid CBOR: {error}") from None

    def encode(self, value: Mapping[str, Any]) -> bytes:
        return cbor2.dumps(value)

    def publication(self, channel: str, epoch: str, publication: Publication, *, has_type: bool) -> bytes:
        return _to_cbor(_publication(channel, epoch, publication, has_type=has_type))

    def snapshot(self, channel: str, epoch: str, publication: Publication) -> bytes:
        return _to_cbor(_snapshot(channel, epoch, publication))


def _to_cbor(message: bytes) -> bytes:
    return cbor2.dumps(msgspec.json.decode(message))


def _publication(channel: str, epoch: str, publication: Publication, *, has_type: bool) -> bytes:
    if publication.kind == "snapshot":
        return _snapshot(channel, epoch, publication)
    return b'{"ch":"%b","ts":%d,"seq":%d,%b"data":%b}' % (
        channel.encode(),
        publication.ts,
        publication.seq,
        b'"type":"delta",' if has_type or publication.kind else b"",
        publication.data,
    )


def _snapshot(channel: str, epoch: str, publication: Publication) -> bytes:
    known = publication.last_update_id
    return b'{"ch":"%b","ts":%d,"seq":%d,"type":"snapshot","snapshotSeq":%d,%b"epoch":"%b","data":%b}' % (
        channel.encode(),
        publication.ts,
        publication.seq,
        publication.seq,
        b"" if known is None else b'"lastUpdateId":%d,' % known,
        epoch.encode(),
        publication.data,
    )


def _parse_token(params: Any) -> str:
    return parse_token(params[0] if isinstance(params, list) and len(params) == 1 else None)


def _answer(request_id: int | None, code: int, msg: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": request_id, "code": code, "msg": msg, "data": data}


def _parse(request: Mapping[str, Any], request_id: int, limits: Limits) -> Command:
    match request.get("method"):
        case "subscribe":
            channels = parse_channels(request.get("params"), name="params", limit=limits.params)
            return Subscribe(request_id, channels, parse_seen(request.get("lastSeq")))
        case "unsubscribe":
            return Unsubscribe(
                request_id, parse_channels(request.get("params"), name="params", limit=limits.params)
            )
        case "ping":
            return Ping(request_id)
        case "auth":
            return Authenticate(request_id, _parse_token(request.get("params")))
        case str(method):
            raise RequestRefused(ErrorCode.INVALID_METHOD, f"unknown method {method[:32]!r}")
        case _:
            raise RequestRefused(ErrorCode.INVALID_REQUEST, "method must be a string")
