"""A subscription is a cursor: where one session is in one channel's log.

Nothing is ever queued for a subscriber. What it has not been given yet is the log after ``position``; what
it must be told before that is derived from the few numbers here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.sansio.commands import ChannelState, SeenPosition
from hub.sansio.log import Gap
from hub.sansio.publication import Position, Publication

if TYPE_CHECKING:
    from hub.core.channel import Channel
    from hub.core.writer import Writer


class Subscription:
    """Session x channel; ``writer`` is the session's.

    ``position``  the last seq that the session was given, or told of.
    ``gap``       what a returning client must be told that it cannot have.
    ``needs_state``  the state is due before anything else; it is taken when it is written, as it is then.
    ``skip``      (from, to]: what a slow client loses; told when the position reaches ``from``.
    ``promised``  nothing up to here is dropped: it was published while the client kept up, or is its replay.
    """

    __slots__ = (
        "_round",
        "asked_at",
        "began",
        "channel",
        "gap",
        "is_active",
        "needs_state",
        "position",
        "promised",
        "seen",
        "skip",
        "writer",
    )

    def __init__(self, writer: Writer, channel: Channel, seen: SeenPosition | None, now: float) -> None:
        self.writer = writer
        self.asked_at = now
        self.channel = channel
        self.seen = seen
        self.is_active = True  # until it is unsubscribed
        self.gap: Gap | None = None
        self.needs_state = False
        self.skip: tuple[int, int] | None = None
        head = channel.log.head_seq
        self.position = head
        self.promised = head
        if seen is None:
            self.needs_state = channel.has_state
        else:
            self._resume(seen)
        self.began = self.position
        # A replay takes as long as the client needs; it counts as slow only when it stops catching up, that
        # is, when the events that came during one round of catching up are no fewer than that round's.
        self._round = head - self.position

    def _resume(self, seen: SeenPosition) -> None:
        log = self.channel.log
        resumption = log.resume(seen.seq, seen.epoch)
        self.position, self.gap = resumption.seq, resumption.gap
        if self.gap is not None and self.channel.has_state:
            self.needs_state = True
            self.position = log.head_seq

    @property
    def gap_now(self) -> Gap | None:
        """The gap as it is to be told at this moment: a state stands for all up to the head, so where one
        follows that is how far the gap goes."""
        gap = self.gap
        if gap is not None and self.needs_state and gap.reason == "evicted":
            return Gap("evicted", gap.from_seq, self.channel.log.head_seq)
        return gap

    @property
    def advanced(self) -> int:
        """How many events it was given, or told that it lost."""
        return self.position - self.began

    @property
    def is_plain(self) -> bool:
        """Whether the log is all there is to tell, nothing of it is lost, and it is not a replay."""
        return (
            self.gap is None
            and not self.needs_state
            and self.skip is None
            and not self.channel.is_related
            and not self._round
            and self.position + 1 >= self.channel.log.first_seq
        )

    @property
    def is_intact(self) -> bool:
        """Whether nothing is lost so far: all that follows the position is still buffered."""
        return self.needs_state or (self.skip is None and self.position + 1 >= self.channel.log.first_seq)

    @property
    def is_due(self) -> bool:
        """Whether there is anything to tell."""
        return (
            self.position < self.channel.log.head_seq
            or self.gap is not None
            or self.needs_state
            or self.skip is not None
        )

    @property
    def told(self) -> Position | None:
        """What a cursor may claim for this channel: nothing that the client has not been told yet."""
        if self.gap is not None and self.seen is not None:
            return Position(self.seen.epoch or self.channel.log.epoch, self.seen.seq)
        if self.needs_state:
            return None  # unknown to the cursor, so that its bearer gets the state first
        return Position(self.channel.log.epoch, self.position)

    @property
    def state(self) -> ChannelState:
        log = self.channel.log
        return ChannelState(log.position, log.first_seq, self.gap_now)

    def advance(self, position: int) -> None:
        """The session was given, or told of, all up to ``position``."""
        self.position = position
        if self._round and position >= self.promised:
            rest = self.channel.log.head_seq - position
            self._round = rest if rest < self._round else 0
            self.promised = position + self._round

    def keeps_up(self) -> None:
        """The client takes what it is given, so what is published by now will not be dropped."""
        if not self._round:
            self.promised = self.channel.log.head_seq

    def drop_excess(self, *, is_slow: bool) -> int:
        """Applies the buffer's end and, for a client that is slow, the lag limit, in O(1); returns how many more
        events it loses."""
        if self.needs_state:  # which stands for all that came before it
            return 0
        log, policy = self.channel.log, self.channel.policy
        floor = max(self.position, self.promised)
        start, end = self.skip or (floor, floor)
        known = end - start
        if self.position + 1 < log.first_seq:  # the buffer itself has moved on; what it still has is not lost
            start, end = self.position, max(self.skip[1] if self.skip else 0, log.first_seq - 1)
        excess = log.head_seq - max(end, floor) - policy.lag_limit
        if is_slow and policy.lag_limit and not self._round and excess > 0:
            end = log.head_seq - policy.lag_limit
        if end > start:
            end = max(end, self._rejoins_at)
            self.skip = (start, end)
        return end - start - known

    @property
    def _rejoins_at(self) -> int:
        """The last seq that a laggard loses beside the excess: none, or all but the newest, or all."""
        match self.channel.policy.on_lag:
            case "snapshot" if self.channel.has_state:
                return self.channel.log.head_seq
            case "snapshot" | "latest":
                return self.channel.log.head_seq - 1
        return 0

    @property
    def healing_state(self) -> Publication | None:
        """The state that makes up for what was skipped, where skipping goes up to it."""
        channel = self.channel
        if self.skip is None or channel.policy.on_lag != "snapshot" or self.skip[1] != channel.log.head_seq:
            return None
        return channel.state

    def take_state(self) -> Publication | None:
        """The state that is due, as it is now."""
        if not self.needs_state:
            return None
        state = self.channel.state
        if state is None:  # it was there, and is unknown by now
            self.needs_state = False
            if self.gap is not None and self.gap.to_seq is not None:
                self.position = self.gap.to_seq
        return state

    @property
    def must_close(self) -> bool:
        """Whether the namespace closes a client that would lose something, so that it resumes: always, or, of a
        private channel, where there is no state to make up for it."""
        policy = self.channel.policy
        return self.skip is not None and (
            policy.on_lag == "close"
            or (policy.private and policy.on_lag == "snapshot" and not self.channel.has_state)
        )


#: A subscription that another one's frame takes along, and the seq that it is taken to.
Passenger = tuple[Subscription, int]
