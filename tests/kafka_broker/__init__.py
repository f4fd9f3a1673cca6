"""A real Kafka broker for tests: one KRaft process on loopback, from Maven Central, without containers.

Load ``tests.kafka_broker.plugin`` as a pytest plugin to get the fixture ``kafka_broker``.
"""

from __future__ import annotations

from tests.kafka_broker.broker import BrokerFailed, KafkaBroker
from tests.kafka_broker.jars import fetch_jars

__all__ = ["BrokerFailed", "KafkaBroker", "fetch_jars"]
