"""A client that goes from SSE (`httpx-sse`) to polling (`httpx`) to a WebSocket on `/live` (`websockets`) and back
in mid-stream, with one and the same cursor."""

from __future__ import annotations

import json
from typing import Any

import httpx
from httpx_sse import connect_sse
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

from tests.soak.client import Client, Options

TIMEOUT = 15.0
TRANSPORTS = ("sse", "poll", "live")


class SwitchingClient(Client):
    """Stays on one transport for a random number of events, or until it is cut."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        #: The newest cursor, None once more was read than it stands for.
        self._cursor: str | None = None
        self._http = httpx.Client(
            base_url=f"http://{options.address}", headers=options.headers, timeout=TIMEOUT, trust_env=False
        )

    def connect_once(self) -> None:
        # A poll's answer has no positions, so the first connection is one that tells them.
        knows_all = all(progress.seq is not None for progress in self.follower.channels.values())
        transport = self.random.choice(TRANSPORTS) if knows_all else "sse"
        count = int(self.random.expovariate(1 / 500)) + 1
        self.count(f"over {transport}")
        try:
            getattr(self, f"_over_{transport}")(count)
        except InvalidStatus:
            raise
        except (OSError, EOFError, httpx.TransportError, WebSocketException):
            self.count("cuts")

    def _fields(self) -> dict[str, Any]:
        """From where to go on: the cursor where it is the newest, else what was counted."""
        if self._cursor is not None:
            return {"cursor": self._cursor}
        return {"lastSeq": self.follower.last_seq()}

    def _query(self) -> dict[str, str]:
        fields = self._fields()
        text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()}
        return {"channels": ",".join(self.options.channels), **text}

    def _take(self, message: dict[str, Any]) -> None:
        """An envelope of any transport."""
        data = message["data"]
        if message["event"] == "subscribed":
            self.note(lambda follower: follower.subscribed(data["positions"], data["errors"]))
        elif message["event"] == "disconnecting":
            self.count(f"told {data['code']}")
        else:
            self.take(message)

    def _over_sse(self, count: int) -> None:
        with connect_sse(self._http, "GET", "/sse", params=self._query()) as source:
            self._check(source.response)
            for event in source.iter_sse():
                self._take(event.json())
                self._cursor = event.id
                count -= 1
                if count <= 0 or self.is_stopped.is_set():
                    return

    def _over_poll(self, count: int) -> None:
        while count > 0 and not self.is_stopped.is_set():
            response = self._http.get("/poll", params={**self._query(), "wait": "1"})
            self._check(response)
            body = response.json()
            for message in body["events"]:
                self._take(message)
            self._cursor = body["cursor"]
            count -= len(body["events"])

    def _check(self, response: httpx.Response) -> None:
        if response.status_code != 200:
            response.read()
            raise ValueError(f"{response.request.url.path}: {response.status_code} {response.text}")

    def _over_live(self, count: int) -> None:
        address, headers = self.options.address, self.options.headers
        with connect(
            f"ws://{address}/live",
            additional_headers=headers,
            open_timeout=TIMEOUT,
            proxy=None,
            max_size=None,
            max_queue=None,  # as in socket_client.py
        ) as connection:
            connection.send(
                json.dumps({"type": "subscribe", "channels": self.options.channels, **self._fields()})
            )
            while count > 0 and not self.is_stopped.is_set():
                message = json.loads(connection.recv(TIMEOUT))
                self._take(message)
                if message["event"] == "subscribed":
                    continue
                self._cursor = None
                count -= 1

    def leave(self) -> None:
        """Whatever it reads comes to an end by itself soon."""
