"""Follows channels of a hub over one connection after another, so that each event is told once.

A path (WebSocket, SSE, long-poll) owns a connection and what is peculiar to it; the follower owns what
outlives it: the progress, the patience, what is told to whom.
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus

import attrs
import trio

from hub.app.commands.endings import ENOUGH, Backoff, Ending, closed, not_served, refused
from hub.app.commands.envelopes import (
    BadEnvelope,
    ChannelError,
    Disconnecting,
    Envelope,
    Expiring,
    Heartbeat,
    Lost,
    Subscribed,
    parse_data,
    parse_envelope,
)
from hub.app.commands.progress import NOTICES, Progress
from hub.sansio.errors import CloseCode, ErrorCode

#: What a channel says of a number whose event comes on another channel that is followed, too.
COVERED = "covered"
#: The end of the year 9999, beyond which there are no dates to be printed.
_LAST_SECOND = 253_402_300_799
#: Codes that ask for other credentials, or for any.
_CREDENTIAL_ERRORS = frozenset({ErrorCode.UNAUTHENTICATED, ErrorCode.TOKEN_EXPIRED})


class Follower:
    """Follows ``channels``, from ``cursor`` on if there is one, for ``count`` events if that is not None.

    ``headers`` say who asks; they go with every request and are nowhere told. ``tell`` gets each event as the JSON
    of its envelope; ``say`` what becomes of the connection, in words.
    """

    def __init__(
        self,
        channels: Sequence[str],
        *,
        cursor: str | None = None,
        count: int | None = None,
        headers: Mapping[str, str] | None = None,
        tell: Callable[[bytes], None],
        say: Callable[[str], None],
        jitter: Callable[[], float],
    ) -> None:
        self.channels = tuple(dict.fromkeys(channels))
        self.headers = dict(headers or {})
        self.progress = Progress(cursor)
        self._left = count
        self._tell = tell
        self._say = say
        self._backoff = Backoff(jitter)
        self._connected_at: float | None = None
        self._answers_due = 0
        self._farewell: Ending | None = None

    @property
    def wants_more(self) -> bool:
        return self._left is None or self._left > 0

    async def run(self, connect: Callable[[Follower], Awaitable[Ending]]) -> Ending:
        """Follows until it has enough or there is no point in going on; returns why. ``connect`` makes a
        connection, feeds us, and returns how it ended."""
        while True:
            self._connected_at = self._farewell = None
            ending = await connect(self)
            if not self.wants_more:
                return ENOUGH
            if ending.is_final:
                return ending
            delay = self._backoff.delay(ending, self._lasted())
            self._say(f"{ending.reason}; reconnecting in {delay:.1f} s")
            await trio.sleep(delay)

    def _lasted(self) -> float | None:
        return None if self._connected_at is None else trio.current_time() - self._connected_at

    # --- what a path tells us -----------------------------------------------------------------------------

    def ask(self, requests: int) -> None:
        """Subscribes in so many requests; each will be answered."""
        self._answers_due = requests

    def connected(self) -> None:
        """The channels are subscribed."""
        if self._connected_at is None:
            self._connected_at = trio.current_time()
            self._say("connected")

    def reach(self, cursor: str | None) -> None:
        """The hub gave a cursor for all that we were told so far."""
        if not self._answers_due:  # else it does not speak of all channels yet
            self.progress.reach(cursor)

    def take(self, raw: bytes) -> Ending | None:
        """Takes one envelope; an ending where it says that the connection is of no use."""
        try:
            envelope = parse_envelope(raw)
            if envelope.is_of_connection:
                return self._heed(envelope)
            self._take_event(envelope, raw)
        except BadEnvelope as error:
            self._say(f"dropped an event that cannot be understood: {error}")
        return None

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> Ending:
        """What an answer means that is not what was hoped for; header names are lower case. HTTP's 401 is what a
        close with 4003 is elsewhere."""
        ending = refused(status, headers, body)
        is_about_us = status == HTTPStatus.UNAUTHORIZED
        return attrs.evolve(ending, code=CloseCode.UNAUTHENTICATED) if is_about_us else ending

    def ended(self, ending: Ending) -> Ending:
        """What the end of the connection means: what the hub said before counts more than what was seen."""
        return self._farewell or ending

    # --- what it means ------------------------------------------------------------------------------------

    def _take_event(self, envelope: Envelope, raw: bytes) -> None:
        if not self.wants_more or not self.progress.take(envelope) or envelope.event == COVERED:
            return
        if envelope.event in NOTICES:
            self._say(_describe_loss(envelope))
        if self._left is not None:
            self._left -= 1
        self._tell(raw)

    def _heed(self, envelope: Envelope) -> Ending | None:
        match envelope.event:
            case "subscribed":
                return self._heed_answer(parse_data(envelope, Subscribed))
            case "heartbeat":
                self.reach(parse_data(envelope, Heartbeat).cursor)
            case "error":
                return _not_served(parse_data(envelope, ChannelError))
            case "disconnecting":
                bye = parse_data(envelope, Disconnecting)
                self._farewell = closed(bye.code, bye.msg, retry_after=bye.retry_after_ms / 1000)
            case "slow_consumer":
                self._say("the hub says that we are slow")
            case "token_expiring":
                self._say(f"the credentials expire at {_describe_time(parse_data(envelope, Expiring))}")
        return None

    def _heed_answer(self, answer: Subscribed) -> Ending | None:
        if answer.errors:
            return _not_served(answer.errors[0])
        self.progress.begin(answer.positions)
        self._answers_due -= 1
        if not self._answers_due:
            self.progress.settle(answer.cursor)
            self.connected()
        return None


def _not_served(error: ChannelError) -> Ending:
    ending = not_served(error)
    return (
        attrs.evolve(ending, code=CloseCode.UNAUTHENTICATED) if error.code in _CREDENTIAL_ERRORS else ending
    )


def _describe_time(expiring: Expiring) -> str:
    seconds = min(max(expiring.expires_at // 1000, 0), _LAST_SECOND)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _describe_loss(envelope: Envelope) -> str:
    lost = parse_data(envelope, Lost)
    what = f"{lost.from_seq} to {lost.to_seq}"
    if lost.to_seq is None:
        what = f"whatever came after {lost.from_seq - 1}"
    return f"{envelope.channel}: lost {what} ({lost.reason})"
