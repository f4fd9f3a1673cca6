"""Readers that are slow, asleep or stuttering: delivered + told == published, on every transport."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.hub_process import HubProcess, running_hub
from tests.wire.conftest import CONFIG
from tests.wire.publishing import Publisher
from tests.wire.readers import PollReader, Progress, Reader, SseReader, WebSocketReader

Naming = Callable[[str], str]
EVENTS = 6000


@pytest.fixture(scope="module")
def slow_hub() -> Iterator[HubProcess]:
    """Nobody is closed for being slow, and the kernel holds little."""
    settings = ["limits.slow_close_dropped=0", "server.send_buffer=8KB", "server.not_sent_low_water=4KB"]
    with running_hub(CONFIG, *settings) as hub:
        yield hub


class SlowReader(threading.Thread):
    """Reads until its channels' last events were delivered or told; dawdles at random."""

    def __init__(self, hub: HubProcess, kind: str, channels: list[str], seed: int) -> None:
        super().__init__()
        self.progress = Progress()
        self.channels = channels
        self.failure: Exception | None = None
        self._random = random.Random(seed)
        address, options = hub.address, {"by_cursor": True}
        self.reader: Reader
        if kind == "poll":
            self.reader = PollReader(address, "live", channels, self.progress, **options)
            self.reader.read(1)
        elif kind == "sse":
            self.reader = SseReader(address, "live", channels, self.progress, receive_buffer=2048, **options)
        else:
            self.reader = WebSocketReader(
                address, kind, channels, self.progress, receive_buffer=2048, **options
            )

    def run(self) -> None:
        try:
            while not self.is_done():
                if self._random.random() < 0.02:
                    time.sleep(self._random.random() * 0.2)  # the slowness itself
                self.reader.read(1)
        except Exception as failure:
            self.failure = failure
        finally:
            self.reader.close()

    def is_done(self) -> bool:
        return all(self.progress.seen.get(channel, {"seq": 0})["seq"] >= EVENTS for channel in self.channels)


@pytest.mark.parametrize("namespace", ["lag.drop", "lag.latest", "lag.snapshot"])
def test_delivered_and_told_are_all(slow_hub: HubProcess, name: Naming, namespace: str) -> None:
    channels = [name(namespace), name(namespace)]
    publisher = Publisher(slow_hub)
    kinds = ["/v2", "/live", "sse", "poll", "/v2", "/live", "sse"]
    readers = [SlowReader(slow_hub, kind, channels[: 1 + seed % 2], seed) for seed, kind in enumerate(kinds)]
    for reader in readers:
        for channel in reader.channels:
            reader.progress.seen.setdefault(channel, {"seq": 0, "epoch": ""})
        reader.start()
    for start in range(0, EVENTS, 100):
        publisher.publish_items(
            {"channel": channel, "data": "x" * 300} for _ in range(100) for channel in channels
        )
        if start == EVENTS - 200:
            time.sleep(1)  # time to catch up, so that some live events follow the last notice
    publisher.close()
    for reader in readers:
        reader.join(90)
    for kind, reader in zip(kinds, readers, strict=True):
        assert reader.failure is None, f"{kind}: {reader.failure!r}"
        for channel in reader.channels:
            seqs = reader.progress.delivered.get(channel, [])
            assert seqs == sorted(set(seqs)), f"{kind}: out of order or twice"
            assert reader.progress.account(channel) == list(range(1, EVENTS + 1)), f"{kind} {channel}"
    if namespace == "lag.drop":
        assert any(reader.progress.told for reader in readers), "nobody was slow enough for this to be a test"
