"""Reading from a cursor without staying: what a long-poll answers."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from hub.core.broker import Broker
from hub.core.channel import Channel
from hub.sansio.commands import SeenPosition
from hub.sansio.encodings import Encoding
from hub.sansio.identity import Identity
from hub.sansio.log import Gap
from hub.sansio.publication import Position, Publication


@attrs.define
class Reading:
    """Messages (unframed, in each channel's order), and where the reader stands after them."""

    messages: list[bytes] = attrs.field(factory=list)
    positions: dict[str, Position] = attrs.field(factory=dict)
    size: int = 0

    @property
    def is_empty(self) -> bool:
        return not self.messages

    def add(self, messages: list[bytes]) -> None:
        self.messages += messages
        self.size += sum(map(len, messages))


def read_channels(
    broker: Broker,
    identity: Identity,
    channels: tuple[str, ...],
    seen: Mapping[str, SeenPosition],
    encoding: Encoding,
    *,
    max_events: int,
    max_bytes: int,
) -> Reading:
    """What follows ``seen`` in each channel; for a channel that was not seen, its state. Raises RequestRefused.

    A part of what there is when that is much: the positions say how far it went.
    """
    reader = _Reader(broker, identity, channels, seen, encoding)
    # Each channel has its share, so that a busy one does not keep the others from being read; what the quiet
    # ones leave of theirs goes to those that have more.
    share = max(1, max_events // len(channels))
    # Wholes after their parts, whose events they take along.
    order = sorted(channels, key=lambda name: broker.registry.check(name, identity).policy.parts != "")
    unfinished = [name for name in order if reader.read(name, seen.get(name), share, max_bytes)]
    reading = reader.reading
    for name in unfinished:
        rest = max_events - len(reading.messages)
        if rest > 0 and reading.size < max_bytes:
            position = reading.positions[name]
            more = SeenPosition(position.seq, position.epoch)
            reader.read(name, more, rest, max_bytes - reading.size)
    return reading


@attrs.frozen
class _Reader:
    """One read of several channels; ``seen`` is what the client had seen of them before it."""

    broker: Broker
    identity: Identity
    channels: tuple[str, ...]
    seen: Mapping[str, SeenPosition]
    encoding: Encoding
    reading: Reading = attrs.field(factory=Reading)

    def read(self, name: str, seen: SeenPosition | None, max_events: int, max_bytes: int) -> bool:
        """Reads one channel; says whether it has more."""
        broker, reading = self.broker, self.reading
        channel = broker.open(name, self.identity)
        count, size = len(reading.messages), reading.size
        try:
            if seen is None:
                self._read_state(channel)
            else:
                self._read_after(channel, seen, max_events, max_bytes)
            return reading.positions[name].seq < channel.log.head_seq
        finally:
            broker.registry.leave_unused(channel)
            if reading.size > size:
                broker.counts.delivered(
                    channel.type, "event", "longpoll", len(reading.messages) - count, reading.size - size
                )

    def _read_state(self, channel: Channel) -> None:
        if (state := channel.state) is not None:
            self.reading.add([channel.snapshot(self.encoding, state)])
        self.reading.positions[channel.name] = channel.log.position

    def _read_after(self, channel: Channel, seen: SeenPosition, max_events: int, max_bytes: int) -> None:
        log, encoding = channel.log, self.encoding
        resumption = log.resume(seen.seq, seen.epoch)
        last = resumption.seq
        if (gap := resumption.gap) is not None:
            if (state := channel.state) is not None:  # stands for all up to the head
                last = log.head_seq
                gap = Gap(gap.reason, gap.from_seq, last if gap.reason == "evicted" else None)
            self.reading.add([encoding.protocol.gap(channel.name, gap, log.epoch, self.broker.now_ms())])
            if state is not None:
                self.reading.add([channel.snapshot(encoding, state)])
        if channel.is_related:
            last = self._read_related(channel, last, max_events, max_bytes)
        else:
            messages, last = channel.messages(encoding, last, max_events, max_bytes=max_bytes)
            self.reading.add(messages)
        self.reading.positions[channel.name] = Position(log.epoch, last)

    # --- wholes and parts: the rules of hub.core.relations ------------------------------------------------

    def _read_related(self, channel: Channel, last: int, max_events: int, max_bytes: int) -> int:
        """Reads a whole or a part after ``last``; returns how far it went."""
        size = self.reading.size
        for publication in channel.log.read(last, max_events):
            messages = (
                self._of_whole(channel, publication)
                if channel.is_whole
                else self._of_part(channel, publication)
            )
            if not messages or (
                self.reading.size > size and self.reading.size - size + len(messages[-1]) > max_bytes
            ):
                break
            self.reading.add(messages)
            if len(messages) > 1 and publication.part is not None:
                self.reading.positions[publication.part[0]] = publication.part[1]
            last = publication.seq
        return last

    def _of_part(self, part: Channel, publication: Publication) -> list[bytes]:
        """What a part gives by itself; nothing where the whole has to tell the event's number first."""
        place = publication.whole
        if place is not None and part.whole in self.channels:
            whole = self.broker.open(part.whole, self.identity)
            if whole.log.epoch == place.epoch and place.seq > self._position_of(whole):
                return []
        return [part.frame(self.encoding, publication, "")]

    def _of_whole(self, whole: Channel, publication: Publication) -> list[bytes]:
        """The event; or its number, and the event on its part; or nothing where the part has to go first."""
        if publication.part is not None and publication.part[0] in self.channels:
            name, place = publication.part
            part = self.broker.open(name, self.identity)
            before = self.reading.positions[name].seq
            if part.log.epoch == place.epoch and before < place.seq:
                if before + 1 < place.seq or place.seq < part.log.first_seq:
                    return []
                (event,) = part.log.read(before, 1)
                number = self.encoding.protocol.covered(whole.name, publication, name)
                return [number, part.frame(self.encoding, event, "")]
        return [whole.frame(self.encoding, publication, "")]

    def _position_of(self, whole: Channel) -> int:
        """Where the reader is in a whole: where it was read to, or will be read from."""
        if (position := self.reading.positions.get(whole.name)) is not None:
            return position.seq
        seen = self.seen.get(whole.name)
        if seen is None:
            return whole.log.head_seq
        resumption = whole.log.resume(seen.seq, seen.epoch)
        is_given_state = resumption.gap is not None and whole.has_state
        return whole.log.head_seq if is_given_state else resumption.seq
