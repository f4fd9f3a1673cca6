"""Reads records. Everything here may block, and runs in threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from confluent_kafka import KafkaError, Message, TopicPartition

from hub.sources.kafka.client import LibraryLog, make_consumer, make_mask
from hub.sources.kafka.connection import Connection
from hub.sources.kafka.pacing import Quiet
from hub.sources.kafka.progress import Place
from hub.sources.kafka.settings import KafkaSettings

logger = logging.getLogger(__name__)

#: An error in the stream of records that is none: the end of a partition, for now.
AT_END = KafkaError._PARTITION_EOF
#: A partition whose next offset is not in the log (any more); it stands still until it is moved.
OFF_THE_LOG = frozenset(
    {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION}
)


class Reader:
    """Reads partitions that are assigned by hand: no consumer group is joined, no offset is committed.

    confluent-kafka (2.16) lets one thread at a time into a consumer: a second call, even one that asks nobody,
    waits until a ``read`` has returned. So nothing of this may be called from Trio's thread.
    """

    def __init__(self, settings: KafkaSettings, connection: Connection) -> None:
        """``connection`` hears of errors and statistics while ``read`` runs. Raises PropertyRefused."""
        self._connection = connection
        self._mask = make_mask(settings.client)
        self._quiet = Quiet(60.0)
        own = {
            "enable.auto.commit": "false",
            "enable.auto.offset.store": "false",
            "enable.partition.eof": "true",
            "auto.offset.reset": "error",
            "statistics.interval.ms": settings.client.get("statistics.interval.ms", "1000"),
            "stats_cb": connection.update,
            "error_cb": self._on_error,
        }
        self._consumer = make_consumer(settings, own, LibraryLog(self._mask))

    def read(self, count: int, wait: float) -> list[Message]:
        """At most about ``count`` records, as soon as there is one, or nothing after ``wait`` seconds.

        Among them may be errors. Ends of partitions alone are not worth the way to the other thread: they
        wait here for a record.
        """
        messages: list[Message] = []
        deadline = time.monotonic() + wait
        while True:
            # `consume(count, wait)` would wait until it has all of them: first one, then what is there.
            first = self._consumer.consume(1, max(0.0, deadline - time.monotonic()))
            messages += first
            if first:
                messages += self._consumer.consume(count, 0)
            if len(messages) >= count or any(map(_is_news, messages)) or time.monotonic() >= deadline:
                return messages

    def assign(self, offsets: Mapping[Place, int]) -> None:
        """Reads partitions that were not read so far, each from an offset."""
        if offsets:
            self._consumer.incremental_assign(
                [TopicPartition(*place, offset) for place, offset in offsets.items()]
            )

    def follow(self, assignments: Mapping[Place, int], moves: Mapping[Place, int]) -> None:
        """Reads more partitions, and others from another offset than the one where they are."""
        if moves:
            self._consumer.incremental_unassign([TopicPartition(*place) for place in moves])
        self.assign({**assignments, **moves})

    def close(self) -> None:
        """Ends all connections and librdkafka's threads. Nothing else may be running."""
        self._consumer.close()

    def _on_error(self, error: KafkaError) -> None:
        """Called by librdkafka from within ``read``."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._connection.lose(error.str())
            return
        text = self._mask(error.str())
        self._connection.trouble(text)
        if (held_back := self._quiet.admit(error.code(), time.monotonic())) is not None:
            fields = {"error": text, "code": error.name(), "heldBack": held_back}
            logger.debug("librdkafka error", extra=fields)


def _is_news(message: Message) -> bool:
    return (error := message.error()) is None or error.code() != AT_END
