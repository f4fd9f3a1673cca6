"""`websockets` on `/v2`, in JSON or CBOR, and on `/live`."""

from __future__ import annotations

import json
from typing import Any

import cbor2
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.soak.client import Client

OPEN_TIMEOUT = 15.0


class SocketClient(Client):
    """``options.kind`` is "v2", "cbor" or "live"."""

    _connection: ClientConnection | None = None

    def connect_once(self) -> None:
        kind = self.options.kind
        path = "/live" if kind == "live" else "/v2"
        try:
            with connect(
                f"ws://{self.options.address}{path}",
                subprotocols=[Subprotocol("hub.v2.cbor")] if kind == "cbor" else None,
                additional_headers=self.options.headers,
                open_timeout=OPEN_TIMEOUT,
                proxy=None,
                max_size=None,
                max_queue=None,  # a client that holds back does not hear the answer to its close
            ) as connection:
                self._connection = connection
                self._follow(connection)
        except ConnectionClosed as closed:
            self.count(f"closed {closed.rcvd.code if closed.rcvd is not None else 1006}")
        except InvalidStatus:
            raise
        except (OSError, EOFError, WebSocketException):
            self.count("broken handshakes")
        finally:
            self._connection = None

    def _follow(self, connection: ClientConnection) -> None:
        if self.options.kind == "live":
            self._subscribe_live(connection)
        else:
            self._subscribe_v2(connection)
        while not self.is_stopped.is_set():
            message = self._receive(connection)
            if message.get("event") == "disconnecting":
                self.count(f"told {message.get('code') or message['data']['code']}")
            else:
                self.take(message)

    def _subscribe_v2(self, connection: ClientConnection) -> None:
        greeting = self._receive(connection)
        if greeting["event"] != "connected":
            raise ValueError(f"not a greeting: {greeting}")
        fields = {"params": self.options.channels, "lastSeq": self.follower.last_seq()}
        self._send(connection, {"method": "subscribe", "id": 1, **fields})
        answer = self._receive(connection)
        if answer.get("id") != 1 or answer["code"] != 0:
            raise ValueError(f"not an answer: {answer}")
        self._subscribed(answer["data"])

    def _subscribe_live(self, connection: ClientConnection) -> None:
        fields = {"channels": self.options.channels, "lastSeq": self.follower.last_seq()}
        self._send(connection, {"type": "subscribe", **fields})
        answer = self._receive(connection)
        if answer["event"] != "subscribed":
            raise ValueError(f"not an answer: {answer}")
        self._subscribed(answer["data"])

    def _subscribed(self, data: Any) -> None:
        self.note(lambda follower: follower.subscribed(data["positions"], data.get("errors", ())))

    def _send(self, connection: ClientConnection, value: Any) -> None:
        connection.send(cbor2.dumps(value) if self.options.kind == "cbor" else json.dumps(value))

    def _receive(self, connection: ClientConnection) -> Any:
        message = connection.recv()
        return cbor2.loads(message) if isinstance(message, bytes) else json.loads(message)

    def leave(self) -> None:
        if (connection := self._connection) is not None:
            connection.close()
