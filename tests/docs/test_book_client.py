"""The book of the documents' client is the hub's, also after its connection was ended."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx

from tests.docs.documents import sections
from tests.docs.examples import PUBLIC
from tests.docs.programs import environment
from tests.hub_process import HubProcess

CHANNEL = "orderbook@btc_tl"


def documented_program() -> str:
    (text,) = (
        block.text
        for section in sections("docs/protocol.rst")
        for block in section.blocks
        if block.kind == "python" and CHANNEL in block.text
    )
    return text


class BookClient:
    """The program, running. What it prints tells what its book is."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._best: dict[int, tuple[Decimal, Decimal]] = {}
        self._last = 0

    def best_at(self, seq: int) -> tuple[Decimal, Decimal]:
        """Its best bid and ask when it had taken the event ``seq``."""
        while self._last < seq:
            self.read()
        return self._best[seq]

    def read(self) -> None:
        """Takes the next line that it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the program has ended"
        if line.startswith("{"):
            best = json.loads(line)
            assert self._last in (0, best["seq"] - 1), "it has missed something"
            self._last = best["seq"]
            self._best[self._last] = Decimal(best["bid"]), Decimal(best["ask"])


@contextmanager
def running_client(hub: HubProcess) -> Iterator[BookClient]:
    program = documented_program().replace(PUBLIC, "{}:{}".format(*hub.address))
    process = subprocess.Popen(
        [sys.executable, "-c", program.replace("time.sleep(1)", "time.sleep(0)")],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield BookClient(process)
        finally:
            process.terminate()


def snapshot_of(hub: HubProcess) -> dict[str, Any]:
    snapshot: dict[str, Any] = httpx.get(f"{hub.public_url}/snapshot/{CHANNEL}", trust_env=False).json()
    return snapshot


def test_the_clients_book_is_the_hubs(demo_hub: HubProcess) -> None:
    with running_client(demo_hub) as client:
        client.read()  # it has begun
        for _ in range(5):
            snapshot = snapshot_of(demo_hub)
            (bid, _), (ask, _) = snapshot["data"]["bids"][0], snapshot["data"]["asks"][0]
            assert client.best_at(snapshot["seq"]) == (Decimal(bid), Decimal(ask))
            connections = httpx.get(f"{demo_hub.admin_url}/admin/connections", trust_env=False).json()
            for connection in connections["connections"]:
                if CHANNEL in connection["channels"]:
                    query = {"connId": connection["connId"], "reason": "test"}
                    httpx.post(f"{demo_hub.admin_url}/admin/disconnect", params=query, trust_env=False)
