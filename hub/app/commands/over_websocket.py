"""Follows over the WebSocket at ``/live``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    DisconnectionTimeout,
    HandshakeError,
    WebSocketConnection,
    open_websocket_url,
)

from hub.app.commands.endings import ENOUGH, Ending, closed, refused
from hub.app.commands.following import Follower
from hub.app.commands.progress import Progress
from hub.app.commands.urls import websocket_url

#: The largest message that a hub takes by default (stream-v2.md, "Client to server").
MESSAGE_SIZE = 4096
#: The largest that we take: a snapshot may be as large as what was published.
LARGEST_EVENT = 64 * 1024 * 1024
#: A heartbeat comes every 10 s (live-envelope.md); three of them missing, and the hub is not there.
SILENCE = 30.0
_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 2.0


async def follow(base: str, follower: Follower) -> Ending:
    """One connection, from its begin to its end."""
    ending = None
    try:
        async with open_websocket_url(
            f"{websocket_url(base)}/live",
            max_message_size=LARGEST_EVENT,
            connect_timeout=_CONNECT_SECONDS,
            disconnect_timeout=_CLOSE_SECONDS,
        ) as connection:
            ending = await _converse(connection, follower)
    except DisconnectionTimeout:
        pass  # the hub does not answer our close: it is gone all the same
    except ConnectionRejected as rejected:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in rejected.headers
        }
        ending = refused(rejected.status_code, headers, rejected.body or b"")
    except HandshakeError as error:
        ending = Ending(reason=f"cannot connect: {error.__cause__ or 'no answer'}")
    assert ending is not None
    return follower.ended(ending)


async def _converse(connection: WebSocketConnection, follower: Follower) -> Ending:
    commands = subscribe_commands(follower.channels, follower.progress)
    follower.ask(len(commands))
    try:
        for command in commands:
            await connection.send_message(command)
        return await _listen(connection, follower)
    except ConnectionClosed as error:
        # 1006 is what the library says where nobody said anything.
        if error.reason is None or error.reason.code == 1006:
            return Ending(reason="connection lost")
        return closed(error.reason.code, error.reason.reason or "")


async def _listen(connection: WebSocketConnection, follower: Follower) -> Ending:
    while follower.wants_more:
        with trio.move_on_after(SILENCE) as silence:
            message = await connection.get_message()
        if silence.cancelled_caught:
            return Ending(reason=f"nothing heard for {SILENCE:g} s")
        ending = follower.take(message.encode() if isinstance(message, str) else message)
        if ending is not None:
            return ending
    return ENOUGH


def subscribe_commands(channels: Sequence[str], progress: Progress) -> list[str]:
    """The commands that subscribe ``channels`` from where ``progress`` is, none larger than a hub takes."""
    commands: list[str] = []
    batch: list[str] = []
    for channel in channels:
        if batch and len(_subscribe([*batch, channel], progress)) > MESSAGE_SIZE:
            commands.append(_subscribe(batch, progress))
            batch = []
        batch.append(channel)
    return [*commands, _subscribe(batch, progress)]


def _subscribe(channels: list[str], progress: Progress) -> str:
    command: dict[str, Any] = {"type": "subscribe", "channels": channels}
    if progress.cursor is not None:
        command["cursor"] = progress.cursor
    if seen := {channel: seq for channel, seq in progress.last_seq.items() if channel in channels}:
        command["lastSeq"] = seen
    return msgspec.json.encode(command).decode()
