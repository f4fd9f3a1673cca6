"""The channels that exist, and how long they do."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from typing import NoReturn

import attrs
import trio

from hub.core.channel import Channel
from hub.core.derivation import Derivation
from hub.core.numbering import Numbering
from hub.core.subscription import Subscription
from hub.sansio.access import check_access
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import Identity
from hub.sansio.names import Match, Namespaces

#: Channels that are looked at in one go: about a millisecond.
SWEEP_STRIDE = 512


#: Seconds between two searches for an unused channel where there was none: each looks at all.
FULL_SECONDS = 1.0


@attrs.frozen(kw_only=True)
class RegistryLimits:
    """``idle`` is how long a channel without subscribers and news is remembered, in seconds."""

    channels: int = 100_000
    buffered_bytes: int = 1024**3
    book_bytes: int = 1536 * 1024**2
    idle: float = 600.0


class Registry:
    """Finds channels by name and owner, makes them when they are first asked for, forgets the idle ones."""

    def __init__(
        self,
        namespaces: Namespaces,
        numbering: Numbering,
        limits: RegistryLimits,
        now_ms: Callable[[], int],
    ) -> None:
        self.namespaces = namespaces
        self.numbering = numbering
        self.limits = limits
        self.buffered_bytes = 0
        #: Bytes of memory that the order books take, and how many were let go of to save some.
        self.book_bytes = 0
        self.books_evicted = 0
        self._levels_cut = 0  # of books that are forgotten
        #: Until when nobody looks for an unused channel again, since there was none.
        self._is_full_until = -math.inf
        self._now_ms = now_ms
        self._channels: dict[tuple[str, str | None], Channel] = {}
        self._of_user: dict[str, dict[Channel, None]] = {}
        #: Patterns of namespaces of which a state was let go of: a new channel there may have had one once.
        self._forgetful: set[str] = set()

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels.values())

    @property
    def book_levels_cut(self) -> int:
        """Levels that were too far from the best to be kept."""
        return self._levels_cut + sum(channel.levels_cut for channel in self)

    def find(self, name: str, user: str | None) -> Channel | None:
        return self._channels.get((name, user))

    def parts_of(self, whole: Channel) -> list[Channel]:
        """Those of the same owner's channels that are parts of ``whole``."""
        return [part for part in self.channels_of(whole.user) if part.whole == whole.name]

    def channels_of(self, user: str | None) -> list[Channel]:
        """The channels that ``user`` owns."""
        return list(self._of_user.get(user or "", ()))

    def check(self, name: str, identity: Identity) -> Match:
        """Raises RequestRefused where ``identity`` may not have the channel, or there is none."""
        match = self.namespaces.match(name)
        check_access(name, match, identity)
        return match

    def open(self, name: str, identity: Identity) -> Channel:
        """The channel as ``identity`` sees it. Raises RequestRefused like ``check``."""
        match = self.check(name, identity)
        return self._find_or_make(name, identity.user if match.policy.private else None, match)

    def open_to_publish(self, name: str, user: str | None) -> Channel:
        """The channel that a publisher means. Raises RequestRefused."""
        match = self.namespaces.match(name)
        if match.policy.private and not user:
            raise RequestRefused(ErrorCode.INVALID_REQUEST, "a private channel needs its user", channel=name)
        return self._find_or_make(name, user if match.policy.private else None, match)

    def leave(self, subscription: Subscription) -> None:
        """A subscription ends. A channel that never had any publication is forgotten with its last one."""
        channel = subscription.channel
        subscription.is_active = False
        channel.subscriptions.pop(subscription, None)
        self.leave_unused(channel)

    def leave_unused(self, channel: Channel) -> None:
        channel.used_at = trio.current_time()
        if channel.is_wanted:
            return
        self._is_full_until = -math.inf
        is_known = self.find(channel.name, channel.user) is channel
        if is_known and channel.log.head_seq == 0:
            self._forget(channel)

    def sweep(self, now: float) -> Iterator[None]:
        """Lets go of what is too old, too much, or not used any more. Begun about once a second; yields now and
        then, so that others have their turn."""
        total = books = 0
        for index, channel in enumerate(list(self._channels.values())):
            if index % SWEEP_STRIDE == SWEEP_STRIDE - 1:
                yield
            if channel.is_forgotten:
                continue
            channel.log.trim(now)
            if channel.is_idle_since(now - self.limits.idle):
                self._forget(channel)
            else:
                total += channel.log.size
                books += channel.book_size
        self.buffered_bytes, self.book_bytes = total, books
        self.relieve()
        self._relieve_books()

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

    def _relieve_books(self) -> None:
        """Where the order books together take too much memory, those go that nobody wants, the longest unused
        first. They come back with the next snapshot."""
        if self.book_bytes <= self.limits.book_bytes:
            return
        unused = [
            channel for channel in self._channels.values() if channel.book_size and not channel.is_wanted
        ]
        for channel in sorted(unused, key=lambda channel: channel.used_at):
            if self.book_bytes <= self.limits.book_bytes:
                return
            self.book_bytes -= channel.book_size
            self.books_evicted += 1
            # Its channel may be forgotten before the next snapshot; the one after it must not begin empty either.
            self._forgetful.add(channel.policy.pattern)
            channel.forget_state()

    def _find_or_make(self, name: str, user: str | None, match: Match) -> Channel:
        return self._channels.get((name, user)) or self._make(name, user, match)

    def _make(self, name: str, user: str | None, match: Match) -> Channel:
        self._make_room(2 if match.policy.derived_from else 1, name)
        source = self._open_source(match)
        start = self.numbering.start(name, user)
        channel = Channel(name, user, match, start, trio.current_time(), self._now_ms())
        channel.be_part_of(self.namespaces.whole_of(match.policy))
        if match.policy.pattern in self._forgetful:
            channel.forget_state()
        if source is not None:
            channel.derivation = Derivation(source, int(match.holes["depth"]))
            source.derived.append(channel)
        self._channels[name, user] = channel
        if user is not None:
            self._of_user.setdefault(user, {})[channel] = None
        return channel

    def _open_source(self, match: Match) -> Channel | None:
        """The channel that those of a namespace are derived from."""
        if not match.policy.derived_from:
            return None
        name = match.policy.derived_from.format(**match.holes)
        return self._find_or_make(name, None, self.namespaces.match(name))

    def _make_room(self, count: int, name: str) -> None:
        if len(self._channels) + count <= self.limits.channels:
            return
        now = trio.current_time()
        if now < self._is_full_until:
            self._refuse_one_more(name)
        unused = [channel for channel in self._channels.values() if not channel.is_wanted]
        if not unused:
            self._is_full_until = now + FULL_SECONDS
            self._refuse_one_more(name)
        # Some at once, so that the search is not repeated for each new channel.
        some = max(count, self.limits.channels // 100)
        for channel in heapq.nsmallest(some, unused, key=lambda channel: channel.used_at):
            if not channel.is_forgotten:  # with what it was derived from
                self._forget(channel)

    def _refuse_one_more(self, name: str) -> NoReturn:
        raise RequestRefused(ErrorCode.UNAVAILABLE, "too many channels on this node", channel=name)

    def _forget(self, channel: Channel) -> None:
        del self._channels[channel.name, channel.user]
        channel.is_forgotten = True
        self.numbering.forget(channel.log.position)
        self.buffered_bytes -= channel.log.size
        if channel.user is not None:
            self._forget_of_user(channel.user, channel)
        self._levels_cut += channel.levels_cut
        if channel.is_keeping_state:
            self._forgetful.add(channel.policy.pattern)
        for derived in list(channel.derived):  # nobody wants them either
            self._forget(derived)
        if channel.derivation is not None:
            source = channel.derivation.source
            source.derived.remove(channel)
            if not source.is_forgotten:
                self.leave_unused(source)

    def _forget_of_user(self, user: str, channel: Channel) -> None:
        channels = self._of_user[user]
        del channels[channel]
        if not channels:
            del self._of_user[user]
