"""A ``publish`` that remembers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import attrs
import trio

from hub.sansio.errors import ErrorCode, PublishRefused
from hub.sansio.publication import Position


@attrs.define(eq=False)
class Recorder:
    """Publications by channel and owner, in order, as a broker would number them."""

    refuses: Callable[[str], bool] = lambda channel: False
    data: defaultdict[tuple[str, str | None], list[bytes]] = attrs.field(factory=lambda: defaultdict(list))
    details: list[dict[str, Any]] = attrs.field(factory=list)
    count: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def __call__(
        self,
        channel: str,
        data: bytes,
        *,
        ts: int | None = None,
        event: str | None = None,
        kind: str | None = None,
        user: str | None = None,
        last_update_id: int | None = None,
    ) -> Position:
        if self.refuses(channel):
            raise PublishRefused(ErrorCode.INVALID_CHANNEL, "no such channel")
        self.data[channel, user].append(data)
        self.details.append(
            {"channel": channel, "ts": ts, "event": event, "kind": kind, "id": last_update_id}
        )
        self.count += 1
        self._changed.set()
        return Position("e", len(self.data[channel, user]))

    def of(self, channel: str, user: str | None = None) -> list[bytes]:
        """The payloads of a channel so far."""
        return self.data[channel, user]

    async def wait_count(self, count: int) -> None:
        """Returns when at least so many were published, on all channels together."""
        while self.count < count:
            self._changed = trio.Event()
            await self._changed.wait()
