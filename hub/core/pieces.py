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

PieceKind = Literal["control", "gap", "drop", "snapshot", "event"]


@attrs.frozen
class Piece:
    """Bytes, and where they take the subscription: ``position`` is told once they are written."""

    data: bytes
    kind: PieceKind
    subscription: Subscription | None = None
    position: int = 0
    slice: Slice | None = None
    #: The state that is due after this notice.
    state: Publication | None = None

    def commit(self) -> None:
        """The bytes are on their way (all of them, or the rest is sure to follow)."""
        if self.subscription is None:
            return
        if self.kind == "gap":
            self.subscription.gap = None
        elif self.kind == "drop":
            self.subscription.skip = None
            self.subscription.snapshot = self.state
        elif self.kind == "snapshot":
            self.subscription.snapshot = None
        self.subscription.advance(self.position)


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
        if not encoding.carries_cursor:
            return channel.slice((encoding, subscription.position), encoding, subscription.position)
        positions, name, epoch = self._positions(ahead or {}), channel.name, channel.log.epoch

        def cursor_at(seq: int) -> str:
            return self._encode({**positions, name: Position(epoch, seq)}) or ""

        shape = (encoding, subscription.position, *positions.items())
        return channel.slice(shape, encoding, subscription.position, cursor_at)

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
        position, skip, state = subscription.position, subscription.skip, subscription.snapshot
        if (gap := subscription.gap) is not None:
            message = protocol.gap(channel.name, gap, channel.log.epoch, now_ms)
            yield self._notice("gap", message, subscription, position, ahead, is_state_due=state is not None)
        if state is not None:
            position = max(position, state.seq)
            yield self._notice(
                "snapshot", channel.snapshot(self._encoding, state), subscription, position, ahead
            )
        if skip is not None and position >= skip[0]:
            position, state = skip[1], subscription.healing_state
            message = protocol.dropped(channel.name, skip[0] + 1, skip[1], now_ms)
            yield self._notice("drop", message, subscription, position, ahead, state=state)
            if state is not None:
                yield self._notice(
                    "snapshot", channel.snapshot(self._encoding, state), subscription, position, ahead
                )
        elif position < channel.log.head_seq and position == subscription.position:
            slice_ = self.slice(subscription, ahead)
            if skip is not None and slice_.last > skip[0]:
                slice_ = Slice(channel, slice_.after, slice_.frames[: skip[0] - slice_.after])
            ahead[channel.name] = Position(channel.log.epoch, slice_.last)
            yield Piece(slice_.data, "event", subscription, slice_.last, slice_)

    def _notice(
        self,
        kind: PieceKind,
        message: bytes,
        subscription: Subscription,
        position: int,
        ahead: dict[str, Position | None],
        *,
        state: Publication | None = None,
        is_state_due: bool = False,
    ) -> Piece:
        channel = subscription.channel
        is_state_due = is_state_due or state is not None
        ahead[channel.name] = None if is_state_due else Position(channel.log.epoch, position)
        return Piece(self.frame(message, ahead), kind, subscription, position, state=state)
