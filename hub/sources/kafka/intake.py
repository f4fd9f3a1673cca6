"""What happens to each message that was read: published, refused, or noted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from hub.core.contracts import Publish
from hub.sansio.errors import PublishRefused
from hub.sources.kafka.mapping import Headers, Mapped, TopicMapping, find_trace
from hub.sources.kafka.pacing import Quiet
from hub.sources.kafka.payload import RecordRefused
from hub.sources.kafka.progress import Place, Progress
from hub.sources.kafka.reader import AT_END, OFF_THE_LOG
from hub.sources.kafka.refusals import Refusal, Refusals
from hub.sources.kafka.settings import Topic

logger = logging.getLogger(__name__)


class Intake:
    """Publishes records, each offset once, and counts. All of it is synchronous and runs on Trio's side."""

    def __init__(self, topics: Mapping[str, Topic]) -> None:
        self._mappings = {name: TopicMapping(topic) for name, topic in topics.items()}
        self._quiet = Quiet(60.0)
        self._refusals = Refusals()
        #: topic -> records that were read, those that were refused among them
        self.consumed = dict.fromkeys(topics, 0)

    @property
    def refused(self) -> Mapping[str, int]:
        return self._refusals.counts

    def take(
        self, message: Message, progress: Progress, publish: Publish, displace: Callable[[Place], None]
    ) -> None:
        """Takes a record, or an error that came in its place. ``displace`` is told of a partition that stands
        still."""
        topic, partition, offset = _locate(message)
        if message.error() is not None:
            self._take_error(message, (topic, partition), offset, progress, displace)
            return
        kind, milliseconds = message.timestamp()
        timestamp = None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds
        if not progress.advance((topic, partition), offset, timestamp):
            return
        self.consumed[topic] += 1
        try:
            mapped = self._mappings[topic].map(message.key(), message.value(), _headers(message), timestamp)
            _publish(publish, mapped)
        except (RecordRefused, PublishRefused) as refused:
            trace = find_trace(_headers(message))
            self._refusals.add(
                Refusal(topic=topic, partition=partition, offset=offset, reason=str(refused), trace=trace)
            )
        else:
            if logger.isEnabledFor(logging.DEBUG):
                where = {"topic": topic, "partition": partition, "offset": offset}
                trace = find_trace(_headers(message))
                logger.debug("Kafka record", extra={**where, "channels": mapped.channels, "traceId": trace})

    def report(self, now: float) -> None:
        """Logs the refused records that may be told of now (monotonic seconds)."""
        for refusal in self._refusals.take_due(now):
            _log_refusal(refusal)

    def report_rest(self) -> None:
        """Logs what was held back, at the end."""
        for refusal in self._refusals.take_all():
            _log_refusal(refusal)

    def _take_error(
        self,
        message: Message,
        place: Place,
        offset: int,
        progress: Progress,
        displace: Callable[[Place], None],
    ) -> None:
        error = message.error()
        assert error is not None
        if error.code() == AT_END:
            progress.reach_end(place, offset)
        elif error.code() in OFF_THE_LOG:
            displace(place)
        elif (held_back := self._quiet.admit((place[0], error.code()), time.monotonic())) is not None:
            where = {"topic": place[0], "partition": place[1]}
            fields = {**where, "error": error.str(), "heldBack": held_back}
            logger.error("Kafka partition not readable", extra=fields)


def _publish(publish: Publish, mapped: Mapped) -> None:
    """Publishes on every channel of a record. One that refuses does not keep it from the others."""
    refused: PublishRefused | None = None
    for channel in mapped.channels:
        try:
            publish(
                channel,
                mapped.data,
                ts=mapped.ts,
                event=mapped.event,
                kind=mapped.kind,
                user=mapped.user,
                last_update_id=mapped.last_update_id,
            )
        except PublishRefused as refusal:
            refused = refusal
    if refused is not None:
        raise refused


def _log_refusal(refusal: Refusal) -> None:
    where = {"topic": refusal.topic, "partition": refusal.partition, "offset": refusal.offset}
    trace = {"traceId": refusal.trace} if refusal.trace else {}
    fields = {**where, "count": refusal.count, "reason": refusal.reason, **trace}
    logger.error("Kafka records refused", extra=fields)


def _headers(message: Message) -> Headers | None:
    """A record's headers. The stub allows the form of a message that is yet to be sent, too."""
    return cast("Headers | None", message.headers())


def _locate(message: Message) -> tuple[str, int, int]:
    """Topic, partition and offset, which everything that was read has; the stub says otherwise."""
    return cast("str", message.topic()), cast("int", message.partition()), cast("int", message.offset())
