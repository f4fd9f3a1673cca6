"""The writing side of a session: who writes what to a link, and when.

Theory of operation. There are two writers, and they never write at the same time:

* The scheduler visits the sessions of channels with news and writes what the link takes at once. It never
  waits.
* When the link is full, or more is due than one visit may write, or the link has no fast path, the
  session's own pump takes over. It waits until the link takes data again, lets go of what the client has
  lost by its slowness, and writes until nothing is due. While it runs the scheduler passes the session by.

Control messages (answers, warnings) go before data. A message that was cut in the middle is finished before
anything else is written.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable

import trio

from hub.core.channel import Slice
from hub.core.contracts import FastPath, Link
from hub.core.pieces import Gatherer, Piece, advance_passengers
from hub.core.statistics import Counts
from hub.core.subscription import Subscription
from hub.sansio.encodings import Encoding

logger = logging.getLogger(__name__)

#: A ``send`` of a link without a fast path that took longer than this waited for the client, in seconds.
PROMPT = 0.05


class Writer:
    """Writes one session's messages to its link.

    ``on_drop`` is told how many events the client lost; ``on_broken`` that the link is no more.
    """

    def __init__(
        self,
        link: Link,
        encoding: Encoding,
        subscriptions: dict[str, Subscription],
        *,
        transport: str,
        max_cursor: int,
        counts: Counts,
        now_ms: Callable[[], int],
        on_drop: Callable[[int], None],
        on_broken: Callable[[], None],
    ) -> None:
        self.link = link
        self.encoding = encoding
        self.carries_cursor = encoding.carries_cursor
        self.transport = transport
        self.gatherer = Gatherer(encoding, subscriptions, max_cursor=max_cursor)
        #: None where the link has no fast path: then the pump does all the writing.
        # isinstance() with a protocol takes long, and this is done for each connection.
        self.try_send: Callable[[bytes], int] | None = getattr(link, "try_send", None)
        #: The scheduler may write only while this is False.
        self.is_pumping = False
        self.is_muted = False
        self.outbox: list[bytes] = []  # short: a deque takes 750 bytes, empty
        self.last_sent = trio.current_time()
        #: Since when the link has taken nothing, while it is full.
        self.blocked_since = math.inf
        self.nursery: trio.Nursery | None = None
        self._subscriptions = subscriptions
        self._counts = counts
        self._now_ms = now_ms
        self._on_drop = on_drop
        self.broken = on_broken
        self._rest = b""  # of the message that was cut
        self._progress = trio.Event()

    def say(self, message: bytes) -> None:
        """Puts a control message in the outbox. ``flush`` sends it."""
        self.outbox.append(self.gatherer.frame(message))

    def say_first(self, message: bytes) -> None:
        """The same for the first message of the session."""
        self.outbox.append(self.gatherer.frame(message, is_first=True))

    def mute(self) -> None:
        """No more data: only what was said, and what is said from now on."""
        self.is_muted = True
        self.try_send = None  # so that the scheduler has no way past this

    def retire(self) -> None:
        """The session ends: nothing is written any more, whoever comes by."""
        self.nursery = self.try_send = None

    def fail(self) -> None:
        """The link raised what no link may: its author's fault, which must not cost more than this session."""
        logger.exception("link failed", extra={"transport": self.transport})
        self.broken()

    def flush(self) -> None:
        """Writes what is due, as far as the link takes it at once; the pump does the rest."""
        if not self.is_pumping and self._is_due():
            self.visit(self._subscriptions.values())

    async def wait_flushed(self) -> None:
        """Flushes, and returns when the outbox is empty (and, once muted, nothing is being written)."""
        self.flush()
        while self.outbox or (self.is_muted and self.is_pumping):
            self._progress = trio.Event()
            await self._progress.wait()

    def visit(self, subscriptions: Iterable[Subscription]) -> None:
        """``subscriptions`` have news: writes once, without waiting."""
        if self.is_pumping:
            return
        if self.try_send is None:
            if self._is_due():
                self._start_pump()
            return
        try:
            is_full = self._write(self.try_send, subscriptions)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.broken()
            return
        except Exception:
            self.fail()
            return
        if is_full or self._is_due():
            self._start_pump()

    def account_slices(self, subscriptions: list[Subscription], slices: list[Slice], taken: int) -> None:
        """The scheduler wrote ``slices`` and the link took only ``taken`` bytes: the pump takes over."""
        left = taken
        for subscription, slice_ in zip(subscriptions, slices, strict=True):
            if left > 0:
                self._account(Piece(slice_.data, "event", subscription, slice_.last, slice_), left)
            left -= slice_.size
        self._note_full(taken)
        self._start_pump()

    def drop_excess(self) -> None:
        """Lets go of what a client that is not taking data has lost."""
        if math.isfinite(self.blocked_since):
            lost = sum(sub.drop_excess(is_slow=True) for sub in self._subscriptions.values())
            if lost:
                self._on_drop(lost)

    def _is_due(self) -> bool:
        if self.outbox or self._rest:
            return True
        return not self.is_muted and any(subscription.is_due for subscription in self._subscriptions.values())

    # --- the pump -----------------------------------------------------------------------------------------

    def _start_pump(self) -> None:
        if self.nursery is not None:
            self.is_pumping = True
            for subscription in self._subscriptions.values():
                subscription.keeps_up()
            self.nursery.start_soon(self._pump)

    async def _pump(self) -> None:
        try:
            while self._is_due():
                await self._make_room()
                if self.try_send is None:
                    await self._send()
                elif not self._write(self.try_send, self._subscriptions.values()):
                    for subscription in self._subscriptions.values():
                        subscription.keeps_up()
                await trio.lowlevel.checkpoint()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.broken()
        except Exception:
            self.fail()
        # Not in a finally: a pump that was cancelled may have cut a message, after which nothing must be written.
        self.is_pumping = False
        self._progress.set()

    async def _make_room(self) -> None:
        """Waits until the link takes data again, if it is full; then applies the lag limits."""
        if not math.isfinite(self.blocked_since):
            return
        if self._rest:
            rest, self._rest = self._rest, b""
            await self.link.send(rest)
        elif isinstance(self.link, FastPath):
            await self.link.wait_writable()
        self.drop_excess()
        self.blocked_since = math.inf

    async def _send(self) -> None:
        pieces = self._gather(self._subscriptions.values())
        for piece in pieces:
            self._commit(piece)
        begin = self.blocked_since = trio.current_time()
        await self.link.send(b"".join(piece.data for piece in pieces))
        self.last_sent = trio.current_time()
        if self.last_sent - begin > PROMPT:
            self.drop_excess()
        self.blocked_since = math.inf

    # --- writing ------------------------------------------------------------------------------------------

    def _gather(self, subscriptions: Iterable[Subscription]) -> list[Piece]:
        due = [subscription for subscription in subscriptions if subscription.is_due]
        is_slow = math.isfinite(self.blocked_since)
        lost = sum(sub.drop_excess(is_slow=is_slow) for sub in due if not sub.is_intact)
        if lost:
            self._on_drop(lost)  # which may mute us
        control = [Piece(frame, "control") for frame in self.outbox]
        return control if self.is_muted else control + self.gatherer.gather(due, self._now_ms())

    def _write(self, try_send: Callable[[bytes], int], subscriptions: Iterable[Subscription]) -> bool:
        """Writes once; says whether the link was full."""
        pieces = self._gather(subscriptions)
        if not pieces:
            return False
        data = pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)
        taken = left = try_send(data)
        for piece in pieces:
            self._account(piece, left)
            left -= len(piece.data)
            if left <= 0:
                break
        if taken < len(data):
            self._note_full(taken)
            return True
        self.last_sent = trio.current_time()
        return False

    def _note_full(self, taken: int) -> None:
        if taken or not math.isfinite(self.blocked_since):
            self.blocked_since = trio.current_time()

    def _account(self, piece: Piece, taken: int) -> None:
        """Makes true what follows from the first ``taken`` bytes of a piece (or all) being written."""
        if taken >= len(piece.data):
            self._commit(piece)
        elif taken > 0 and piece.slice is not None and piece.subscription is not None:
            self._commit_part(piece.subscription, piece.slice, taken)
        elif taken > 0:
            self._rest = piece.data[taken:]
            self._commit(piece)

    def _commit(self, piece: Piece) -> None:
        piece.commit()
        if piece.subscription is None:
            del self.outbox[0]
            if not self.outbox:
                self._progress.set()
            return
        channel, count = piece.subscription.channel, 1
        if piece.slice is not None:
            count = len(piece.slice.frames)
            if piece.slice.last == channel.log.head_seq and channel.last is not None:  # live, not a replay
                self._counts.took(
                    channel.type, self.transport, (self._now_ms() - channel.last.ts) / 1000, count
                )
        if piece.has_state and math.isfinite(piece.subscription.asked_at):
            seconds = trio.current_time() - piece.subscription.asked_at
            self._counts.gave_snapshot(channel.type, seconds)
            piece.subscription.asked_at = math.inf
        self._counts.delivered(channel.type, piece.kind, self.transport, count, len(piece.data))

    def _commit_part(self, subscription: Subscription, slice_: Slice, taken: int) -> None:
        """Some frames were written whole; the one that was cut is as good as written, its rest goes first."""
        count = size = 0
        while size < taken:
            size += len(slice_.frames[count])
            count += 1
        self._rest = (
            slice_.frames[count - 1][len(slice_.frames[count - 1]) - (size - taken) :]
            if size > taken
            else b""
        )
        subscription.advance(slice_.after + count)
        advance_passengers(slice_.passengers[:count])
        self._counts.delivered(subscription.channel.type, "event", self.transport, count, size)
