"""What a client is to be told next: the pieces of a write, and what becomes true once they are on their way.

A piece is taken from the log and a few numbers at the moment of writing and is forgotten right after; there
is no queue anywhere. Several sessions at the same place share the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import attrs

from hub.core.channel import Channel, Slice
from hub.core.relations import SLICE_COUNT, Relations, Waits
from hub.core.subscription import Passenger, Subscription
from hub.sansio.cursor import encode_cursor
from hub.sansio.encodings import Encoding
from hub.sansio.publication import Position, Publication

#: How many bytes of data a session is given in one round, before others have their turn.
ROUND_BYTES = 128 * 1024

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
        if self.slice is not None:
            advance_passengers(self.slice.passengers)


def advance_passengers(passengers: Iterable[Passenger | None]) -> None:
    """Those that were taken along by frames that are on their way."""
    for passenger in passengers:
        if passenger is not None:
            passenger[0].advance(passenger[1])


@attrs.frozen
class _Round:
    """One write: where its pieces take channels (None: to a state that is still due), and who has one of his own."""

    now_ms: int
    ahead: dict[str, Position | None] = attrs.field(factory=dict)
    moved: set[Subscription] = attrs.field(factory=set)


class Gatherer:
    """Collects the next pieces for one session, whose channels are ``subscriptions``."""

    __slots__ = ("_encoding", "_max_cursor", "_relations", "_subscriptions", "_turn")

    def __init__(
        self, encoding: Encoding, subscriptions: dict[str, Subscription], *, max_cursor: int
    ) -> None:
        self._encoding = encoding
        self._subscriptions = subscriptions
        self._relations = Relations(subscriptions)
        self._max_cursor = max_cursor
        self._turn = 0

    def gather(self, candidates: Iterable[Subscription], now_ms: int) -> list[Piece]:
        """About ROUND_BYTES of what ``candidates`` are to be told, each in its order."""
        pieces: list[Piece] = []
        size = 0
        round_ = _Round(now_ms)
        order = list(candidates)
        # Whoever was not served because the round was full comes first in the next.
        turn = self._turn % len(order) if order else 0
        for index, subscription in enumerate(order[turn:] + order[:turn]):
            for piece in self._due(subscription, round_):
                pieces.append(piece)
                size += len(piece.data)
                round_.moved.add(subscription)
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
        if not encoding.carries_cursor:
            return channel.slice((encoding, subscription.position), encoding, subscription.position)
        positions, name, epoch = self._positions(ahead or {}), channel.name, channel.log.epoch

        def cursor_at(seq: int) -> str:
            return self._encode({**positions, name: Position(epoch, seq)}) or ""

        shape = (encoding, subscription.position, *positions.items())
        return channel.slice(shape, encoding, subscription.position, cursor_at)

    def _slice_of_related(self, subscription: Subscription, round_: _Round) -> Slice:
        """The same for a channel that is a whole or a part; see ``hub.core.relations``. It may be empty."""
        channel, epoch = subscription.channel, subscription.channel.log.epoch
        positions = self._positions(round_.ahead)
        frames: list[bytes] = []
        passengers: list[Passenger | None] = []
        if not channel.is_whole:
            for publication in self._relations.own(subscription):
                positions[channel.name] = Position(epoch, publication.seq)
                frames.append(channel.frame(self._encoding, publication, self._cursor_of(positions)))
            return Slice(channel, subscription.position, frames)
        for publication in channel.log.read(subscription.position, SLICE_COUNT):
            try:
                passenger = self._relations.passenger(publication, positions, round_.moved)
            except Waits:
                break
            positions[channel.name] = Position(epoch, publication.seq)
            frames.append(self._frame_of_whole(channel, publication, passenger, positions))
            passengers.append(passenger)
        return Slice(channel, subscription.position, frames, passengers)

    def _frame_of_whole(
        self,
        channel: Channel,
        publication: Publication,
        passenger: Passenger | None,
        positions: dict[str, Position | None],
    ) -> bytes:
        encoding = self._encoding
        if passenger is None:
            return channel.frame(encoding, publication, self._cursor_of(positions))
        part, seq = passenger[0].channel, passenger[1]
        message = encoding.protocol.covered(channel.name, publication, part.name)
        number = encoding.framing.frame(message, self._cursor_of(positions))
        positions[part.name] = Position(part.log.epoch, seq)
        (event,) = part.log.read(seq - 1, 1)
        return number + part.frame(encoding, event, self._cursor_of(positions))

    def _cursor_of(self, positions: dict[str, Position | None]) -> str:
        return (self._encode(positions) or "") if self._encoding.carries_cursor else ""

    def _positions(self, ahead: dict[str, Position | None]) -> dict[str, Position | None]:
        positions = {name: subscription.told for name, subscription in self._subscriptions.items()}
        positions.update(ahead)
        return positions

    def _encode(self, positions: dict[str, Position | None]) -> str | None:
        cursor = encode_cursor(
            (name, position) for name, position in positions.items() if position is not None
        )
        return cursor if len(cursor) <= self._max_cursor else None

    def _due(self, subscription: Subscription, round_: _Round) -> Iterator[Piece]:
        if subscription in round_.moved:  # taken along by another
            return
        channel, protocol, ahead = subscription.channel, self._encoding.protocol, round_.ahead
        state = subscription.take_state()
        position = subscription.position if state is None else state.seq
        skip, gap = subscription.skip, subscription.gap_now
        if gap is not None:
            message = protocol.gap(channel.name, gap, channel.log.epoch, round_.now_ms)
            yield self._notice("gap", message, subscription, position, ahead, state)
        elif state is not None:
            yield self._snapshot(subscription, position, ahead, state)
        if skip is not None and position >= skip[0]:
            message = protocol.dropped(channel.name, skip[0] + 1, skip[1], round_.now_ms)
            yield self._notice("drop", message, subscription, skip[1], ahead, subscription.healing_state)
        elif position < channel.log.head_seq and position == subscription.position:
            yield from self._events(subscription, round_)

    def _events(self, subscription: Subscription, round_: _Round) -> Iterator[Piece]:
        channel, skip = subscription.channel, subscription.skip
        if channel.is_related:
            slice_ = self._slice_of_related(subscription, round_)
        else:
            slice_ = self.slice(subscription, round_.ahead)
        if skip is not None and slice_.last > skip[0]:
            slice_ = slice_.before(skip[0])
        if not slice_.frames:
            return
        round_.ahead[channel.name] = Position(channel.log.epoch, slice_.last)
        for passenger in filter(None, slice_.passengers):
            part, seq = passenger
            round_.moved.add(part)
            round_.ahead[part.channel.name] = Position(part.channel.log.epoch, seq)
        yield Piece(slice_.data, "event", subscription, slice_.last, slice_)

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
