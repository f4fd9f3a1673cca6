"""Follows over the WebSocket at ``/live``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
import trio
import trio.abc

from hub.app.commands.endings import ENOUGH, Ending, closed
from hub.app.commands.following import Follower
from hub.app.commands.progress import Progress
from hub.app.commands.websocket_client import ABNORMAL, Closed, Rejected, WebSocketClient

#: The largest message that a hub takes by default (stream-v2.md, "Client to server").
MESSAGE_SIZE = 4096
#: The largest that we take: a snapshot may be as large as what was published.
LARGEST_EVENT = 64 * 1024 * 1024
#: A heartbeat comes every 10 s (live-envelope.md); three of them missing, and the hub is not there.
SILENCE = 30.0
_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 2.0


async def follow_websocket(base: str, follower: Follower) -> Ending:
    """One connection, from its begin to its end."""
    try:
        with trio.fail_after(_CONNECT_SECONDS):
            stream = await _open_stream(base)
    except trio.TooSlowError:
        return Ending(reason="cannot connect: no answer")
    except OSError as error:
        return Ending(reason=f"cannot connect: {error}")
    except trio.BrokenResourceError as error:  # TLS; Trio's words are in the cause
        return Ending(reason=f"cannot connect: {error.__cause__ or error}")
    try:
        return follower.ended(
            await _converse(WebSocketClient(stream, message_size=LARGEST_EVENT), base, follower)
        )
    finally:
        await trio.aclose_forcefully(stream)


async def _open_stream(base: str) -> trio.abc.Stream:
    """Raises OSError, BrokenResourceError (TLS)."""
    parts = urlsplit(base)
    assert parts.hostname is not None
    if parts.scheme == "http":
        return await trio.open_tcp_stream(parts.hostname, parts.port or 80)
    stream = await trio.open_ssl_over_tcp_stream(parts.hostname, parts.port or 443, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _converse(client: WebSocketClient, base: str, follower: Follower) -> Ending:
    parts = urlsplit(base)
    try:
        with trio.fail_after(_CONNECT_SECONDS):
            await client.open(parts.netloc.rpartition("@")[2], f"{parts.path}/live", follower.headers)
        commands = subscribe_commands(follower.channels, follower.progress)
        follower.ask(len(commands))
        for command in commands:
            await client.send(command)
        ending = await _listen(client, follower)
        with trio.move_on_after(_CLOSE_SECONDS):
            await client.aclose()
    except trio.TooSlowError:
        return Ending(reason="cannot connect: no answer")
    except Rejected as answer:
        return follower.refused(answer.status, answer.headers, answer.body)
    except Closed as end:
        if end.code == ABNORMAL:
            return Ending(reason=f"connection lost: {end.reason}" if end.reason else "connection lost")
        return closed(end.code, end.reason)
    return ending


async def _listen(client: WebSocketClient, follower: Follower) -> Ending:
    while follower.wants_more:
        with trio.move_on_after(SILENCE) as silence:
            message = await client.receive()
        if silence.cancelled_caught:
            return Ending(reason=f"nothing heard for {SILENCE:g} s")
        ending = follower.take(message)
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
