"""Frames that a hub sends when something has gone wrong, or a long time has passed: made by the protocol itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.protocol import Protocol
from hub.sansio.publication import Publication
from tests.docs.transcripts import Mismatch

_TS = 1740000000000


def make_frame(protocol: Protocol, documented: Mapping[str, Any]) -> bytes:
    """What ``protocol`` says where the documents show ``documented``; its numbers are not looked at."""
    said = {**documented["data"], **documented} if "v" in documented else documented
    match documented["event"]:
        case "backpressure_drop":
            return protocol.dropped("trades@btc_tl", 101, 180, _TS)
        case "slow_consumer":
            return protocol.slow_consumer(147, 10.0, _TS)
        case "disconnecting":
            return protocol.disconnecting(said["code"], said["msg"], said["retryAfterMs"], _TS)
        case "covered":
            publication = Publication(1, b"{}", ts=_TS, stored_at=0.0, event="fill")
            return protocol.covered(said["channel"], publication, documented["data"]["channel"])
        case "token_expiring":
            return protocol.token_expiring(_TS, _TS)
        case "unsubscribed":
            return protocol.revoked(_refusal(documented), _TS)
        case "heartbeat":
            heartbeat = protocol.heartbeat("ggGg", _TS)
            assert heartbeat is not None
            return heartbeat
    raise Mismatch(f"how is {documented['event']} made?")


def _refusal(documented: Mapping[str, Any]) -> RequestRefused:
    """Why a subscription ended; /v2 and the live layer say it in their own ways."""
    data = documented["data"]
    reason = data["errors"][0] if "v" in documented else {**data, "channel": documented["ch"]}
    return RequestRefused(ErrorCode(reason["code"]), reason["msg"], channel=reason["channel"])
