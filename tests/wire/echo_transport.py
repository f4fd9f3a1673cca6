"""A transport for tests alone: echoes WebSocket messages over the very link that serves `/v2`."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

import attrs
import trio
import trio.abc

from hub.core.broker import Broker
from hub.core.contracts import Mounts, Request
from hub.sansio.encodings import WebSocketFrames, deflate_frames
from hub.sansio.errors import ProtocolViolated
from hub.sansio.options import Seconds, Size
from hub.sansio.permessage_deflate import Agreement, Deflater, agree
from transports.websocket import WebSocketLink, WebSocketSettings, accept


@attrs.frozen(kw_only=True)
class EchoSettings:
    path: str = "/echo"
    deflate: str = "off"


class EchoTransport:
    name: ClassVar[str] = "echo"
    Settings: ClassVar[type] = EchoSettings

    def __init__(self, settings: EchoSettings) -> None:
        self._path = settings.path
        self._settings = WebSocketSettings(
            message_size=Size(16 * 1024 * 1024),
            ping_interval=Seconds(3600.0),
            deflate=settings.deflate,
            deflate_min_size=Size(1),
        )

    async def serve(
        self, broker: Broker, mounts: Mounts, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with trio.open_nursery() as nursery:

            async def handle(request: Request, stream: trio.abc.Stream) -> None:
                agreement = self._agree(request)
                link = await accept(nursery, stream, request, self._settings, agreement=agreement)
                if link is not None:
                    await echo(link, *make_framings(agreement, self._settings.deflate_level))

            mounts.mount_upgrade(self._path, handle)
            task_status.started()
            await trio.sleep_forever()

    def _agree(self, request: Request) -> Agreement | None:
        settings, header = self._settings, request.headers.get("sec-websocket-extensions", "")
        if settings.deflate == "off":
            return None
        return agree(header, window=settings.deflate_window, keeps_context=settings.deflate == "context")


@attrs.frozen
class DeflatedAlways:
    """Frames of the hub's, all deflated, each by itself. kosoku 0.1.0 fails at a message that came as it is, which
    is what the hub sends where deflating does not pay."""

    plain: WebSocketFrames
    deflater: Deflater

    def frame(self, message: bytes, cursor: str) -> bytes:
        return b"".join(deflate_frames(self.plain.frame(message, cursor), self.deflater, 1))


Frames = WebSocketFrames | DeflatedAlways


def make_framings(agreement: Agreement | None, level: int) -> tuple[Frames, Frames]:
    """For text and for bytes."""
    text, binary = WebSocketFrames(text=True), WebSocketFrames(text=False)
    if agreement is None or agreement.keeps_context:
        return text, binary
    deflater = Deflater(level=level, window=agreement.window, keeps_context=False)
    return DeflatedAlways(text, deflater), DeflatedAlways(binary, deflater)


async def echo(link: WebSocketLink, text: Frames, binary: Frames) -> None:
    try:
        while True:
            message = await link.receive()
            if isinstance(message, str):
                await link.send(text.frame(message.encode(), ""))
            else:
                await link.send(binary.frame(message, ""))
    except ProtocolViolated as violation:
        with trio.move_on_after(5.0):
            await link.aclose(violation.code, violation.msg)
    except trio.EndOfChannel:
        with trio.move_on_after(5.0), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await link.answer_close()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
