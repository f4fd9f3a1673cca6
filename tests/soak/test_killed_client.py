"""A client that keeps a book is killed and resumed a hundred times: its book is the hub's each time."""

from __future__ import annotations

import json
import multiprocessing
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import attrs
import httpx

from tests.hub_process import HubProcess, running_hub
from tests.soak import killed_client
from tests.soak.comparing import difference
from tests.soak.killed_client import Journal
from tests.soak.soak import CONFIG
from tests.soak.states import comparable

TIMES = 100
CHANNEL = "orderbook@btc_tl"
BUFFERED = 1000
SETTINGS = [
    'sources.demo.markets=["btc_tl"]',
    "sources.demo.rate=1500",
    f"namespaces.orderbook.buffer_count={BUFFERED}",
    "limits.connections_per_ip=0",
    "limits.requests_per_ip=0",
]
#: A fork of a process that has everything imported lives in a moment.
_processes = multiprocessing.get_context("forkserver")


@attrs.frozen
class Life:
    """A client that runs."""

    questions: Connection

    def ask(self, seq: int) -> Any:
        self.questions.send(seq)
        assert self.questions.poll(60), "the client does not answer"
        return self.questions.recv()


@contextmanager
def one_life(hub: HubProcess, path: Path) -> Iterator[Life]:
    """A client that is killed at the end of the block, whatever it is doing then."""
    ours, theirs = _processes.Pipe()
    address = f"{hub.address[0]}:{hub.address[1]}"
    process = _processes.Process(target=killed_client.live, args=(address, CHANNEL, str(path), theirs))
    process.start()
    theirs.close()
    try:
        yield Life(ours)
    finally:
        process.kill()
        process.join(60)
        ours.close()
    assert process.exitcode == -9


def snapshot(http: httpx.Client) -> Any:
    response = http.get(f"/snapshot/{CHANNEL}")
    assert response.status_code == 200, response.text
    return response.json()


def prepare(number: int, http: httpx.Client, journal: Journal, path: Path) -> None:
    """What happens while the client is dead: mostly nothing but time."""
    entry = journal.read()
    if entry is None:
        return
    if number % 10 == 9:  # it has lost its file
        journal.forget()
    elif number % 10 == 4:  # its file is of another history
        path.write_text(json.dumps({**entry, "epoch": "of yesterday"}))
    elif number % 50 == 12:  # it was away for longer than is buffered
        while snapshot(http)["seq"] <= entry["seq"] + BUFFERED:
            pass


def check_book(http: httpx.Client, life: Life) -> Counter[str]:
    """Compares at the hub's own snapshot; tries again where the client was told that it lost just that one."""
    answer: Any = None
    for _ in range(20):
        truth = snapshot(http)
        answer = life.ask(truth["seq"])
        assert not answer["failures"], answer["failures"]
        if answer["book"] is not None:
            ours = comparable("book", truth["data"])
            assert answer["book"] == ours, difference(answer["book"], ours)
            return Counter(answer["counts"])
    raise AssertionError(f"the client never knew its book: {answer}")


def test_its_book_is_the_hubs_each_time(tmp_path: Path) -> None:
    path = tmp_path / "book.json"
    journal, choose, counts = Journal(path), random.Random(1), Counter[str]()
    _processes.set_forkserver_preload(["__main__", killed_client.__name__])
    with (
        running_hub(CONFIG, *SETTINGS) as hub,
        httpx.Client(base_url=hub.public_url, trust_env=False) as http,
    ):
        for number in range(TIMES):
            prepare(number, http, journal, path)
            if choose.random() < 0.2:
                with one_life(hub, path):  # killed while it connects, or not even that
                    pass
            with one_life(hub, path) as life:
                counts += check_book(http, life)
                life.ask(
                    snapshot(http)["seq"] + choose.randrange(20)
                )  # so that it dies in the middle of something
    assert counts["resumes"] > TIMES // 2, counts
    assert (
        counts["gap evicted"] and counts["gap epoch"] >= TIMES // 10 and counts["snapshots"] >= TIMES // 5
    ), counts
