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
    unfinished = [name for name in channels if reader.read(name, seen.get(name), share, max_bytes)]
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
        covering = self._covering_part if channel.is_whole else None
        messages, last = channel.messages(encoding, last, max_events, max_bytes=max_bytes, covering=covering)
        self.reading.add(messages)
        self.reading.positions[channel.name] = Position(log.epoch, last)

    def _covering_part(self, publication: Publication) -> str | None:
        """The channel of this read on which the client has, or gets, the event itself."""
        name = None if publication.part is None else publication.part[0]
        if name is None or name not in self.channels or (seen := self.seen.get(name)) is None:
            return None
        log = self.broker.open(name, self.identity).log
        return name if log.resume(seen.seq, seen.epoch).gap is None else None
