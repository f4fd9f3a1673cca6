"""Where a client is in its channels: what it asks for next, and what it has had already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.app.commands.envelopes import Envelope, Head, Lost, parse_data
from hub.sansio.publication import Position

#: What tells of a loss. It does not move the client on: only what comes after it does. So a connection that
#: breaks between a notice and the snapshot that heals it does not cost the snapshot.
NOTICES = ("gap", "backpressure_drop")


class Progress:
    """The newest cursor, and what was counted since, channel by channel.

    A client sends back both (``cursor`` and ``last_seq``); where both name a channel the count wins, because
    it is the newer. An event is known by its epoch and seq, so a repetition is told from news.
    """

    def __init__(self, cursor: str | None = None) -> None:
        self.cursor = cursor
        self._counted: dict[str, Position] = {}
        self._heads: dict[str, Position] = {}
        self._newest: dict[str, Position] = {}
        self._with_snapshots: set[str] = set()

    @property
    def last_seq(self) -> Mapping[str, Any]:
        """``lastSeq`` of stream-v2.md: what the cursor does not know yet."""
        return {
            channel: {"seq": position.seq, "epoch": position.epoch} if position.epoch else position.seq
            for channel, position in self._counted.items()
        }

    def begin(self, heads: Mapping[str, Head]) -> None:
        """A connection tells where its channels stand, and to which histories its numbers belong."""
        self._heads.update((channel, Position(head.epoch, head.seq)) for channel, head in heads.items())

    def settle(self, cursor: str | None) -> None:
        """All channels are subscribed. There is no cursor where they are too many for one: then what is new to
        us begins at its head, except where a snapshot is still to come."""
        self.reach(cursor)
        if self.cursor is None:
            for channel in self._heads.keys() - self._counted.keys() - self._with_snapshots:
                self._counted[channel] = self._heads[channel]

    def reach(self, cursor: str | None) -> None:
        """A cursor came that stands for all that came before it."""
        if cursor:
            self.cursor = cursor
            self._counted.clear()

    def take(self, envelope: Envelope) -> bool:
        """Counts an event of a channel; says whether it is news. Raises BadEnvelope."""
        channel = envelope.channel
        if envelope.event in NOTICES:
            epoch = parse_data(envelope, Lost).epoch
            if epoch is not None:  # a gap: the numbers may belong to another history, or begin again
                self._heads[channel] = Position(epoch, 0)
                self._newest.pop(channel, None)
            return True
        head, newest = self._heads.get(channel), self._newest.get(channel)
        # A long-poll tells no epoch before there is trouble; "" stands for whatever is current.
        position = Position("" if head is None else head.epoch, envelope.seq)
        if envelope.event == "snapshot":
            self._with_snapshots.add(channel)
        elif newest is not None and newest.epoch == position.epoch and newest.seq >= position.seq:
            return False
        self._newest[channel] = self._counted[channel] = position
        return True
