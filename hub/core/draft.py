"""A draft: an event that has no number yet."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class Draft:
    """What a publisher gave, checked. ``parsed`` is what the channel's view takes; ``part`` names the channel that
    the event is also on, and its seq there."""

    data: bytes
    parsed: Any
    ts: int
    event: str | None
    kind: str | None
    last_update_id: int | None
    part: tuple[str, int] | None = None
