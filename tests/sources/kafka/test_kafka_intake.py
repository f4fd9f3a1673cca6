from __future__ import annotations

import logging
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_NOT_AVAILABLE, KafkaError, Message

from hub.sources.kafka import Topic
from hub.sources.kafka.intake import Intake
from hub.sources.kafka.progress import Place, Progress
from tests.sources.kafka.recorder import Recorder

TOPICS = {
    "ws.trades": Topic(channels=("trades@{key}",), event="trade"),
    "ws.orders": Topic(channels=("orders@{data.market}", "orders"), user="{key}"),
}


def make_record(offset: int, value: bytes | None = b"{}", topic: str = "ws.trades", **more: Any) -> Message:
    timestamp = more.pop("timestamp", (TIMESTAMP_CREATE_TIME, 1740000000000))
    fields = {"key": b"btc_tl", **more}
    return Message(topic=topic, partition=0, offset=offset, value=value, timestamp=timestamp, **fields)


def make_error(code: int, offset: int = 0) -> Message:
    return Message(topic="ws.trades", partition=0, offset=offset, error=KafkaError(code))


class Bench:
    """An intake with everything that it works on."""

    def __init__(self) -> None:
        self.publish = Recorder()
        self.intake = Intake(TOPICS)
        self.progress = Progress()
        self.displaced: list[Place] = []
        for topic in TOPICS:
            self.progress.begin((topic, 0), 0, end=0)

    def take(self, *messages: Message) -> None:
        for message in messages:
            self.intake.take(message, self.progress, self.publish, self.displaced.append)


def test_records_are_published_once_and_in_order() -> None:
    bench = Bench()
    bench.take(*(make_record(offset, b"%d" % offset) for offset in (0, 1, 1, 0, 2)))

    assert bench.publish.of("trades@btc_tl") == [b"0", b"1", b"2"]
    assert bench.publish.details[0] == {
        "channel": "trades@btc_tl",
        "ts": 1740000000000,
        "event": "trade",
        "kind": None,
        "id": None,
    }
    assert bench.intake.consumed == {"ws.trades": 3, "ws.orders": 0}


def test_a_record_without_any_time_leaves_it_to_the_broker() -> None:
    bench = Bench()
    bench.take(make_record(0, timestamp=(TIMESTAMP_NOT_AVAILABLE, -1)))

    assert bench.publish.details[0]["ts"] is None


def test_a_private_record_goes_to_its_users_channels() -> None:
    bench = Bench()
    bench.take(make_record(0, b'{"market":"btc_tl"}', "ws.orders", key=b"u1"))

    assert (
        bench.publish.of("orders@btc_tl", "u1")
        == bench.publish.of("orders", "u1")
        == [b'{"market":"btc_tl"}']
    )


def test_one_channel_that_refuses_does_not_keep_the_record_from_the_other() -> None:
    bench = Bench()
    bench.publish.refuses = lambda channel: channel == "orders@nowhere"
    bench.take(make_record(0, b'{"market":"nowhere"}', "ws.orders", key=b"u1"))

    assert bench.publish.of("orders", "u1") == [b'{"market":"nowhere"}']
    assert bench.intake.refused == {"ws.orders": 1}


def test_poison_is_counted_skipped_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.publish.refuses = lambda channel: "bad name" in channel
    poison = [None, b"", b"{", b"NaN", b"\xff", b'{"data":1,"ts":"x"}']
    bench.take(*(make_record(offset, value) for offset, value in enumerate(poison)))
    bench.take(make_record(6, key=None), make_record(7, key=b"bad name"))
    bench.take(make_record(8, headers=[("content-type", b"application/cbor"), ("traceId", b"t-1")]))
    bench.take(make_record(9, b"1"))
    for now in (0.0, 1.0, 59.0):
        bench.intake.report(now)

    assert bench.publish.of("trades@btc_tl") == [b"1"]
    assert bench.intake.refused == {"ws.trades": 9}
    (line,) = caplog.records
    fields = {key: line.__dict__[key] for key in ("topic", "partition", "offset", "count", "traceId")}
    assert line.levelno == logging.ERROR
    assert fields == {"topic": "ws.trades", "partition": 0, "offset": 8, "count": 9, "traceId": "t-1"}


def test_each_record_is_told_of_at_debug_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    with caplog.at_level(logging.DEBUG, "hub.sources.kafka"):
        bench.take(make_record(0, headers=[("traceId", b"t-1")]))

    assert [record.__dict__["traceId"] for record in caplog.records] == ["t-1"]


def test_the_end_of_a_partition_moves_it_on() -> None:
    bench = Bench()
    bench.take(make_error(KafkaError._PARTITION_EOF, offset=3))

    assert bench.progress.offsets["ws.trades", 0] == 3
    assert not bench.displaced


def test_a_partition_that_stands_still_is_told_of() -> None:
    bench = Bench()
    bench.take(make_error(KafkaError._AUTO_OFFSET_RESET))

    assert bench.displaced == [("ws.trades", 0)]


def test_other_errors_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.take(*[make_error(KafkaError.TOPIC_AUTHORIZATION_FAILED)] * 5)

    (line,) = caplog.records
    assert (line.levelno, line.__dict__["topic"]) == (logging.ERROR, "ws.trades")
