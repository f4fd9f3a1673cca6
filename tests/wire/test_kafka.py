"""From a real broker to real clients: every record of a channel, in order, on every transport, under one seq."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import httpx_sse
import pytest
import websockets.sync.client

from tests.hub_process import HubProcess, running_hub
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
)
#: Channel -> the topic and key that feed it.
FEEDS = {
    "trades@btc_tl": ("ws.trades", "btc_tl"),
    "trades@eth_tl": ("ws.trades", "eth_tl"),
    "orderbook@btc_tl": ("ws.orderbook.delta", "btc_tl"),
    "job:import": ("hub.events", "job:import"),
    "copilot:chat": ("hub.events", "copilot:chat"),
}
RECORDS = 50_000
EACH = RECORDS // len(FEEDS)
PATIENCE = 120.0

#: What a client got: per channel, ``(seq, n)`` in order of arrival.
Received = dict[str, list[tuple[int, int]]]


@pytest.fixture
def hub(kafka_broker: KafkaBroker) -> Iterator[HubProcess]:
    there = kafka_broker.admin().list_topics(timeout=30).topics  # the documents' tests use some of them too
    kafka_broker.create_topics([topic for topic in (*TOPICS, "hub.events") if topic not in there], 64)
    with running_hub(CONFIG, f"sources.kafka.bootstrap_servers={kafka_broker.bootstrap}") as hub:
        yield hub


def is_complete(received: Received) -> bool:
    return all(len(received[channel]) >= EACH for channel in FEEDS)


def read_websocket(hub: HubProcess, subscribed: threading.Event) -> Received:
    received: Received = {channel: [] for channel in FEEDS}
    with websockets.sync.client.connect(f"{hub.websocket_url}/v2", max_queue=None) as connection:
        connection.send(json.dumps({"method": "subscribe", "params": list(FEEDS), "id": 1}))
        while not is_complete(received):
            frame = json.loads(connection.recv(PATIENCE))
            if "seq" in frame:
                received[frame["ch"]].append((frame["seq"], frame["data"]["n"]))
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
                received[envelope["channel"]].append((envelope["seq"], envelope["data"]["n"]))
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
                received[envelope["channel"]].append((envelope["seq"], envelope["data"]["n"]))
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
        for topic, key in FEEDS.values():
            producer.produce(topic, key=key, value=json.dumps({"n": n}))
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
