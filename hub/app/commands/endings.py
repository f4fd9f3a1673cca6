"""How connections end, and when to come back (stream-v2.md, "Leaving"; live-envelope.md, "Client libraries")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

import attrs
import msgspec

from hub.app.commands.envelopes import ChannelError
from hub.sansio.errors import CloseCode, ErrorCode

#: Coming back would end the same way, or is not wanted. 4003 asks for a new token, and we have none to offer.
FINAL_CLOSES = frozenset(
    {
        CloseCode.NORMAL,
        CloseCode.PROTOCOL_ERROR,
        CloseCode.UNSUPPORTED_DATA,
        CloseCode.INVALID_UTF8,
        CloseCode.TOO_BIG,
        CloseCode.INVALID_MESSAGE,
        CloseCode.UNAUTHENTICATED,
    }
)
#: Answers that may be better next time; any other error code is about what was asked for.
PASSING_ERRORS = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.INTERNAL, ErrorCode.UNAVAILABLE})
PASSING_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})

LONGEST_BACKOFF = 16.0
#: A connection that was closed with 4000 counts as a failure unless it lasted this long, in seconds.
STABLE = 60.0


@attrs.frozen(kw_only=True)
class Ending:
    """Why a connection is no more. ``code`` is the close code where the hub gave one; ``retry_after`` the
    seconds that it asks for; ``is_final``: there is no point in coming back."""

    reason: str
    code: int | None = None
    retry_after: float = 0.0
    is_final: bool = False


#: The client has what it wanted.
ENOUGH = Ending(reason="done", code=CloseCode.NORMAL, is_final=True)


def closed(code: int, msg: str, *, retry_after: float = 0.0) -> Ending:
    """The hub closed the connection."""
    reason = f"closed by the hub: {msg} ({code})" if msg else f"closed by the hub ({code})"
    return Ending(reason=reason, code=code, retry_after=retry_after, is_final=code in FINAL_CLOSES)


def not_served(error: ChannelError) -> Ending:
    """The hub cannot give what was asked for."""
    reason = (
        f"{error.msg} ({error.code})"
        if error.channel is None
        else f"{error.channel}: {error.msg} ({error.code})"
    )
    return Ending(reason=reason, is_final=error.code not in PASSING_ERRORS)


def refused(status: int, headers: Mapping[str, str], body: bytes) -> Ending:
    """An HTTP answer that is not what was hoped for; header names are lower case."""
    try:
        reason = not_served(msgspec.json.decode(body, type=ChannelError)).reason
    except (msgspec.MsgspecError, UnicodeDecodeError):
        reason = "not the answer of a hub"
    wait = headers.get("retry-after", "")
    return Ending(
        reason=f"{reason}, HTTP {status}",
        retry_after=float(wait) if wait.isascii() and wait.isdigit() else 0.0,
        is_final=status < 500 and status not in PASSING_STATUSES,
    )


class Backoff:
    """Waits of 1, 2, 4, 8, 16, 16 ... seconds, and up to one more by ``jitter`` (0 to 1), until a connection is
    good again."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._failures = 0

    def delay(self, ending: Ending, lasted: float | None) -> float:
        """Seconds to wait after ``ending`` of a connection that was good for ``lasted`` seconds (None: never)."""
        if lasted is not None and (ending.code != CloseCode.INTERNAL or lasted >= STABLE):
            self._failures = 0
        if ending.code == CloseCode.GOING_AWAY:  # another node is there, or soon this one again
            wait = 0.0
        else:
            wait = min(2.0**self._failures, LONGEST_BACKOFF)
            self._failures += 1
        return max(wait, ending.retry_after) + self._jitter()
