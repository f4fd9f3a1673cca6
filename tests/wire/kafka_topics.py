"""The shipped configuration for Kafka, and its topics in a broker that other tests use too."""

from __future__ import annotations

from pathlib import Path

from tests.kafka_broker.broker import KafkaBroker

CONFIG = Path(__file__).parents[2] / "conf" / "kafka.toml"
TOPICS = (
    "ws.ticker",
    "ws.orderbook.delta",
    "ws.trades",
    "ws.kline",
    "ws.bbo",
    "ws.orders",
    "ws.fills",
    "ws.balances",
    "hub.events",
)


def ensure_topics(broker: KafkaBroker) -> None:
    """Makes those that are not there."""
    there = broker.admin().list_topics(timeout=30).topics
    if absent := [topic for topic in TOPICS if topic not in there]:
        broker.create_topics(absent, 64)
