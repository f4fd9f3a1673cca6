"""The broker: what sources publish into and transports serve from. The one core object."""

from __future__ import annotations

import logging
import random
import string
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import attrs
import trio

from hub.core.channel import Channel
from hub.core.contracts import Link
from hub.sansio.identity import ANONYMOUS, Identity
from hub.core.numbering import MemoryNumbering, Numbering
from hub.core.registry import Registry, RegistryLimits
from hub.core.scheduler import Scheduler
from hub.core.session import TICK, Farewell, Session
from hub.core.statistics import BrokerStatistics, Counts
from hub.sansio.commands import SeenPosition, Subscribe
from hub.sansio.drops import SlowRules
from hub.sansio.encodings import Encoding
from hub.sansio.errors import CloseCode, ErrorCode, PublishRefused, RequestRefused
from hub.sansio.names import Namespaces
from hub.sansio.protocol import Limits, Welcome
from hub.sansio.publication import Position, Publication, check_event_name

logger = logging.getLogger(__name__)

_KINDS = (None, "snapshot", "delta")


@attrs.frozen(kw_only=True)
class BrokerLimits:
    """Bounds of what clients may ask and how slow they may be; 0 means no bound. Times are in seconds."""

    channels_per_connection: int = 50
    params: int = 200
    cursor_size: int = 2048
    write_deadline: float = 60.0
    idle_timeout: float = 60.0
    slow: SlowRules = attrs.field(factory=SlowRules)
    registry: RegistryLimits = attrs.field(factory=RegistryLimits)


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class News:
    """Tells a waiting reader that a channel has news. The event is made anew for each wait."""

    def __init__(self) -> None:
        self.event = trio.Event()
        self.channels: list[Channel] = []

    def listen_to(self, channel: Channel) -> None:
        self.channels.append(channel)
        channel.waiters.add(self.event)

    async def wait(self) -> None:
        await self.event.wait()
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
        numbering: Numbering | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.node = node
        self.limits = limits or BrokerLimits()
        self.protocol_limits = Limits(params=self.limits.params, cursor_size=self.limits.cursor_size)
        self.now_ms = now_ms
        self.counts = Counts()
        self.registry = Registry(namespaces, numbering or MemoryNumbering(now_ms()), self.limits.registry)
        self.scheduler = Scheduler(self.counts, now_ms)
        self.sessions: dict[str, Session] = {}
        self.draining = trio.Event()
        self.polls: set[News] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Delivers and keeps time until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.scheduler.run)
            nursery.start_soon(self._keep_time)
            task_status.started()

    # --- publishers ---------------------------------------------------------------------------------------

    def publish(
        self,
        channel: str,
        data: bytes,
        *,
        ts: int | None = None,
        event: str | None = None,
        kind: str | None = None,
        user: str | None = None,
        last_update_id: int | None = None,
    ) -> Position:
        """Gives the event the next number of its channel, and goes on. See ``contracts.Publish``."""
        target = self.registry.find(channel, user) or self._open_to_publish(channel, user)
        if event is not None:
            try:
                check_event_name(event)
            except ValueError as error:
                raise self._refusal(ErrorCode.INVALID_REQUEST, str(error)) from None
        if kind not in _KINDS:
            raise self._refusal(ErrorCode.INVALID_REQUEST, "type must be snapshot or delta")
        log = target.log
        before = log.size
        target.append(
            Publication(
                log.head_seq + 1,
                data,
                ts=self.now_ms() if ts is None else ts,
                stored_at=trio.current_time(),
                event=event or target.policy.event,
                kind=kind,
                last_update_id=last_update_id,
            )
        )
        self.counts.published += 1
        self.counts.published_bytes += len(data)
        self.registry.grew(log.size - before)
        self.scheduler.mark(target)
        return log.position

    def _open_to_publish(self, name: str, user: str | None) -> Channel:
        try:
            return self.registry.open_to_publish(name, user)
        except RequestRefused as refusal:
            raise self._refusal(refusal.code, refusal.msg) from None

    def _refusal(self, code: ErrorCode, msg: str) -> PublishRefused:
        self.counts.publish_refused += 1
        return PublishRefused(code, msg)

    # --- clients ------------------------------------------------------------------------------------------

    def new_connection_id(self) -> str:
        """Unique across nodes, sorts by time, tells the node (stream-v2.md, "Connect")."""
        unique = "".join(random.choices(string.hexdigits[:16], k=6))  # not a secret
        return f"c_{self.node}_{time.time_ns()}_{unique}"

    async def serve_session(
        self,
        link: Link,
        encoding: Encoding,
        *,
        transport: str,
        identity: Identity = ANONYMOUS,
        channels: tuple[str, ...] = (),
        seen: Mapping[str, SeenPosition] | None = None,
        connection_id: str | None = None,
    ) -> None:
        """Serves one client until it leaves or is disconnected; then the link is the caller's to close.

        ``channels`` are subscribed before the first message, from where ``seen`` says.
        """
        session = Session(
            self,
            link,
            encoding,
            connection_id=connection_id or self.new_connection_id(),
            identity=identity,
            transport=transport,
        )
        self.sessions[session.connection_id] = session
        logger.info("connection open", extra=session.log_fields)
        try:
            self._welcome(session, Subscribe(None, channels, seen or {}))
            if self.draining.is_set():
                session.disconnect(self._going_away(0.0))
            await session.run()
        finally:
            self._close(session)

    def _welcome(self, session: Session, command: Subscribe) -> None:
        outcome = session.subscribe(command) if command.channels else None
        welcome = Welcome(self.now_ms(), session.connection_id, self.node, outcome)
        message = session.protocol.welcome(welcome)
        if message is not None:
            session.writer.say_first(message)

    def _close(self, session: Session) -> None:
        session.unsubscribe(tuple(session.subscriptions))
        del self.sessions[session.connection_id]
        seconds = trio.current_time() - session.opened_at
        code = session.farewell.code if session.farewell is not None else session.end_code
        self.counts.closed(session.identity.tier, session.transport, code, seconds)
        logger.info(
            "connection close", extra={**session.log_fields, "code": int(code), "seconds": round(seconds, 3)}
        )

    @asynccontextmanager
    async def waiting_for_news(self, channels: tuple[str, ...], identity: Identity) -> AsyncIterator[News]:
        """Hears of anything new in ``channels``, and of a drain, for as long as the block runs."""
        news = News()
        self.polls.add(news)
        if self.draining.is_set():
            news.event.set()
        try:
            for name in channels:  # each is listened to at once, so that opening the next cannot evict it
                news.listen_to(self.registry.open(name, identity))
            yield news
        finally:
            self.polls.discard(news)
            news.ignore()
            for channel in news.channels:
                self.registry.leave_unused(channel)

    # --- leaving ------------------------------------------------------------------------------------------

    async def drain(self, *, window: float, deadline: float) -> None:
        """Sends all clients away: each is told when to come back, spread over ``window`` seconds. Returns when
        they have gone, or ``deadline`` seconds later, when the rest is cut off."""
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
        return Farewell(CloseCode.GOING_AWAY, "going away", retry_after_ms, deadline)

    # --- time ---------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            await trio.sleep(TICK)
            now = trio.current_time()
            self.registry.sweep(now)
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
            counts=self.counts,
        )
