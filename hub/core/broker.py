"""The broker: what sources publish into and transports serve from. The one core object."""

from __future__ import annotations

import logging
import random
import string
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

import attrs
import trio

from hub.core.channel import Channel
from hub.core.contracts import Authenticator, Link
from hub.core.fair_use import Usage
from hub.core.first_states import FetchState, FirstStates
from hub.core.intake import Intake
from hub.core.numbering import MemoryNumbering, Numbering
from hub.core.registry import Registry, RegistryLimits
from hub.core.scheduler import Scheduler
from hub.core.session import TICK, Farewell, Session
from hub.core.statistics import BrokerStatistics, Counts, UserCounts
from hub.sansio.commands import SeenPosition, Subscribe
from hub.sansio.drops import SlowRules
from hub.sansio.encodings import Encoding
from hub.sansio.errors import CloseCode, ErrorCode, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.names import Namespaces
from hub.sansio.protocol import Limits, Welcome
from hub.sansio.tiers import Tiers

logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class ExpiryRules:
    """When clients are told that their credentials end, and whether, and how long after, they must go. Seconds."""

    warning: float = 60.0
    grace: float = 30.0
    closes: bool = True


@attrs.frozen(kw_only=True)
class BrokerLimits:
    """Bounds of what clients may ask and how slow they may be; 0 means no bound. Times are in seconds."""

    params: int = 200
    cursor_size: int = 2048
    write_deadline: float = 60.0
    idle_timeout: float = 60.0
    first_state_timeout: float = 5.0
    expiry: ExpiryRules = attrs.field(factory=ExpiryRules)
    slow: SlowRules = attrs.field(factory=SlowRules)
    registry: RegistryLimits = attrs.field(factory=RegistryLimits)


#: When one whose credentials cannot be checked now may try again.
UNAVAILABLE_RETRY_MS = 5_000
#: The tier whose users are counted one by one.
MARKET_MAKER = "mm"
#: When a client that has too many connections may try again.
RETRY_AFTER_MS = 30_000


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class News:
    """Tells a waiting reader that a channel has news, or that it must go. The event is made anew for each wait."""

    def __init__(self, user: str | None) -> None:
        self.user = user
        #: Why it must go.
        self.refusal: RequestRefused | None = None
        self.event = trio.Event()
        self.channels: list[Channel] = []

    def listen_to(self, channel: Channel) -> None:
        self.channels.append(channel)
        channel.waiters.add(self.event)

    async def wait(self) -> None:
        """Raises RequestRefused where the reader's rights were taken back."""
        await self.event.wait()
        if self.refusal is not None:
            raise self.refusal
        self.ignore()
        self.event = trio.Event()
        for channel in self.channels:
            channel.waiters.add(self.event)

    def ignore(self) -> None:
        """No channel tells any more."""
        for channel in self.channels:
            channel.waiters.discard(self.event)


