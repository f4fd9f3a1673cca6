"""Clients that read a channel over each transport and can go on where another of them stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import quote

import attrs

from tests.wire.rawpeer import PATIENCE, PING, TEXT, RawPeer, request

Address = tuple[str, int]


@attrs.define
class Progress:
    """What a client knows: the cursor that came last, and of each channel epoch and seq."""

    cursor: str | None = None
    seen: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    #: channel -> seqs in the order in which they were delivered, or told as lost.
    delivered: dict[str, list[int]] = attrs.field(factory=dict)
    told: dict[str, list[int]] = attrs.field(factory=dict)

    def take(self, message: dict[str, Any]) -> int:
        """Notes a message of either format; how many events it delivered (0 or 1)."""
        channel = message.get("ch") or message.get("channel")
        event = message.get("event")
        if event in ("gap", "backpressure_drop"):
            data = message["data"]
            lost = range(data["fromSeq"], data["toSeq"] + 1)
            assert "dropped" not in data or data["dropped"] == len(lost)
            self.told.setdefault(str(channel), []).extend(lost)
            self._saw(str(channel), data["toSeq"])
            return 0
        if channel in (None, "system"):
            return 0
        is_snapshot = event == "snapshot" or "snapshotSeq" in message
        if not is_snapshot:
            self.delivered.setdefault(str(channel), []).append(message["seq"])
        self._saw(str(channel), message["seq"])
        return 1

    def _saw(self, channel: str, seq: int) -> None:
        if channel in self.seen:
            self.seen[channel]["seq"] = seq

    def started(self, positions: dict[str, Any]) -> None:
        for channel, position in positions.items():
            known = self.seen.get(channel)
            if known is None:
                self.seen[channel] = {"seq": position["seq"], "epoch": position["epoch"]}

    def account(self, channel: str) -> list[int]:
        return sorted(self.delivered.get(channel, []) + self.told.get(channel, []))


class Reader(Protocol):
    def read(self, count: int) -> None:
        """About ``count`` more events, or fewer where none come."""
        ...

    def close(self) -> None: ...


def resume_fields(progress: Progress, *, by_cursor: bool) -> dict[str, Any]:
    if by_cursor and progress.cursor is not None:
        return {"cursor": progress.cursor}
    return {"lastSeq": progress.seen} if progress.seen else {}


class WebSocketReader:
    def __init__(
        self,
        address: Address,
        path: str,
        channels: list[str],
        progress: Progress,
        *,
        by_cursor: bool,
        receive_buffer: int = 0,
    ) -> None:
        self.peer = RawPeer(address, receive_buffer=receive_buffer)
        self.progress = progress
        self.peer.upgrade(path)
        if path == "/v2":
            assert self._next()["event"] == "connected"
            self.peer.send_json(
                {
                    "method": "subscribe",
                    "params": channels,
                    "id": 1,
                    **resume_fields(progress, by_cursor=False),
                }
            )
            answer = self._next()
            assert answer["msg"] == "ok", answer
            progress.started(answer["data"]["positions"])
        else:
            self.peer.send_json(
                {"type": "subscribe", "channels": channels, **resume_fields(progress, by_cursor=by_cursor)}
            )
            answer = self._next()
            assert answer["event"] == "subscribed" and not answer["data"]["errors"], answer
            progress.started(answer["data"]["positions"])

    def _next(self) -> Any:
        while (answer := self.peer.read_frame())[0] == PING:
            pass
        assert answer[0] == TEXT, answer
        return json.loads(answer[1])

    def read(self, count: int) -> None:
        while count > 0:
            message = self._next()
            if message.get("event") == "disconnecting":
                raise EOFError(message)
            # A cursor stands for a moment; events after it make it stale, so a WebSocket client counts.
            self.progress.cursor = None
            count -= self.progress.take(message)

    def close(self) -> None:
        self.peer.close()


class SseReader:
    def __init__(
        self,
        address: Address,
        format_: str,
        channels: list[str],
        progress: Progress,
        *,
        by_cursor: bool,
        receive_buffer: int = 0,
    ) -> None:
        self.peer = RawPeer(address, receive_buffer=receive_buffer)
        self.progress = progress
        fields = resume_fields(progress, by_cursor=by_cursor)
        query = f"channels={','.join(channels)}&format={format_}"
        headers = [f"Last-Event-ID: {fields['cursor']}"] if "cursor" in fields else []
        if "lastSeq" in fields:
            query += "&lastSeq=" + quote(json.dumps(fields["lastSeq"]))
        self.peer.send(request("GET", f"/sse?{query}", *headers))
        status, _ = self.peer.read_head()
        assert status == 200
        self.chunks: Iterator[bytes] = self.peer.chunks()
        self._next()

    def _next(self) -> dict[str, Any]:
        while (chunk := next(self.chunks)) == b":\n":
            pass
        fields = dict(line.partition(": ")[::2] for line in chunk.decode().split("\n") if line)
        message: dict[str, Any] = json.loads(fields["data"])
        if message.get("event") == "subscribed":
            self.progress.started(message["data"]["positions"])
        self.progress.cursor = fields["id"]
        return message

    def read(self, count: int) -> None:
        while count > 0:
            message = self._next()
            if message.get("event") == "disconnecting":
                raise EOFError(message)
            count -= self.progress.take(message)

    def close(self) -> None:
        self.peer.close()


class PollReader:
    def __init__(
        self, address: Address, format_: str, channels: list[str], progress: Progress, *, by_cursor: bool
    ) -> None:
        self.address = address
        self.progress = progress
        self.by_cursor = by_cursor
        self.query = f"channels={','.join(channels)}&format={format_}"

    def read(self, count: int) -> None:
        while count > 0:
            fields = resume_fields(self.progress, by_cursor=self.by_cursor)
            text = "".join(
                f"&{name}={quote(value if isinstance(value, str) else json.dumps(value))}"
                for name, value in fields.items()
            )
            with RawPeer(self.address) as peer:
                response = peer.ask(
                    request("GET", f"/poll?{self.query}&wait={PATIENCE / 2:g}{text}", "Connection: close")
                )
            assert response.status == 200, response.body
            body = response.json()
            count -= sum(self.progress.take(message) for message in body["events"])
            self.progress.cursor = body["cursor"]
            self.by_cursor = True
            if not body["events"] and fields:
                return

    def close(self) -> None:
        pass


def open_reader(
    kind: str, address: Address, channels: list[str], progress: Progress, *, by_cursor: bool
) -> Reader:
    match kind:
        case "ws v2":
            return WebSocketReader(address, "/v2", channels, progress, by_cursor=by_cursor)
        case "ws live":
            return WebSocketReader(address, "/live", channels, progress, by_cursor=by_cursor)
        case "sse live" | "sse v2":
            return SseReader(address, kind[4:], channels, progress, by_cursor=by_cursor)
        case _:
            return PollReader(address, kind[5:], channels, progress, by_cursor=by_cursor)


KINDS = ["ws v2", "ws live", "sse live", "sse v2", "poll live", "poll v2"]
