"""From a real broker to real clients: every record of a channel, in order, on every transport, under one seq."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import httpx
import httpx_sse
import pytest
import websockets.sync.client

from tests.hub_process import HubProcess, running_hub
from tests.kafka_broker.broker import KafkaBroker
from tests.wire.kafka_topics import CONFIG, ensure_topics


@attrs.frozen
class Feed:
    """What feeds a channel: a topic, a key, how record ``n`` is written, and how it is known again in an event's data."""

    topic: str
    key: str
    write: Callable[[int], Any]
    read: Callable[[Any], int]


def write_trade(n: int) -> Any:
    return [{"tradeId": n, "price": "1.50", "amount": "0.10", "side": "buy", "ts": 1740000000000}]


def write_change(n: int) -> Any:
    """A book as a whole, and then what changes."""
    data = {"bids": [["1.50", f"{n + 1}.0"]], "asks": []}
    return {"type": "delta" if n else "snapshot", "lastUpdateId": n, "data": data}


def read_change(data: Any) -> int:
    return round(float(data["bids"][0][1])) - 1


def trades(market: str) -> Feed:
    return Feed("ws.trades", market, write_trade, lambda data: data[0]["tradeId"])


def numbers(channel: str) -> Feed:
    return Feed("hub.events", channel, lambda n: {"n": n}, lambda data: data["n"])


FEEDS = {
    "trades@btc_tl": trades("btc_tl"),
    "trades@eth_tl": trades("eth_tl"),
    "orderbook@btc_tl": Feed("ws.orderbook.delta", "btc_tl", write_change, read_change),
    "job:import": numbers("job:import"),
    "copilot:chat": numbers("copilot:chat"),
}
RECORDS = 50_000
EACH = RECORDS // len(FEEDS)
PATIENCE = 120.0

#: What a client got: per channel, ``(seq, n)`` in order of arrival.
Received = dict[str, list[tuple[int, int]]]


@pytest.fixture
def hub(kafka_broker: KafkaBroker) -> Iterator[HubProcess]:
    ensure_topics(kafka_broker)
    with running_hub(CONFIG, f"sources.kafka.bootstrap_servers={kafka_broker.bootstrap}") as hub:
        yield hub


def note(received: Received, channel: str, seq: int, data: Any) -> None:
    """Writes an event down. What a newcomer gets of a channel that has no events yet is none."""
    if seq:
        received[channel].append((seq, FEEDS[channel].read(data)))


def is_complete(received: Received) -> bool:
    return all(len(received[channel]) >= EACH for channel in FEEDS)


def read_websocket(hub: HubProcess, subscribed: threading.Event) -> Received:
    received: Received = {channel: [] for channel in FEEDS}
    with websockets.sync.client.connect(f"{hub.websocket_url}/v2", max_queue=None) as connection:
        connection.send(json.dumps({"method": "subscribe", "params": list(FEEDS), "id": 1}))
        while not is_complete(received):
            frame = json.loads(connection.recv(PATIENCE))
            if "seq" in frame:
                note(received, frame["ch"], frame["seq"], frame["data"])
            elif "id" in frame:
                assert frame["code"] == 0
                subscribed.set()
            else:
                assert frame["event"] == "connected", frame
    return received


def read_sse(hub: HubProcess, subscribed: threading.Event) -> Received:
    received: Received = {channel: [] for channel in FEEDS}
    parameters = {"channels": ",".join(FEEDS)}
    with (
        httpx.Client(base_url=hub.public_url, timeout=PATIENCE, trust_env=False) as client,
        httpx_sse.connect_sse(client, "GET", "/sse", params=parameters) as source,
    ):
        for event in source.iter_sse():
            envelope = json.loads(event.data)
            if envelope["event"] == "subscribed":
                subscribed.set()
            else:
                note(received, envelope["channel"], envelope["seq"], envelope["data"])
                if is_complete(received):
                    break
    return received


def read_poll(hub: HubProcess, subscribed: threading.Event) -> Received:
    received: Received = {channel: [] for channel in FEEDS}
    parameters = {"channels": ",".join(FEEDS)}
    with httpx.Client(base_url=hub.public_url, timeout=PATIENCE, trust_env=False) as client:
        while not is_complete(received):
            answer = client.get("/poll", params=parameters).json()
            subscribed.set()
            parameters["cursor"] = answer["cursor"]
            for envelope in answer["events"]:
                note(received, envelope["channel"], envelope["seq"], envelope["data"])
    return received


class Reader(threading.Thread):
    """A client in a thread of its own."""

    def __init__(self, read: Callable[[HubProcess, threading.Event], Received], hub: HubProcess) -> None:
        super().__init__(daemon=True)
        self.subscribed = threading.Event()
        self.received: Received = {}
        self.error: Exception | None = None
        self._read = read
        self._hub = hub

    def run(self) -> None:
        try:
            self.received = self._read(self._hub, self.subscribed)
        except Exception as error:
            self.error = error


def produce(broker: KafkaBroker, begin: int, end: int) -> None:
    producer = broker.producer()
    for n in range(begin, end):
        for feed in FEEDS.values():
            producer.produce(feed.topic, key=feed.key, value=json.dumps(feed.write(n)))
        producer.poll(0)
    assert producer.flush(PATIENCE) == 0


def test_every_record_reaches_every_client_in_order(hub: HubProcess, kafka_broker: KafkaBroker) -> None:
    readers = [Reader(read, hub) for read in (read_websocket, read_sse, read_poll)]
    for reader in readers:
        reader.start()
        assert reader.subscribed.wait(PATIENCE), reader.error
    produce(kafka_broker, 0, EACH // 2)
    kafka_broker.stop()
    kafka_broker.start()
    produce(kafka_broker, EACH // 2, EACH)
    for reader in readers:
        reader.join(PATIENCE)
        assert reader.error is None
        assert reader.received == {
            channel: [(first + n, n) for n in range(EACH)]
            for channel, ((first, _), *_) in readers[0].received.items()
        }
