"""A draft: an event that has no number yet."""

from __future__ import annotations

from typing import Any

import attrs

from hub.sansio.publication import Position


@attrs.frozen
class Draft:
    """What a publisher gave, checked. ``parsed`` is what the channel's view takes; ``part`` and
    ``whole`` are where the event is besides, as in a Publication."""

    data: bytes
    parsed: Any
    ts: int
    event: str | None
    kind: str | None
    last_update_id: int | None
    part: tuple[str, Position] | None = None
    whole: Position | None = None
