"""What a client is to be told next: the pieces of a write, and what becomes true once they are on their way.

A piece is taken from the log and a few numbers at the moment of writing and is forgotten right after; there
is no queue anywhere. Several sessions at the same place share the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import attrs

from hub.core.channel import Slice
from hub.core.subscription import Subscription
from hub.sansio.cursor import encode_cursor
from hub.sansio.encodings import Encoding
from hub.sansio.publication import Position, Publication

#: How many bytes of data a session is given in one round, before others have their turn.
ROUND_BYTES = 128 * 1024
#: Events of a channel with parts in one piece; such channels are private, so their frames are seldom shared.
WHOLE_SLICE_COUNT = 64

PieceKind = Literal["control", "gap", "drop", "snapshot", "event"]


@attrs.frozen
class Piece:
    """Bytes, and where they take the subscription: ``position`` is told once they are written."""

    data: bytes
    kind: PieceKind
    subscription: Subscription | None = None
    position: int = 0
    slice: Slice | None = None
    #: Whether it gives the state (a notice may have it with it, so that nothing comes between the two).
    has_state: bool = False

    def commit(self) -> None:
        """The bytes are on their way (all of them, or the rest is sure to follow)."""
        if self.subscription is None:
            return
        subscription = self.subscription
        if self.kind == "gap":
            subscription.gap = None
        elif self.kind == "drop":
            subscription.skip = None
        if self.has_state:
            subscription.needs_state = False
        subscription.advance(self.position)


class Gatherer:
    """Collects the next pieces for one session, whose channels are ``subscriptions``."""

    __slots__ = ("_encoding", "_max_cursor", "_subscriptions", "_turn")

    def __init__(
        self, encoding: Encoding, subscriptions: dict[str, Subscription], *, max_cursor: int
    ) -> None:
        self._encoding = encoding
        self._subscriptions = subscriptions
        self._max_cursor = max_cursor
        self._turn = 0

    def gather(self, candidates: Iterable[Subscription], now_ms: int) -> list[Piece]:
        """About ROUND_BYTES of what ``candidates`` are to be told, each in its order."""
        pieces: list[Piece] = []
        size = 0
        ahead: dict[str, Position | None] = {}
        order = list(candidates)
        # Whoever was not served because the round was full comes first in the next.
        turn = self._turn % len(order) if order else 0
        for index, subscription in enumerate(order[turn:] + order[:turn]):
            for piece in self._due(subscription, ahead, now_ms):
                pieces.append(piece)
                size += len(piece.data)
            if size >= ROUND_BYTES:
                self._turn = turn + index + 1
                break
        return pieces

    def cursor(self, ahead: dict[str, Position | None] | None = None) -> str | None:
        """Where the client will be in all its channels when the positions ``ahead`` have been told; None where
        that does not fit in a cursor."""
        return self._encode(self._positions(ahead or {}))

    def frame(
        self, message: bytes, ahead: dict[str, Position | None] | None = None, *, is_first: bool = False
    ) -> bytes:
        """A control message or notice, framed."""
        cursor = self.cursor(ahead) if self._encoding.carries_cursor else ""
        return self._encoding.framing.frame(message, cursor or "", is_first=is_first)

    @property
    def is_alone(self) -> bool:
        """Whether the session has one channel: then its cursor is that channel's position."""
        return len(self._subscriptions) == 1

    def shape(self) -> object:
        """What decides the bytes of the next slice, with a cursor over all channels of the session: sessions of
        the same shape share it."""
        return tuple(self._positions({}).items())

    def slice(self, subscription: Subscription, ahead: dict[str, Position | None] | None = None) -> Slice:
        """What follows the subscription's position, which must be buffered."""
        channel, encoding = subscription.channel, self._encoding
        if channel.is_whole:
            return self._slice_of_whole(subscription, ahead)
        if not encoding.carries_cursor:
            return channel.slice((encoding, subscription.position), encoding, subscription.position)
        positions, name, epoch = self._positions(ahead or {}), channel.name, channel.log.epoch

        def cursor_at(seq: int) -> str:
            return self._encode({**positions, name: Position(epoch, seq)}) or ""

        shape = (encoding, subscription.position, *positions.items())
        return channel.slice(shape, encoding, subscription.position, cursor_at)

    def _slice_of_whole(self, subscription: Subscription, ahead: dict[str, Position | None] | None) -> Slice:
        """The same for a channel with parts: of an event that the client has on its part it gets the number only."""
        channel, framing = subscription.channel, self._encoding.framing
        positions, epoch = self._positions(ahead or {}), channel.log.epoch
        frames: list[bytes] = []
        for publication in channel.log.read(subscription.position, WHOLE_SLICE_COUNT):
            cursor = ""
            if self._encoding.carries_cursor:
                cursor = self._encode({**positions, channel.name: Position(epoch, publication.seq)}) or ""
            if (part := self._covering_part(publication)) is not None:
                message = self._encoding.protocol.covered(channel.name, publication, part)
                frames.append(framing.frame(message, cursor))
            else:
                frames.append(channel.frame(self._encoding, publication, cursor))
        return Slice(channel, subscription.position, frames)

    def _covering_part(self, publication: Publication) -> str | None:
        if publication.part is None:
            return None
        name, seq = publication.part
        subscription = self._subscriptions.get(name)
        return name if subscription is not None and subscription.covers(seq) else None

    def _positions(self, ahead: dict[str, Position | None]) -> dict[str, Position | None]:
        positions = {name: subscription.told for name, subscription in self._subscriptions.items()}
        positions.update(ahead)
        return positions

    def _encode(self, positions: dict[str, Position | None]) -> str | None:
        cursor = encode_cursor(
            (name, position) for name, position in positions.items() if position is not None
        )
        return cursor if len(cursor) <= self._max_cursor else None

    def _due(
        self, subscription: Subscription, ahead: dict[str, Position | None], now_ms: int
    ) -> Iterator[Piece]:
        channel, protocol = subscription.channel, self._encoding.protocol
        state = subscription.take_state()
        position = subscription.position if state is None else state.seq
        skip, gap = subscription.skip, subscription.gap_now
        if gap is not None:
            message = protocol.gap(channel.name, gap, channel.log.epoch, now_ms)
            yield self._notice("gap", message, subscription, position, ahead, state)
        elif state is not None:
            yield self._snapshot(subscription, position, ahead, state)
        if skip is not None and position >= skip[0]:
            message = protocol.dropped(channel.name, skip[0] + 1, skip[1], now_ms)
            yield self._notice("drop", message, subscription, skip[1], ahead, subscription.healing_state)
        elif position < channel.log.head_seq and position == subscription.position:
            slice_ = self.slice(subscription, ahead)
            if skip is not None and slice_.last > skip[0]:
                slice_ = Slice(channel, slice_.after, slice_.frames[: skip[0] - slice_.after])
            ahead[channel.name] = Position(channel.log.epoch, slice_.last)
            yield Piece(slice_.data, "event", subscription, slice_.last, slice=slice_)

    def _notice(
        self,
        kind: PieceKind,
        message: bytes,
        subscription: Subscription,
        position: int,
        ahead: dict[str, Position | None],
        state: Publication | None,
    ) -> Piece:
        """A notice, with the state that makes up for what it tells of: who has the one gets the other too."""
        channel = subscription.channel
        ahead[channel.name] = None if state is not None else Position(channel.log.epoch, position)
        data = self.frame(message, ahead)
        if state is not None:
            data += self._snapshot(subscription, position, ahead, state).data
        return Piece(data, kind, subscription, position, has_state=state is not None)

    def _snapshot(
        self,
        subscription: Subscription,
        position: int,
        ahead: dict[str, Position | None],
        state: Publication,
    ) -> Piece:
        channel = subscription.channel
        ahead[channel.name] = Position(channel.log.epoch, position)
        message = channel.snapshot(self._encoding, state)
        return Piece(self.frame(message, ahead), "snapshot", subscription, position, has_state=True)
