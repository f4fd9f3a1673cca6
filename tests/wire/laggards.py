"""Clients that stop reading and go on later, and what they were told in which order."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx

from tests.hub_process import HubProcess
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import CLOSE, PATIENCE, TEXT, RawPeer, request

#: How a `Laggard` is connected.
KINDS = ["/v2", "/live", "sse live", "sse v2"]
#: Events that surely fill every buffer between hub and client, when they are of EVENT bytes.
PRIMING = 64
EVENT = 2000

#: What came, merged: ("events" | "drop" | "gap" | "snapshot", first seq, last seq).
Run = tuple[str, int, int]


class Laggard:
    """A client of one channel. It reads only when it is told to."""

    def __init__(
        self, peer: RawPeer, kind: str, channel: str, *, last_seq: Any = None, last_event_id: str = ""
    ) -> None:
        self.peer = peer
        self.channel = channel
        self.runs: list[Run] = []
        #: What came that belongs to no channel, beside heartbeats.
        self.system: list[dict[str, Any]] = []
        self.last_event_id = last_event_id
        #: Set at the end: the close frame's code; None where chunks ended with the last chunk.
        self.close_code: int | None = None
        self._is_websocket = kind.startswith("/")
        if self._is_websocket:
            self._open_websocket(kind, last_seq)
        else:
            self._open_stream(kind.removeprefix("sse "), last_seq)

    def _open_websocket(self, path: str, last_seq: Any) -> None:
        resume = {} if last_seq is None else {"lastSeq": {self.channel: last_seq}}
        self.peer.upgrade(path)
        self._messages = self._frames()
        if path == "/v2":
            self.connection_id = next(self._messages)["connId"]
            self.peer.send_json({"method": "subscribe", "params": [self.channel], "id": 1, **resume})
        else:
            self.peer.send_json({"type": "subscribe", "channels": [self.channel], **resume})
        answer = next(self._messages)
        assert answer.get("code") == 0 or answer["data"]["errors"] == [], answer

    def _open_stream(self, format_: str, last_seq: Any) -> None:
        resume = "" if last_seq is None else "&lastSeq=" + quote(json.dumps({self.channel: last_seq}))
        headers = [f"Last-Event-ID: {self.last_event_id}"] if self.last_event_id else []
        target = f"/sse?channels={self.channel}&format={format_}{resume}"
        self.peer.send(request("GET", target, *headers))
        status, _ = self.peer.read_head()
        assert status == 200
        self._messages = self._blocks()
        assert next(self._messages)["event"] in ("subscribed", "connected")

    def _frames(self) -> Iterator[dict[str, Any]]:
        while True:
            opcode, payload = self.peer.read_frame()
            if opcode == TEXT:
                yield json.loads(payload)
            elif opcode == CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big")
                self.peer.send_frame(CLOSE, payload[:2])
                return

    def _blocks(self) -> Iterator[dict[str, Any]]:
        for chunk in self.peer.chunks():
            if not chunk.startswith(b":"):  # a comment
                fields = dict(line.partition(": ")[::2] for line in chunk.decode().split("\n") if line)
                self.last_event_id = fields["id"]
                yield json.loads(fields["data"])

    def wake(self) -> None:
        """From now on it reads with a window of the usual size."""
        self.peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    def read_up_to(self, seq: int) -> None:
        """Reads until the event or snapshot ``seq`` came."""
        while not self.runs or self.runs[-1][0] not in ("events", "snapshot") or self.runs[-1][2] < seq:
            self._take(next(self._messages))

    def read_to_end(self) -> None:
        for message in self._messages:
            self._take(message)

    def system_data(self, event: str) -> list[dict[str, Any]]:
        """The data of each such event, whichever the format."""
        return [message.get("data", message) for message in self.system if message["event"] == event]

    def _take(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        channel = message.get("ch") or message.get("channel")
        if channel != self.channel:
            assert channel in (None, "system"), message
            if event != "heartbeat":
                self.system.append(message)
        elif event in ("backpressure_drop", "gap"):
            data = message["data"]
            assert "dropped" not in data or data["dropped"] == data["toSeq"] - data["fromSeq"] + 1
            self.runs.append(
                ("drop" if event == "backpressure_drop" else "gap", data["fromSeq"], data["toSeq"])
            )
        elif event == "snapshot" or "snapshotSeq" in message:
            self.runs.append(("snapshot", message["seq"], message["seq"]))
        elif self.runs and self.runs[-1][0] == "events" and message["seq"] == self.runs[-1][2] + 1:
            self.runs[-1] = ("events", self.runs[-1][1], message["seq"])
        else:
            self.runs.append(("events", message["seq"], message["seq"]))


def fill(hub: HubProcess, publisher: Publisher, channel: str, *, stuck: int = 1) -> None:
    """Publishes the PRIMING events, and waits until ``stuck`` clients take no more."""
    publish(publisher, channel, PRIMING)
    wait_until(lambda: blocked(hub) >= stuck, "the clients to be stuck")


def publish(publisher: Publisher, channel: str, count: int, *, batch: int = 250, size: int = EVENT) -> None:
    """Publishes ``count`` events in several requests."""
    for start in range(0, count, batch):
        publisher.publish(channel, *["x" * size] * min(batch, count - start))


def blocked(hub: HubProcess) -> int:
    """How many clients are not taking what is due to them."""
    rows = httpx.get(f"{hub.admin_url}/admin/connections", trust_env=False).json()["connections"]
    return sum(row["blocked"] for row in rows)


def metric(hub: HubProcess, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    text = httpx.get(f"{hub.admin_url}/metrics", trust_env=False).text
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith((f"{name}{{", f"{name} ")) and all(label in line for label in wanted)
    )


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = PATIENCE * 3) -> None:
    """For what another process does in its own time, and tells nobody."""
    give_up_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up_at, f"waited in vain for {what}"
        time.sleep(0.02)
