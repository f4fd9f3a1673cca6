"""A transport for tests alone: echoes WebSocket messages over the very link that serves `/v2`."""

from __future__ import annotations

from typing import ClassVar

import attrs
import trio
import trio.abc

from hub.core.broker import Broker
from hub.core.contracts import Mounts, Request
from hub.sansio.encodings import WebSocketFrames
from hub.sansio.errors import ProtocolViolated
from transports.websocket import WebSocketLink, accept

MESSAGE_SIZE = 16 * 1024 * 1024
_TEXT, _BINARY = WebSocketFrames(text=True), WebSocketFrames(text=False)


@attrs.frozen(kw_only=True)
class EchoSettings:
    path: str = "/echo"


class EchoTransport:
    name: ClassVar[str] = "echo"
    Settings: ClassVar[type] = EchoSettings

    def __init__(self, settings: EchoSettings) -> None:
        self._settings = settings

    async def serve(
        self, broker: Broker, mounts: Mounts, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        mounts.mount_upgrade(self._settings.path, serve_peer)
        task_status.started()
        await trio.sleep_forever()


async def serve_peer(request: Request, stream: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:
        link = await accept(
            nursery, stream, request, subprotocol=None, message_size=MESSAGE_SIZE, ping_interval=3600.0
        )
        if link is not None:
            await echo(link)
        nursery.cancel_scope.cancel()


async def echo(link: WebSocketLink) -> None:
    try:
        while True:
            message = await link.receive()
            if isinstance(message, str):
                await link.send(_TEXT.frame(message.encode(), ""))
            else:
                await link.send(_BINARY.frame(bytes(message), ""))
    except ProtocolViolated as violation:
        with trio.move_on_after(5.0):
            await link.aclose(violation.code, violation.msg)
    except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
        pass
