"""A client goes from transport to transport in mid-stream: nothing lost, nothing twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from tests.hub_process import HubProcess
from tests.wire.publishing import Publisher
from tests.wire.readers import KINDS, Progress, open_reader

Naming = Callable[[str], str]
SWITCHES = 80


class Stream:
    """Publishes to channels in random order from a thread, until told to stop."""

    def __init__(self, hub: HubProcess, channels: list[str], seed: int) -> None:
        self.counts = dict.fromkeys(channels, 0)
        self._hub = hub
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        publisher = Publisher(self._hub)
        try:
            while not self._stop.wait(0.002):
                channels = self._random.choices(list(self.counts), k=self._random.randint(1, 6))
                publisher.publish_items(
                    {"channel": channel, "data": "x" * self._random.randint(0, 200)} for channel in channels
                )
                for channel in channels:
                    self.counts[channel] += 1
        finally:
            publisher.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_switches(hub: HubProcess, publisher: Publisher, name: Naming, seed: int) -> None:
    choose = random.Random(seed)
    channels = [name("switch") for _ in range(3)]
    progress = Progress()
    for channel in channels:
        (first,) = publisher.publish(channel, "first")
        progress.seen[channel] = {"seq": 0, "epoch": first["epoch"]}
    history: list[str] = []
    with Stream(hub, channels, seed) as stream:
        for _ in range(SWITCHES):
            kind, by_cursor = choose.choice(KINDS), choose.random() < 0.5
            history.append(f"{kind}{' by cursor' if by_cursor else ''}")
            reader = open_reader(kind, hub.address, channels, progress, by_cursor=by_cursor)
            try:
                reader.read(choose.choice([0, 1, 2, 5, 30]))
            finally:
                reader.close()
            for channel in channels:
                seqs = progress.delivered.get(channel, [])
                assert seqs == list(range(1, len(seqs) + 1)), f"{channel} after {history[-5:]}: {seqs[-40:]}"
    for channel in channels:
        stream.counts[channel] += 1
    for _ in range(2000):
        if all(len(progress.delivered.get(channel, [])) >= count for channel, count in stream.counts.items()):
            break
        reader = open_reader("poll live", hub.address, channels, progress, by_cursor=True)
        reader.read(1)
    assert not progress.told
    assert {channel: len(seqs) for channel, seqs in progress.delivered.items()} == stream.counts
