"""The Kafka source: batches from a thread, publications on the Trio side."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar, Protocol, TypeVar

import trio
from confluent_kafka import Message

from hub.core.contracts import Publish, SourceStatistics
from hub.sources.kafka.connection import Connection
from hub.sources.kafka.discovery import Discovery
from hub.sources.kafka.inquiry import Inquiry
from hub.sources.kafka.intake import Intake
from hub.sources.kafka.pacing import Reminder
from hub.sources.kafka.progress import Progress
from hub.sources.kafka.reader import Reader
from hub.sources.kafka.settings import KafkaSettings

logger = logging.getLogger(__name__)

#: Seconds of work after which others have their turn.
_SLICE = 0.001
#: Seconds that a shutdown waits for librdkafka's threads. They take milliseconds.
_CLOSE_DEADLINE = 2.0

T = TypeVar("T")


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class KafkaSource:
    """Publishes the records of the configured topics (channels.md, "Kafka topics").

    Every node reads all partitions, without a consumer group. The order of each partition is kept, and no
    offset is published twice, whatever happens to the brokers in between. A record that cannot be published
    is counted, logged and skipped.

    Threads: one reads records, one asks about topics and offsets. When ``run`` is cancelled it ends after the
    poll and the question that are under way.
    """

    name: ClassVar[str] = "kafka"
    Settings: ClassVar[type] = KafkaSettings

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._intake = Intake(settings.topics)
        self._progress = Progress()
        self._connection = Connection()
        self._discovery: Discovery | None = None
        self._caught_up = trio.Event()
        self._reminder = Reminder(first=5.0, longest=300.0)
        #: What of the connection the log was told last, as long as that is bad.
        self._told = ""
        self._limiter = trio.CapacityLimiter(2)

    async def run(
        self, publish: Publish, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Publishes until cancelled; calls ``started()`` when all partitions that were there at the start have
        been read up to the end that they had then. Brokers that are away are waited for.

        Raises PropertyRefused for a property that librdkafka does not take.
        """
        self._progress, self._connection, self._caught_up = Progress(), Connection(), trio.Event()
        async with self._open(Inquiry) as inquiry, trio.open_nursery() as nursery:
            discovery = Discovery(self._settings, inquiry, self._connection, self._progress, self._ask)
            self._discovery = discovery
            nursery.start_soon(discovery.run)
            nursery.start_soon(self._keep_reading, discovery, publish)
            await self._caught_up.wait()
            logger.info("Kafka caught up", extra={"partitions": len(self._progress.offsets)})
            task_status.started()

    async def _keep_reading(self, discovery: Discovery, publish: Publish) -> None:
        try:
            while True:
                async with self._open(Reader, self._connection) as reader:
                    await self._read(reader, discovery, publish)
        finally:
            self._intake.report_rest()

    async def _read(self, reader: Reader, discovery: Discovery, publish: Publish) -> None:
        """Publishes until partitions stall, which takes a new reader."""
        discovery.start_over()
        await self._ask(reader.assign, dict(self._progress.offsets))
        batch, poll = self._settings.batch, float(self._settings.poll)
        while not discovery.stalled:
            if discovery.assignments or discovery.moves:
                assignments, discovery.assignments = discovery.assignments, {}
                moves, discovery.moves = discovery.moves, {}
                await self._ask(reader.follow, assignments, moves)
            messages = await self._ask(reader.read, batch, poll)
            await self._take_all(messages, publish, discovery)
            discovery.was_idle |= len(messages) < batch
            self._report()
            if discovery.has_looked and self._progress.is_caught_up:
                self._caught_up.set()
        fields = {"partitions": len(discovery.stalled), "first": discovery.stalled[0]}
        logger.warning("Kafka partitions stand still, connecting anew", extra=fields)

    def statistics(self) -> SourceStatistics:
        lag = self._progress.lag(self._connection.ends())
        detail: dict[str, object] = {
            "brokers": self._settings.bootstrap_servers,
            "partitions": len(lag),
            "caughtUp": self._caught_up.is_set(),
            "behind": sum(lag.values()),
            "unavailableTopics": dict(self._discovery.unavailable) if self._discovery else {},
        }
        if self._status != "ok" and self._connection.error:
            detail["error"] = self._connection.error
        return SourceStatistics(
            status=self._status,
            detail=detail,
            consumed=dict(self._intake.consumed),
            refused=dict(self._intake.refused),
            lag=lag,
        )

    async def _take_all(self, messages: Sequence[Message], publish: Publish, discovery: Discovery) -> None:
        pause = time.perf_counter() + _SLICE
        for message in messages:
            self._intake.take(message, self._progress, publish, discovery.displace)
            if time.perf_counter() >= pause:
                await trio.lowlevel.checkpoint()
                pause = time.perf_counter() + _SLICE

    # --- threads ------------------------------------------------------------------------------------------

    async def _ask(self, function: Callable[..., T], *arguments: object) -> T:
        return await trio.to_thread.run_sync(function, *arguments, limiter=self._limiter)

    @asynccontextmanager
    async def _open(self, kind: Callable[..., C], *arguments: object) -> AsyncIterator[C]:
        """One of the two clients. By the time that it is closed both threads have returned."""
        client = await self._ask(kind, self._settings, *arguments)
        try:
            yield client
        finally:
            with trio.CancelScope(shield=True, relative_deadline=_CLOSE_DEADLINE):
                await trio.to_thread.run_sync(client.close, abandon_on_cancel=True)

    # --- state --------------------------------------------------------------------------------------------

    @property
    def _status(self) -> str:
        status = self._connection.status
        if not self._caught_up.is_set():
            return "down" if status == "down" else "starting"
        return "ok" if status == "starting" else status

    def _report(self) -> None:
        """Tells the log of what has changed, and reminds it of what is still wrong."""
        now = time.monotonic()
        self._intake.report(now)
        status = self._status
        if status in ("down", "degraded"):
            self._warn(status, now)
        elif self._told:
            logger.info("Kafka is back", extra={"brokers": self._settings.bootstrap_servers})
            self._told = ""
            self._reminder.reset()

    def _warn(self, status: str, now: float) -> None:
        if status != self._told:
            self._reminder.reset()
        if self._reminder.is_due(now):
            self._told = status
            connection = self._connection
            fields = {"brokers": self._settings.bootstrap_servers, "error": connection.error}
            partitions = {"partitions": connection.wanted, "reachable": connection.reachable}
            text = "Kafka is away" if status == "down" else "Kafka is partly away"
            logger.warning(text, extra={**fields, **partitions})
