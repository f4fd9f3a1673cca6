"""Kafka topics as a source: all partitions of all configured topics, read without a consumer group."""

from hub.sources.kafka.settings import KafkaSettings, Topic
from hub.sources.kafka.source import KafkaSource

__all__ = ["KafkaSettings", "KafkaSource", "Topic"]
