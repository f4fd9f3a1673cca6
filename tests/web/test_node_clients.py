"""Stock clients of Node: `ws` on /v2 and `eventsource` on /sse, which resumes by itself."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import needs
from tests.hub_process import HubProcess, running_hub

SCRIPT = Path(__file__).with_name("node_clients.mjs")
CONFIG = Path(__file__).parents[2] / "conf" / "bench.toml"
COUNT = 300

pytestmark = pytest.mark.needs("node", "node packages")


@pytest.fixture
def hub() -> Iterator[HubProcess]:
    with running_hub(CONFIG, "transports.sse.retry=0.05") as hub:
        yield hub


class NodeClient:
    """A Node process; each line that it prints is an event."""

    def __init__(self, *arguments: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.has_begun = threading.Event()
        self._process = subprocess.Popen(
            [needs.program("node"), str(SCRIPT), *arguments], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            self.events.append(event)
            if event.get("id") == 1 or event.get("event") == "subscribed":
                self.has_begun.set()

    def wait_end(self) -> None:
        self._thread.join(60)
        is_alive = self._thread.is_alive()
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        assert not is_alive, self.events[-3:]

    def seqs(self, channel: str) -> list[int]:
        return [event["seq"] for event in self.events if channel in (event.get("ch"), event.get("channel"))]


def publish(hub: HubProcess, channel: str, numbers: range) -> None:
    items = [{"channel": channel, "data": {"n": n}} for n in numbers]
    with httpx.Client(trust_env=False) as client:
        assert client.post(f"{hub.admin_url}/publish", json=items).status_code == 200


def test_ws(hub: HubProcess) -> None:
    client = NodeClient("ws", f"{hub.websocket_url}/v2", "bench:node", str(COUNT))
    assert client.has_begun.wait(30)
    publish(hub, "bench:node", range(COUNT))
    client.wait_end()
    assert client.events[0]["event"] == "connected"
    assert client.seqs("bench:node") == list(range(1, COUNT + 1))
    assert client.events[-1] == {"closed": 1000}


def test_eventsource_resumes_by_itself(hub: HubProcess) -> None:
    client = NodeClient("eventsource", f"{hub.public_url}/sse?channels=bench:node", str(COUNT))
    assert client.has_begun.wait(30)
    with httpx.Client(base_url=hub.admin_url, trust_env=False) as admin:
        for begin in range(0, COUNT, 30):
            publish(hub, "bench:node", range(begin, begin + 30))
            for connection in admin.get("/admin/connections").json()["connections"]:
                admin.post("/admin/disconnect", params={"connId": connection["connId"]})
    client.wait_end()
    assert client.seqs("bench:node") == list(range(1, COUNT + 1))
    assert sum(event["event"] == "subscribed" for event in client.events) > 1
