"""What every wire protocol can say. The session speaks in these words and does not know which it is."""

from __future__ import annotations

import abc
from typing import ClassVar

import attrs

from hub.sansio.commands import Authenticate, Command, Ping, Subscribe, Subscribed, Unsubscribe
from hub.sansio.errors import RequestRefused
from hub.sansio.identity import Identity
from hub.sansio.log import Gap
from hub.sansio.publication import Publication


@attrs.frozen
class Limits:
    """Bounds of what one message may ask."""

    params: int
    cursor_size: int


@attrs.frozen
class Welcome:
    """What a client is told first. ``outcome`` is there where the connection came with its subscriptions."""

    ts: int
    connection_id: str
    node: str
    outcome: Subscribed | None = None


class Protocol(abc.ABC):
    """Turns what happens into messages (bytes, without any framing) and messages into commands.

    ``ts`` is Unix milliseconds everywhere.
    """

    #: How metrics, logs and ``format=`` call it.
    name: ClassVar[str]
    #: Whether messages are UTF-8 text.
    is_text: ClassVar[bool]
    #: Seconds of silence after which a heartbeat is due; None where the transport keeps itself alive.
    heartbeat_interval: ClassVar[float | None]

    @abc.abstractmethod
    def parse(self, message: str | bytes, limits: Limits) -> Command:
        """Raises RequestRefused (an answer says why) or ProtocolViolated (the connection ends)."""

    @abc.abstractmethod
    def welcome(self, welcome: Welcome) -> bytes | None:
        """The first message, or None where the protocol has none."""

    @abc.abstractmethod
    def publication(self, channel: str, epoch: str, publication: Publication, *, has_type: bool) -> bytes:
        """An event. ``has_type``: the channel has snapshots, so the message says what this one is."""

    @abc.abstractmethod
    def snapshot(self, channel: str, epoch: str, publication: Publication) -> bytes:
        """The state of a channel as of ``publication``."""

    @abc.abstractmethod
    def covered(self, channel: str, publication: Publication, part: str) -> bytes:
        """The publication's number in ``channel``, for a client that gets the event itself on ``part``."""

    @abc.abstractmethod
    def subscribed(self, command: Subscribe, outcome: Subscribed, ts: int) -> bytes: ...

    @abc.abstractmethod
    def unsubscribed(self, command: Unsubscribe, ts: int) -> bytes: ...

    @abc.abstractmethod
    def pong(self, command: Ping, ts: int) -> bytes: ...

    @abc.abstractmethod
    def authenticated(self, command: Authenticate, identity: Identity, ts: int) -> bytes: ...

    @abc.abstractmethod
    def token_expiring(self, expires_at_ms: int, ts: int) -> bytes:
        """Told ahead of time, so that the client can bring a new token."""

    @abc.abstractmethod
    def revoked(self, refusal: RequestRefused, ts: int) -> bytes:
        """A subscription ended, because new credentials do not allow it."""

    @abc.abstractmethod
    def refused(self, refusal: RequestRefused, ts: int) -> bytes: ...

    @abc.abstractmethod
    def gap(self, channel: str, gap: Gap, epoch: str, ts: int) -> bytes:
        """What a returning client cannot be given."""

    @abc.abstractmethod
    def dropped(self, channel: str, from_seq: int, to_seq: int, ts: int) -> bytes:
        """What a slow client lost, both ends included."""

    @abc.abstractmethod
    def slow_consumer(self, dropped: int, window: float, ts: int) -> bytes: ...

    @abc.abstractmethod
    def disconnecting(self, code: int, msg: str, retry_after_ms: int, ts: int) -> bytes: ...

    @abc.abstractmethod
    def heartbeat(self, cursor: str | None, ts: int) -> bytes | None: ...
