"""Channels that the hub makes itself: the best levels of an order book, from the book's own channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.core.draft import Draft
from hub.sansio.views.book import Book
from hub.sansio.views.view import View

if TYPE_CHECKING:
    from hub.core.channel import Channel


class Derivation:
    """How one channel follows from ``source``. ``is_stale``: the source has gone on since the last frame."""

    __slots__ = ("_depth", "_levels", "is_stale", "source")

    def __init__(self, source: Channel, depth: int) -> None:
        self.source = source
        self.is_stale = True
        self._depth = depth
        self._levels = b""

    def forget(self) -> None:
        """The state is unknown; the next frame says something new whatever it says."""
        self._levels = b""

    def next_frame(self, view: View) -> Draft | None:
        """The frame that brings the channel, whose view is ``view``, up to date; None where it would say what the last one said."""
        self.is_stale = False
        source, book = self.source, self.source.view
        if not isinstance(book, Book) or not book.is_known:
            return None
        levels = book.top(self._depth)
        if levels == self._levels:
            return None
        self._levels = levels
        update_id = source.last_update_id
        ts = source.created_ms if source.last is None else source.last.ts
        data = levels if update_id is None else b'%b,"lastUpdateId":%d}' % (levels[:-1], update_id)
        return Draft(data, view.parse(data, "snapshot"), ts, None, "snapshot", update_id)