class Broker:
    """Takes publications, keeps channels, serves sessions.

    ``run`` must be running for anything to be delivered. ``publish`` works before that.
    """

    def __init__(
        self,
        namespaces: Namespaces,
        *,
        node: str = "n1",
        limits: BrokerLimits | None = None,
        tiers: Tiers | None = None,
        authenticator: Authenticator | None = None,
        fetch_state: FetchState | None = None,
        numbering: Numbering | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.node = node
        self.limits = limits or BrokerLimits()
        self.protocol_limits = Limits(params=self.limits.params, cursor_size=self.limits.cursor_size)
        self.now_ms = now_ms
        self.counts = Counts()
        self.tiers = tiers or Tiers()
        self.usage = Usage()
        self.registry = Registry(
            namespaces, numbering or MemoryNumbering(now_ms()), self.limits.registry, now_ms
        )
        self.scheduler = Scheduler(self.counts, now_ms)
        self.intake = Intake(self.registry, self.scheduler, self.counts, now_ms)
        #: How sources publish (``contracts.Publish``).
        self.publish = self.intake.publish
        self.first_states = FirstStates(self.registry, fetch_state, self.limits.first_state_timeout)
        self._authenticator = authenticator
        #: Of those whose sessions have ended; there are as many as there are market makers.
        self._market_makers: dict[str, UserCounts] = {}
        self.sessions: dict[str, Session] = {}
        self.draining = trio.Event()
        self._maintenance: float | None = None
        #: Requests that wait, for news or for first states.
        self.polls: set[News] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Delivers and keeps time until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.first_states.run)
            nursery.start_soon(self.scheduler.run)
            nursery.start_soon(self.intake.run)
            nursery.start_soon(self._keep_time)
            task_status.started()

    # --- clients ------------------------------------------------------------------------------------------

    def new_connection_id(self) -> str:
        """Unique across nodes, sorts by time, tells the node (stream-v2.md, "Connect")."""
        unique = "".join(random.choices(string.hexdigits[:16], k=6))  # not a secret
        return f"c_{self.node}_{time.time_ns()}_{unique}"

    def open(self, name: str, identity: Identity) -> Channel:
        """The channel as ``identity`` sees it, up to date. Raises RequestRefused where there is none for it."""
        channel = self.registry.open(name, identity)
        self.intake.refresh(channel)
        return channel

    async def verify_token(self, token: str) -> Identity:
        """Who a token's bearer is. Raises RequestRefused (40100, 40101)."""
        if self._authenticator is None:
            raise RequestRefused(ErrorCode.UNAUTHENTICATED, "this hub takes no tokens")
        return await self._authenticator.verify_token(token)

    async def prepare(self, names: Iterable[str], identity: Identity) -> None:
        """Has the states of channels brought whose beginning the hub has not seen. Raises RequestRefused: 50000
        where one cannot be had now, 40100 where the user was sent away meanwhile."""
        if lacking := self.first_states.lacking(names, identity):
            waiting = News(identity.user)
            self.polls.add(waiting)
            try:
                refusals = await self.first_states.prepare(lacking)
            finally:
                self.polls.discard(waiting)
            if waiting.refusal is not None:
                raise waiting.refusal
            for refusal in refusals.values():
                raise refusal

    def check_user_connections(self, identity: Identity) -> None:
        """Raises RequestRefused (40004) where ``identity`` has as many connections as its tier allows."""
        limit = self.tiers.find(identity.tier).connections_per_user
        if identity.user is not None and 0 < limit <= self.usage.connections[identity.user]:
            self.counts.rate_limited["connections_per_user"] += 1
            raise RequestRefused(ErrorCode.RATE_LIMITED, f"at most {limit} connections per user")

    async def serve_session(
        self,
        link: Link,
        encoding: Encoding,
        *,
        transport: str,
        identity: Identity = ANONYMOUS,
        refusal: RequestRefused | None = None,
        channels: tuple[str, ...] = (),
        seen: Mapping[str, SeenPosition] | None = None,
        connection_id: str | None = None,
    ) -> None:
        """Serves one client until it leaves or is disconnected; then the link is the caller's to close.

        ``channels`` are subscribed before the first message, from where ``seen`` says. ``refusal`` is what was wrong
        with its credentials: then it is told so, and sent away.
        """
        session = Session(
            self,
            link,
            encoding,
            connection_id=connection_id or self.new_connection_id(),
            identity=identity,
            transport=transport,
        )
        unprepared = await session.prepare(channels)
        farewell = self._find_farewell(identity, refusal)
        self.sessions[session.connection_id] = session
        self.usage.count_connection(identity.user, 1)
        logger.info("connection open", extra=session.log_fields)
        try:
            self._welcome(session, Subscribe(None, channels, seen or {}), unprepared)
            if farewell is not None:
                session.disconnect(farewell)
            await session.run()
        finally:
            self._close(session)

    def _find_farewell(self, identity: Identity, refusal: RequestRefused | None) -> Farewell | None:
        """Why a client that has just come cannot stay."""
        if self.draining.is_set():
            return self._going_away(0.0)
        if refusal is not None and refusal.code == ErrorCode.UNAVAILABLE:  # not the token's fault
            return Farewell(CloseCode.INTERNAL, refusal.msg, UNAVAILABLE_RETRY_MS)
        if refusal is not None:
            return Farewell(CloseCode.UNAUTHENTICATED, refusal.msg)
        try:
            self.check_user_connections(identity)
        except RequestRefused as too_many:
            return Farewell(CloseCode.TOO_MANY_CONNECTIONS, too_many.msg, RETRY_AFTER_MS)
        return None

    def _welcome(
        self, session: Session, command: Subscribe, unprepared: Mapping[str, RequestRefused]
    ) -> None:
        outcome = session.subscribe(command, unprepared) if command.channels else None
        welcome = Welcome(self.now_ms(), session.connection_id, self.node, outcome)
        message = session.protocol.welcome(welcome)
        if message is not None:
            session.writer.say_first(message)

    def _close(self, session: Session) -> None:
        session.unsubscribe(tuple(session.subscriptions))
        del self.sessions[session.connection_id]
        self.usage.count_connection(session.identity.user, -1)
        self._keep_user_counts(session)
        seconds = trio.current_time() - session.opened_at
        code = session.farewell.code if session.farewell is not None else session.end_code
        self.counts.closed(session.identity.tier, session.transport, code, seconds)
        logger.info(
            "connection close", extra={**session.log_fields, "code": int(code), "seconds": round(seconds, 3)}
        )

    def disconnect(self, farewell: Farewell, *, user: str | None, connection_id: str | None) -> int:
        """Sends away all that ``user`` has here, and the connection ``connection_id``; returns how many that were."""
        gone = [
            session
            for session in self.sessions.values()
            if (user and session.identity.user == user) or session.connection_id == connection_id
        ]
        for session in gone:
            session.disconnect(farewell)
        polls = [news for news in self.polls if user and news.user == user]
        for news in polls:
            news.refusal = RequestRefused(ErrorCode.UNAUTHENTICATED, farewell.msg)
            news.event.set()
        return len(gone) + len(polls)

    def _keep_user_counts(self, session: Session) -> None:
        user = session.identity.user
        if user is not None and session.identity.tier == MARKET_MAKER:
            counts = self._market_makers.setdefault(user, UserCounts())
            counts.sent += session.sent
            counts.dropped += session.dropped

    def _count_market_makers(self) -> dict[str, UserCounts]:
        users = {user: attrs.evolve(counts) for user, counts in self._market_makers.items()}
        for session in self.sessions.values():
            if session.identity.user is not None and session.identity.tier == MARKET_MAKER:
                counts = users.setdefault(session.identity.user, UserCounts())
                counts.connections += 1
                counts.sent += session.sent
                counts.dropped += session.dropped
        return users

    @asynccontextmanager
    async def waiting_for_news(self, channels: tuple[str, ...], identity: Identity) -> AsyncIterator[News]:
        """Hears of anything new in ``channels``, and of a drain, for as long as the block runs.
        A waiting poll of a user counts as a connection. Raises RequestRefused (40004)."""
        self.check_user_connections(identity)
        self.usage.count_connection(identity.user, 1)
        news = News(identity.user)
        self.polls.add(news)
        if self.draining.is_set():
            news.event.set()
        try:
            for name in channels:  # each is listened to at once, so that opening the next cannot evict it
                news.listen_to(self.open(name, identity))
            yield news
        finally:
            self.usage.count_connection(identity.user, -1)
            self.polls.discard(news)
            news.ignore()
            for channel in news.channels:
                self.registry.leave_unused(channel)

    # --- leaving ------------------------------------------------------------------------------------------

    async def drain(self, *, window: float, deadline: float, maintenance: float | None = None) -> None:
        """Sends all clients away: each is told when to come back, spread over ``window`` seconds. Returns when
        they have gone, or ``deadline`` seconds later, when the rest is cut off. ``maintenance`` is for how many
        seconds there is no use in coming back at all (4040); None: another node can be had at once (1001)."""
        self._maintenance = maintenance
        self.draining.set()
        for news in self.polls:
            news.event.set()
        with trio.move_on_after(deadline):
            for session in list(self.sessions.values()):
                session.disconnect(self._going_away(window, deadline))
            while self.sessions or self.polls:  # noqa: ASYNC110  # once in a node's life; no need for an event
                await trio.sleep(0.02)
        for session in self.sessions.values():
            session.abandon()

    def _going_away(self, window: float, deadline: float = 5.0) -> Farewell:
        retry_after_ms = random.randint(0, int(window * 1000))
        if self._maintenance is None:
            return Farewell(CloseCode.GOING_AWAY, "going away", retry_after_ms, deadline)
        retry_after_ms += int(self._maintenance * 1000)
        return Farewell(CloseCode.MAINTENANCE, "maintenance", retry_after_ms, deadline)

    # --- time ---------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            await trio.sleep(TICK)
            now = trio.current_time()
            for _ in self.registry.sweep(now):
                await trio.lowlevel.checkpoint()
            for index, session in enumerate(list(self.sessions.values())):
                if index % 256 == 255:
                    await trio.lowlevel.checkpoint()
                session.tick(now)

    # --- looking in ---------------------------------------------------------------------------------------

    def statistics(self) -> BrokerStatistics:
        subscriptions: Counter[str] = Counter()
        publications = 0
        for channel in self.registry:
            subscriptions[channel.type] += len(channel.subscriptions)
            publications += len(channel.log)
        return BrokerStatistics(
            sessions=Counter(
                (session.identity.tier, session.transport) for session in self.sessions.values()
            ),
            subscriptions=subscriptions,
            channels=len(self.registry),
            buffered_bytes=self.registry.buffered_bytes,
            buffered_publications=publications,
            polls=len(self.polls),
            market_makers=self._count_market_makers(),
            book_bytes=self.registry.book_bytes,
            books_evicted=self.registry.books_evicted,
            book_levels_cut=self.registry.book_levels_cut,
            counts=self.counts,
        )
