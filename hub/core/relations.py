"""Wholes and their parts on one connection: an event of both is told once, on the part (channels.md).

A client that has ``orders`` and ``orders@btc_tl`` gets an order of btc_tl on the part, and on the whole only that its
number is ``covered``. Both numbers go in one frame's bytes, the whole's first: so whichever way the client leaves, it
either has both, or it has been told the whole's number and the part still owes the event. The rules:

* The whole takes the event of a part along when the part is right before it. Where the part has something of its
  own to tell first, the whole waits.
* The part gives no event by itself whose number on the whole has not been told.
* An event that the part went past by other means (it was subscribed later, or a state stood for it) comes in full on
  the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from hub.core.subscription import Passenger, Subscription
from hub.sansio.publication import Position, Publication

#: Events in one piece. Such channels are private, so there are few at a time, and their bytes are seldom shared.
SLICE_COUNT: Final = 64


class Waits(Exception):
    """The whole cannot go on before its part has."""


class Relations:
    """Who takes whom along, on a connection with ``subscriptions``."""

    __slots__ = ("_subscriptions",)

    def __init__(self, subscriptions: Mapping[str, Subscription]) -> None:
        self._subscriptions = subscriptions

    def passenger(
        self, publication: Publication, ahead: Mapping[str, Position | None], moved: set[Subscription]
    ) -> Passenger | None:
        """The part that ``publication`` of a whole takes along; None where the event itself is due on the whole.

        ``ahead`` is where parts will be, ``moved`` who has been given something of his own in the same write. Raises
        Waits.
        """
        if publication.part is None:
            return None
        name, place = publication.part
        part = self._subscriptions.get(name)
        if part is None or part.channel.log.epoch != place.epoch:
            return None
        if part in moved or part.needs_state or part.gap is not None:
            raise Waits
        told = ahead.get(name)
        position = part.position if told is None else told.seq
        if part.skip is not None and position >= part.skip[0]:  # what it lost is what it tells next
            raise Waits
        if position >= place.seq:
            return None
        if position + 1 < place.seq or place.seq < part.channel.log.first_seq:
            raise Waits
        return part, place.seq

    def own(self, part: Subscription) -> Iterator[Publication]:
        """What a part gives by itself next."""
        channel = part.channel
        whole = None if channel.whole is None else self._subscriptions.get(channel.whole)
        for publication in channel.log.read(part.position, SLICE_COUNT):
            place = publication.whole
            if (
                whole is not None
                and place is not None
                and place.epoch == whole.channel.log.epoch
                and place.seq > whole.position
            ):
                return
            yield publication
