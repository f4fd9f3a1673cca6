"""Asks the brokers about topics and offsets. Everything here may block, and runs in threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, TopicPartition

from hub.sources.kafka.client import make_consumer
from hub.sources.kafka.progress import Place
from hub.sources.kafka.settings import KafkaSettings

#: What `find_offsets` may look for instead of a time: special timestamps of Kafka's ListOffsets request.
END = -1
BEGINNING = -2


class TopicUnavailable(Exception):
    """A topic that does not exist (yet), or may not be read."""


class Inquiry:
    """A client for questions alone, with connections of its own: a slow answer must not hold up records.

    One thread at a time. ``timeout`` is in seconds.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._consumer = make_consumer(settings, {"enable.auto.commit": "false"}, None)

    def find_partitions(self, topic: str, timeout: float) -> list[int]:
        """The numbers of a topic's partitions. Raises TopicUnavailable, and KafkaException where nobody answers."""
        found = self._consumer.list_topics(topic, timeout).topics[topic]
        if found.error is not None:
            raise TopicUnavailable(found.error.str())
        return sorted(found.partitions)

    def find_offsets(
        self, places: Sequence[Place], when: int | Mapping[Place, int], timeout: float
    ) -> dict[Place, int]:
        """The first offset at or after a time (Unix milliseconds, or BEGINNING or END); END where no record is
        that young. Partitions that have no leader now are left out. Raises KafkaException."""
        if not places:
            return {}
        times = when if isinstance(when, Mapping) else dict.fromkeys(places, when)
        asked = [TopicPartition(*place, times[place]) for place in places]
        found = self._consumer.offsets_for_times(asked, timeout)
        return {(answer.topic, answer.partition): answer.offset for answer in found if answer.error is None}

    def close(self) -> None:
        """Ends all connections and librdkafka's threads. Nothing else may be running."""
        self._consumer.close()


#: Errors of a question that say: nobody answered (in time).
UNANSWERED = frozenset({KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN})
