"""How a namespace treats its channels: who may see them, how much is kept, what a laggard gets."""

from __future__ import annotations

from typing import Literal

import attrs

from hub.sansio.options import Seconds, Size, option


@attrs.frozen(kw_only=True)
class Policy:
    """The rules of one ``[namespaces.NAME]``. The field documentation is the configuration reference."""

    pattern: str = option(
        doc="names of its channels, with holes {market}, {interval}, {depth} and *; the first namespace that fits wins"
    )
    private: bool = option(False, doc="each user has a sequence of their own and sees nobody else's")
    available: bool = option(True, doc="false: the name is reserved; subscribing answers 40002")
    event: str = option(
        "message", doc="event name in the live envelope, where a publication has none of its own"
    )
    snapshot: Literal["none", "last"] = option(
        "none", doc="what a subscriber gets first: nothing, or the newest value", choices=("none", "last")
    )
    on_lag: Literal["drop", "latest", "snapshot", "close"] = option(
        "drop",
        doc="a subscriber beyond lag_limit: skips the oldest, skips to the newest, "
        "gets a snapshot, or is closed with 4000 so that it resumes",
        choices=("drop", "latest", "snapshot", "close"),
    )
    lag_limit: int = option(
        256, doc="events that a slow subscriber may be behind; 0: the whole buffer", at_least=0
    )
    buffer_count: int = option(1000, doc="events kept for resume, history and slow subscribers", at_least=1)
    buffer_age: Seconds = option(Seconds(300.0), doc="how long an event is kept", at_least=0.0)
    buffer_bytes: Size = option(Size(64 * 1024 * 1024), doc="bytes kept for one channel", at_least=1024)
