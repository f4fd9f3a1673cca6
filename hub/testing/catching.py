"""Gets hold of the links that a transport makes."""

from __future__ import annotations

from typing import Any

import trio

from hub.core.broker import Broker
from hub.core.contracts import Link
from hub.sansio.encodings import Encoding
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy


class LinkCatcher(Broker):
    """A broker whose sessions belong to the test: ``serve_session`` gives the link away, and returns when it is
    released (or cancelled), as if the client had left then. Channels of any name may be asked for."""

    def __init__(self) -> None:
        super().__init__(Namespaces([Policy(pattern="*")], {}))
        self._send_link, self._links = trio.open_memory_channel[Link](1)
        self._released = trio.Event()

    async def serve_session(self, link: Link, encoding: Encoding, **options: Any) -> None:
        await self._send_link.send(link)
        await self._released.wait()

    async def wait_link(self) -> Link:
        """The link of the next client that connects."""
        return await self._links.receive()

    def release(self) -> None:
        """All sessions end."""
        self._released.set()
