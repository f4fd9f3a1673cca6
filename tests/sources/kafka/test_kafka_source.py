"""The source on a real broker. Trio's real clock: threads and the mock clock do not go together.

The deadlines are safety nets: nothing here depends on how long a thing takes.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import cbor2
import pytest
import trio
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from hub.sansio.options import Seconds
from hub.sources.kafka import KafkaSettings, KafkaSource, Topic
from tests.kafka_broker import KafkaBroker
from tests.sources.kafka.recorder import Recorder

DEADLINE = 120.0
#: As every topic has (channels.md). Where that does not matter fewer are used, which start and stop faster.
MANY_PARTITIONS = 64


def make_topics(broker: KafkaBroker, *kinds: str, partitions: int = 4) -> list[str]:
    """New topics whose names begin with these words."""
    names = [f"{kind}.{uuid.uuid4().hex[:8]}" for kind in kinds]
    broker.create_topics(names, partitions)
    return names


def make_source(broker: KafkaBroker, topics: dict[str, Topic], **more: Any) -> KafkaSource:
    settings = {"start": "earliest", "poll": Seconds(0.05), "refresh": Seconds(0.25), **more}
    return KafkaSource(KafkaSettings(bootstrap_servers=broker.bootstrap, topics=topics, **settings))


@asynccontextmanager
async def open_source(source: KafkaSource, publish: Recorder) -> AsyncIterator[None]:
    """Runs a source, caught up, for as long as the block lasts, which must not last for ever."""
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            await nursery.start(source.run, publish)
            yield
            nursery.cancel_scope.cancel()


@contextmanager
def leaving_it_running(broker: KafkaBroker) -> Iterator[None]:
    """Whatever the test does to the broker, the next one finds it running."""
    try:
        yield
    finally:
        broker.thaw()
        broker.start()


async def wait_until(is_so: Callable[[], object]) -> None:
    """Statistics tell no one that they have changed, so they are looked at."""
    while not is_so():  # noqa: ASYNC110
        await trio.sleep(0.02)


async def wait_status(source: KafkaSource, status: str) -> None:
    await wait_until(lambda: source.statistics().status == status)


def check_delivery(error: KafkaError | None, _message: Message) -> None:
    """Whoever polls or flushes the producer gets the exception."""
    if error is not None:
        raise KafkaException(error)


def produce(producer: Producer, topic: str, key: str | None, value: bytes | None, **more: Any) -> None:
    """Queues a record; waits where the queue is full."""
    while True:
        try:
            producer.produce(topic, key=key, value=value, on_delivery=check_delivery, **more)
            return
        except BufferError:
            producer.poll(0.1)


async def flush(producer: Producer) -> None:
    """Returns when everything that was produced is in the log."""
    assert await trio.to_thread.run_sync(producer.flush, DEADLINE) == 0


async def test_what_is_in_the_log_comes_first_then_what_is_new(kafka_broker: KafkaBroker) -> None:
    trades, events = make_topics(kafka_broker, "trades", "events")
    source = make_source(
        kafka_broker,
        {trades: Topic(channels=("trades@{key}",), event="trade"), events: Topic(channels=("{key}",))},
    )
    producer, publish = kafka_broker.producer(), Recorder()
    for number in range(100):
        produce(
            producer,
            trades,
            "btc_tl",
            b'[{"tradeId":%d,"price":"1.50"}]' % number,
            timestamp=1_740_000_000_000,
        )
    await flush(producer)

    async with open_source(source, publish):
        assert len(publish.of("trades@btc_tl")) == 100  # caught up means: all of them
        produce(producer, events, "job:1", b'{"ts":7,"data":{"done":0.10},"event":"job_progress"}')
        await flush(producer)
        await publish.wait_count(101)
        statistics = source.statistics()

    assert publish.details[0] == {
        "channel": "trades@btc_tl",
        "ts": 1_740_000_000_000,
        "event": "trade",
        "kind": None,
        "id": None,
    }
    assert publish.of("job:1") == [b'{"done":0.10}']
    assert (publish.details[-1]["ts"], publish.details[-1]["event"]) == (7, "job_progress")
    assert statistics.status == "ok"
    assert statistics.consumed == {trades: 100, events: 1}
    assert statistics.lag.keys() == {(topic, number) for topic in (trades, events) for number in range(4)}
    json.dumps(dict(statistics.detail))


async def test_topics_without_a_record_are_caught_up(kafka_broker: KafkaBroker) -> None:
    (empty,) = make_topics(kafka_broker, "empty")
    source = make_source(kafka_broker, {empty: Topic(channels=("{key}",))}, start="buffer")

    async with open_source(source, Recorder()):
        assert source.statistics().detail["caughtUp"]


async def test_the_start_may_be_the_age_of_the_buffer_or_the_end(kafka_broker: KafkaBroker) -> None:
    (events,) = make_topics(kafka_broker, "events")
    topics = {events: Topic(channels=("{key}",))}
    producer = kafka_broker.producer()
    produce(producer, events, "job:1", b'"old"', timestamp=1_740_000_000_000)
    produce(producer, events, "job:1", b'"young"')
    await flush(producer)
    buffered, latest = Recorder(), Recorder()

    async with (
        open_source(make_source(kafka_broker, topics, start="buffer"), buffered),
        open_source(make_source(kafka_broker, topics, start="latest"), latest),
    ):
        produce(producer, events, "job:1", b'"new"')
        await flush(producer)
        await buffered.wait_count(2)
        await latest.wait_count(1)

    assert buffered.of("job:1") == [b'"young"', b'"new"']
    assert latest.of("job:1") == [b'"new"']


async def test_poison_takes_no_number_and_stops_nothing(
    kafka_broker: KafkaBroker, caplog: pytest.LogCaptureFixture
) -> None:
    events, orders = make_topics(kafka_broker, "events", "orders")
    source = make_source(
        kafka_broker,
        {
            events: Topic(channels=("{key}",)),
            orders: Topic(channels=("orders@{data.market}", "orders"), user="{key}"),
        },
    )
    publish = Recorder(refuses=lambda channel: " " in channel)
    producer = kafka_broker.producer()
    cbor = {"content-type": b"application/cbor"}
    everything: list[tuple[str | None, bytes | None, dict[str, Any]]] = [
        ("job:1", b"1", {}),
        ("job:1", None, {}),
        ("job:1", b"", {}),
        ("job:1", b"\xff\xfe", {}),
        ("job:1", b'{"a":NaN}', {}),
        ("job:1", b"[" * 5_000, {}),
        (None, b"1", {}),
        ("no such channel", b"1", {}),
        ("job:1", b"\x9f", {"headers": cbor}),
        ("job:1", cbor2.dumps([2, "0.10"]), {"headers": cbor}),
        ("job:1", b'{"data":{"n":0.30000000000000000001},"ts":5,"type":"snapshot"}', {}),
        ("job:1", b"[1,\n 2]\n", {}),
    ]
    for key, value, more in everything:
        produce(producer, events, key, value, partition=3, **more)
    produce(producer, orders, "u1", b'{"orderId":1}')
    produce(producer, orders, "u1", b'{"orderId":2,"market":"btc_tl"}')
    await flush(producer)

    async with open_source(source, publish):
        statistics = source.statistics()

    assert publish.of("job:1") == [b"1", b'[2,"0.10"]', b'{"n":0.30000000000000000001}', b"[1,2]"]
    assert (
        publish.of("orders", "u1")
        == publish.of("orders@btc_tl", "u1")
        == [b'{"orderId":2,"market":"btc_tl"}']
    )
    assert statistics.refused == {events: 8, orders: 1}
    assert statistics.consumed == {events: 12, orders: 2}
    told = [record for record in caplog.records if record.message == "Kafka records refused"]
    assert {record.__dict__["topic"] for record in told} == {events, orders}
    assert sum(record.__dict__["count"] for record in told) == 9
    assert all(record.levelno == logging.ERROR for record in told)


async def test_a_topic_that_appears_later_is_read_from_its_first_record(kafka_broker: KafkaBroker) -> None:
    name = f"late.{uuid.uuid4().hex[:8]}"
    source = make_source(kafka_broker, {name: Topic(channels=("{key}",))}, start="latest")
    publish, producer = Recorder(), kafka_broker.producer()

    async with open_source(source, publish):
        assert name in source.statistics().detail["unavailableTopics"]
        await trio.to_thread.run_sync(kafka_broker.create_topics, [name], 3)
        for number in range(50):
            produce(producer, name, f"job:{number % 7}", b"%d" % number)
        await flush(producer)
        await publish.wait_count(50)

    for channel in range(7):
        assert publish.of(f"job:{channel}") == [b"%d" % number for number in range(channel, 50, 7)]


async def test_a_topic_that_is_deleted_and_made_again_goes_on(kafka_broker: KafkaBroker) -> None:
    (name,) = make_topics(kafka_broker, "again", partitions=2)
    source = make_source(kafka_broker, {name: Topic(channels=("{key}",))})
    publish, producer = Recorder(), kafka_broker.producer()
    for number in range(30):
        produce(producer, name, "job:1", b"%d" % number)
    await flush(producer)

    async with open_source(source, publish):
        await trio.to_thread.run_sync(kafka_broker.delete_topics, [name])
        await wait_until(lambda: source.statistics().detail["unavailableTopics"])
        await trio.to_thread.run_sync(kafka_broker.create_topics, [name], 2)
        producer = kafka_broker.producer()
        for number in range(30, 40):
            produce(producer, name, "job:1", b"%d" % number)
        await flush(producer)
        await publish.wait_count(40)

    assert publish.of("job:1") == [b"%d" % number for number in range(40)]


async def test_records_that_retention_took_are_told_and_passed(
    kafka_broker: KafkaBroker, caplog: pytest.LogCaptureFixture
) -> None:
    (name,) = make_topics(kafka_broker, "short", partitions=1)
    producer, publish = kafka_broker.producer(linger_ms=0, batch_num_messages=10), Recorder()
    for number in range(500):
        produce(producer, name, "job:1", b"%d" % number)
    await flush(producer)
    # It may fetch only a few records at a time, and so is not yet at the end when the rest is taken away.
    slow = {"fetch.message.max.bytes": "500", "queued.min.messages": "1", "queued.max.messages.kbytes": "1"}
    source = make_source(kafka_broker, {name: Topic(channels=("{key}",))}, client=slow, batch=1)

    taken = trio.Event()

    async def take_away() -> None:
        await publish.wait_count(1)
        admin = kafka_broker.admin()
        for done in admin.delete_records([TopicPartition(name, 0, 450)]).values():
            await trio.to_thread.run_sync(done.result)
        taken.set()

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_away)
            await nursery.start(source.run, publish)
            await taken.wait()
            nursery.cancel_scope.cancel()

    numbers = [int(data) for data in publish.of("job:1")]
    lost = [
        record.__dict__ for record in caplog.records if record.message == "Kafka records lost to retention"
    ]
    missing = sorted(set(range(500)) - set(numbers))
    assert numbers == sorted(set(numbers))
    assert missing == [number for line in lost for number in range(line["lostFrom"], line["lostTo"] + 1)]
    assert numbers[-1] == 499


async def test_a_new_reader_goes_on_where_the_old_one_was(
    kafka_broker: KafkaBroker, caplog: pytest.LogCaptureFixture
) -> None:
    (events,) = make_topics(kafka_broker, "events")
    source = make_source(kafka_broker, {events: Topic(channels=("{key}",))}, batch=10)
    publish, producer = Recorder(), kafka_broker.producer()

    async with open_source(source, publish):
        for round_ in range(3):
            for number in range(1_000):
                produce(producer, events, f"job:{number % 7}", b"%d" % (1_000 * round_ + number))
            await publish.wait_count(1_000 * round_ + 1)
            # What makes partitions stall is a race inside librdkafka, which no test can win each time.
            assert source._discovery is not None
            source._discovery.stalled = [(events, 0)]
            await publish.wait_count(1_000 * (round_ + 1))

    assert sum(record.message.startswith("Kafka partitions stand still") for record in caplog.records) == 3
    for channel in range(7):
        numbers = [1_000 * round_ + number for round_ in range(3) for number in range(channel, 1_000, 7)]
        assert publish.of(f"job:{channel}") == [b"%d" % number for number in numbers]


async def test_cancelling_ends_it_whatever_the_broker_does(kafka_broker: KafkaBroker) -> None:
    (events,) = make_topics(kafka_broker, "events")
    source = make_source(kafka_broker, {events: Topic(channels=("{key}",))})
    with leaving_it_running(kafka_broker):
        async with open_source(source, Recorder()):
            kafka_broker.freeze()


# --- brokers that go and come ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_every_record_comes_once_and_in_order_over_a_restart_of_the_broker(
    kafka_broker: KafkaBroker, how: str
) -> None:
    trades, events = make_topics(kafka_broker, "trades", "events", partitions=MANY_PARTITIONS)
    source = make_source(
        kafka_broker, {trades: Topic(channels=("trades@{key}",)), events: Topic(channels=("{key}",))}
    )
    publish, producer = Recorder(), kafka_broker.producer()
    expected: defaultdict[tuple[str, str | None], list[bytes]] = defaultdict(list)

    def produce_more(first: int, count: int) -> None:
        for number in range(first, first + count):
            data = b'{"n":%d,"price":"%d.50"}' % (number, number)
            if number % 2:
                produce(producer, trades, f"m{number % 100}_tl", b'{"type":"delta","data":%b}' % data)
                expected[f"trades@m{number % 100}_tl", None].append(data)
            else:
                produce(producer, events, f"job:{number % 100}", data)
                expected[f"job:{number % 100}", None].append(data)

    with leaving_it_running(kafka_broker):
        async with open_source(source, publish):
            produce_more(0, 20_000)
            await publish.wait_count(5_000)
            await trio.to_thread.run_sync(getattr(kafka_broker, how))
            await wait_status(source, "down")
            produce_more(20_000, 20_000)  # they wait in the producer
            await trio.to_thread.run_sync(kafka_broker.start)
            produce_more(40_000, 10_000)
            await flush(producer)
            await publish.wait_count(50_000)
            await wait_status(source, "ok")
            statistics = source.statistics()

    assert publish.data == expected
    assert sum(statistics.consumed.values()) == 50_000
    assert set(statistics.lag.values()) == {0}


async def test_a_broker_that_is_away_at_the_start_is_waited_for(
    kafka_broker: KafkaBroker, caplog: pytest.LogCaptureFixture
) -> None:
    (events,) = make_topics(kafka_broker, "events")
    source = make_source(kafka_broker, {events: Topic(channels=("{key}",))})
    publish, producer = Recorder(), kafka_broker.producer()
    produce(producer, events, "job:1", b"1")
    await flush(producer)
    with leaving_it_running(kafka_broker):
        await trio.to_thread.run_sync(kafka_broker.stop)
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(nursery.start, source.run, publish))
                await wait_status(source, "down")
                await trio.to_thread.run_sync(kafka_broker.start)
                await wait_status(source, "ok")
                nursery.cancel_scope.cancel()

    assert publish.of("job:1") == [b"1"]
    messages = [record.message for record in caplog.records if record.name == "hub.sources.kafka.source"]
    assert messages.count("Kafka is away") <= 3
    (first, *_) = [record for record in caplog.records if record.message == "Kafka is away"]
    assert (first.levelno, first.__dict__["brokers"]) == (logging.WARNING, kafka_broker.bootstrap)
