"""What ``/channels`` lists."""

from __future__ import annotations

import math
from collections.abc import Iterator

import trio

from hub.core.broker import Broker
from hub.core.channel import Channel
from hub.sansio.errors import RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity

#: Seconds for which a list of public channels is good, and how many channels are looked at in one go.
LISTING_AGE, STRIDE = 1.0, 256
#: The best levels of a book that are offered beside it (channels.md); others are listed once somebody has them.
_DEPTHS = (5, 10, 20)

Row = dict[str, object]


class Listing:
    """The channels that exist, by name, for each who asks. What anyone may have is looked up once a second."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._making = trio.Lock()
        self._made_at = -math.inf
        self._public: list[Row] = []
        #: What is not for anyone, by the user whose name it has in it; None: by none.
        self._restricted: dict[str | None, list[Channel]] = {}

    async def rows(self, identity: Identity) -> list[Row]:
        """The channels that ``identity`` may have, their own first, without the parts of those that hold the same
        events; and those that the hub would derive from them, which exist once somebody asks for them."""
        async with self._making:  # whoever comes meanwhile gets the new list too
            if trio.current_time() >= self._made_at + LISTING_AGE:
                await self._make()
                self._made_at = trio.current_time()
        if identity.user is None:
            return self._public
        own = [channel for channel in self._own(identity) if self._may_have(channel, identity)]
        names = {channel.name for channel in own}
        rows = [_describe(channel) for channel in own if channel.whole not in names]
        return [*sorted(rows, key=_name), *self._public]

    def _own(self, identity: Identity) -> Iterator[Channel]:
        yield from self._broker.registry.channels_of(identity.user)
        yield from self._restricted.get(identity.user, ())
        yield from self._restricted.get(None, ())

    def _may_have(self, channel: Channel, identity: Identity) -> bool:
        try:
            self._broker.registry.check(channel.name, identity)
        except RequestRefused:
            return False
        return True

    async def _make(self) -> None:
        rows: dict[str, Row] = {}
        restricted: dict[str | None, list[Channel]] = {}
        for index, channel in enumerate(list(self._broker.registry)):
            if index % STRIDE == STRIDE - 1:
                await trio.lowlevel.checkpoint()
            if channel.is_open_to_anyone:
                rows[channel.name] = _describe(channel)
                for name in _variants(channel):
                    if name not in rows and self._is_derived(name):
                        rows[name] = _row(name, 0, channel.log.epoch, "top", is_private=False)
            elif channel.user is None:
                restricted.setdefault(channel.holes.get("user"), []).append(channel)
        self._public = sorted(rows.values(), key=_name)
        self._restricted = restricted

    def _is_derived(self, name: str) -> bool:
        try:
            return bool(self._broker.registry.check(name, ANONYMOUS).policy.derived_from)
        except RequestRefused:  # no namespace has it, or it is not for everyone who may have the book
            return False


def _name(row: Row) -> str:
    return str(row["channel"])


def _variants(channel: Channel) -> list[str]:
    """The names that channels derived from a book have (stream-v2.md, "Channel names")."""
    if channel.policy.snapshot != "book" or "@" not in channel.name:
        return []
    kind, _, market = channel.name.partition("@")
    return [f"{kind}.{depth}@{market}" for depth in _DEPTHS]


def _describe(channel: Channel) -> Row:
    log = channel.log
    return _row(
        channel.name, log.head_seq, log.epoch, channel.policy.snapshot, is_private=channel.user is not None
    )


def _row(name: str, seq: int, epoch: str, snapshot: str, *, is_private: bool) -> Row:
    """``snapshot`` says what the channel's state is, and with that how its events are to be read."""
    return {"channel": name, "seq": seq, "epoch": epoch, "snapshot": snapshot, "private": is_private}
