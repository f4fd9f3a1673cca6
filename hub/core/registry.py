"""The channels that exist, and how long they do."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import trio

from hub.core.channel import Channel
from hub.sansio.identity import Identity
from hub.core.numbering import Numbering
from hub.core.subscription import Subscription
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy


@attrs.frozen(kw_only=True)
class RegistryLimits:
    """``idle`` is how long a channel without subscribers and news is remembered, in seconds."""

    channels: int = 100_000
    buffered_bytes: int = 1024**3
    idle: float = 600.0


class Registry:
    """Finds channels by name and owner, makes them when they are first asked for, forgets the idle ones."""

    def __init__(self, namespaces: Namespaces, numbering: Numbering, limits: RegistryLimits) -> None:
        self.namespaces = namespaces
        self.numbering = numbering
        self.limits = limits
        self.buffered_bytes = 0
        self._channels: dict[tuple[str, str | None], Channel] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels.values())

    def find(self, name: str, user: str | None) -> Channel | None:
        return self._channels.get((name, user))

    def check(self, name: str, identity: Identity) -> Policy:
        """Raises RequestRefused where the channel does not exist for ``identity``."""
        policy = self.namespaces.resolve(name)
        if policy.private and identity.user is None:
            raise RequestRefused(ErrorCode.UNAUTHENTICATED, "auth required", channel=name)
        return policy

    def open(self, name: str, identity: Identity) -> Channel:
        """The channel as ``identity`` sees it. Raises RequestRefused where it does not exist for it."""
        policy = self.check(name, identity)
        return self._find_or_make(name, identity.user if policy.private else None, policy)

    def open_to_publish(self, name: str, user: str | None) -> Channel:
        """The channel that a publisher means. Raises RequestRefused."""
        policy = self.namespaces.resolve(name)
        if policy.private and user is None:
            raise RequestRefused(ErrorCode.INVALID_REQUEST, "a private channel needs its user", channel=name)
        return self._find_or_make(name, user if policy.private else None, policy)

    def leave(self, subscription: Subscription) -> None:
        """A subscription ends. A channel that never had any publication is forgotten with its last one."""
        channel = subscription.channel
        subscription.is_active = False
        channel.subscriptions.pop(subscription, None)
        self.leave_unused(channel)

    def leave_unused(self, channel: Channel) -> None:
        channel.used_at = trio.current_time()
        is_known = self.find(channel.name, channel.user) is channel
        if is_known and not channel.is_wanted and channel.log.head_seq == 0:
            self._forget(channel)

    def sweep(self, now: float) -> None:
        """Lets go of what is too old, too much, or not used any more. Called about once a second."""
        total = 0
        for channel in list(self._channels.values()):
            channel.log.trim(now)
            if not channel.is_wanted and now - channel.used_at > self.limits.idle:
                self._forget(channel)
            else:
                total += channel.log.size
        self.buffered_bytes = total
        self.relieve()

    def grew(self, size: int) -> None:
        """A log grew by ``size`` bytes (what encodings add is counted by the next sweep)."""
        self.buffered_bytes += size
        if self.buffered_bytes > self.limits.buffered_bytes:
            self.relieve()

    def relieve(self) -> None:
        """Where all buffers together are too large, each gives up its oldest share."""
        excess = self.buffered_bytes - self.limits.buffered_bytes
        if excess <= 0:
            return
        # A tenth more than needed, so that this is not done again for each publication.
        share = min(1.0, (excess + self.limits.buffered_bytes / 10) / self.buffered_bytes)
        for channel in self._channels.values():
            channel.log.evict_oldest(-int(-len(channel.log) * share // 1))
        self.buffered_bytes = sum(channel.log.size for channel in self._channels.values())

    def _find_or_make(self, name: str, user: str | None, policy: Policy) -> Channel:
        channel = self._channels.get((name, user))
        if channel is None:
            self._make_room()
            channel = Channel(name, user, policy, self.numbering.start(name, user), trio.current_time())
            self._channels[name, user] = channel
        return channel

    def _make_room(self) -> None:
        if len(self._channels) < self.limits.channels:
            return
        unused = [channel for channel in self._channels.values() if not channel.is_wanted]
        if not unused:
            raise RequestRefused(ErrorCode.UNAVAILABLE, "too many channels on this node")
        # A tenth at once, so that the search is not repeated for each new channel.
        unused.sort(key=lambda channel: channel.used_at)
        for channel in unused[: max(1, self.limits.channels // 10)]:
            self._forget(channel)

    def _forget(self, channel: Channel) -> None:
        del self._channels[channel.name, channel.user]
        self.numbering.forget(channel.log.position)
        self.buffered_bytes -= channel.log.size
