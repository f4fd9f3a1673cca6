"""Reading from a cursor without staying: what a long-poll answers."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from hub.core.broker import Broker
from hub.core.channel import Channel
from hub.sansio.identity import Identity
from hub.sansio.commands import SeenPosition
from hub.sansio.encodings import Encoding
from hub.sansio.log import Gap
from hub.sansio.publication import Position


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
    reading = Reading()
    # Each channel has its share, so that a busy one does not keep the others from being read; what the quiet
    # ones leave of theirs goes to those that have more.
    share = max(1, max_events // len(channels))
    unfinished = [
        name
        for name in channels
        if _read_channel(broker, identity, name, seen.get(name), encoding, reading, share, max_bytes)
    ]
    for name in unfinished:
        rest = max_events - len(reading.messages)
        if rest > 0 and reading.size < max_bytes:
            position = reading.positions[name]
            more = SeenPosition(position.seq, position.epoch)
            _read_channel(broker, identity, name, more, encoding, reading, rest, max_bytes - reading.size)
    return reading


def _read_channel(
    broker: Broker,
    identity: Identity,
    name: str,
    seen: SeenPosition | None,
    encoding: Encoding,
    reading: Reading,
    max_events: int,
    max_bytes: int,
) -> bool:
    """Reads one channel; says whether it has more."""
    channel = broker.registry.open(name, identity)
    count, size = len(reading.messages), reading.size
    try:
        if seen is None:
            _read_state(channel, encoding, reading)
        else:
            _read_after(broker, channel, seen, encoding, reading, max_events, max_bytes)
        return reading.positions[name].seq < channel.log.head_seq
    finally:
        broker.registry.leave_unused(channel)
        if reading.size > size:
            broker.counts.delivered(
                channel.type, "event", "longpoll", len(reading.messages) - count, reading.size - size
            )


def _read_state(channel: Channel, encoding: Encoding, reading: Reading) -> None:
    if (state := channel.state) is not None:
        reading.add([channel.snapshot(encoding, state)])
    reading.positions[channel.name] = channel.log.position


def _read_after(
    broker: Broker,
    channel: Channel,
    seen: SeenPosition,
    encoding: Encoding,
    reading: Reading,
    max_events: int,
    max_bytes: int,
) -> None:
    log, protocol, state = channel.log, encoding.protocol, channel.state
    resumption = log.resume(seen.seq, seen.epoch)
    last = resumption.seq
    if (gap := resumption.gap) is not None:
        if state is not None:  # stands for all up to the head
            last = log.head_seq
            gap = Gap(gap.reason, gap.from_seq, last if gap.reason == "evicted" else None)
        reading.add([protocol.gap(channel.name, gap, log.epoch, broker.now_ms())])
        if state is not None:
            reading.add([channel.snapshot(encoding, state)])
    messages, last = channel.messages(encoding, last, max_events, max_bytes=max_bytes)
    reading.add(messages)
    reading.positions[channel.name] = Position(log.epoch, last)
