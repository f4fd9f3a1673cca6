"""The simplest client that stream-v2.md allows, and what it must never see.

For each channel it knows one number. The next event has that number plus one; whatever else comes must have
been told, exactly. tests/web/soak_follower.mjs is the same in JavaScript; `cases.json` holds both to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tests.soak.states import History, kind_of

#: What must come next on a channel, beside the next number.
NEXT = "the next number alone"
STATE = "the state, at this number or later"
STATE_HERE = "the state, at this number exactly"

_NEEDS_STATE = frozenset({"book", "orders", "balances"})
_ROOM_FOR_FAILURES = 20


@attrs.define
class Progress:
    """One channel. ``seq`` is None before anything is known of it."""

    name: str
    kind: str = attrs.field(init=False)
    seq: int | None = None
    epoch: str | None = None
    expects: str = STATE
    #: The head that the last answer told, and whether it announced a gap.
    head: int | None = None
    awaits_gap: bool = False
    history: History = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.kind = kind_of(self.name)
        self.history = History(self.kind)

    @property
    def can_resume(self) -> bool:
        """Whether there is something to go on from: a number, and the state where it needs one."""
        return self.seq is not None and self.expects == NEXT


class Follower:
    """Follows ``channels`` through any number of connections, in either format."""

    def __init__(self, channels: Iterable[str]) -> None:
        self.channels = {name: Progress(name) for name in channels}
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._fills: set[tuple[Any, ...]] = set()

    # --- for the connection -------------------------------------------------------------------------------

    def last_seq(self) -> dict[str, dict[str, Any]]:
        """``lastSeq`` for the next subscribe: of those channels that need no state."""
        return {
            name: {"seq": progress.seq, "epoch": progress.epoch}
            for name, progress in self.channels.items()
            if progress.can_resume and progress.epoch is not None
        }

    def fail(self, text: str) -> None:
        self.counts["failures"] += 1
        if len(self.failures) < _ROOM_FOR_FAILURES:
            self.failures.append(text)

    def subscribed(self, positions: Mapping[str, Any], errors: Iterable[Any] = ()) -> None:
        """Takes the answer to a subscribe, of either format."""
        for error in errors:
            self.fail(f"refused: {error}")
        for name, position in positions.items():
            self._begin(self.channels[name], position)

    def _begin(self, progress: Progress, position: Mapping[str, Any]) -> None:
        progress.head = position["seq"]
        progress.awaits_gap = position.get("recovered") is False
        if progress.can_resume:
            self.counts["unrecovered" if progress.awaits_gap else "resumes"] += 1
            progress.epoch = progress.epoch or position["epoch"]
            if not progress.awaits_gap and position["epoch"] != progress.epoch:
                self.fail(f"{progress.name}: resumed in epoch {position['epoch']}, from {progress.epoch}")
        elif not progress.awaits_gap:
            progress.seq, progress.epoch = position["seq"], position["epoch"]
            progress.expects = NEXT if progress.kind == "none" else STATE

    # --- what comes ---------------------------------------------------------------------------------------

    def take(self, message: Mapping[str, Any]) -> None:
        """Takes a `/v2` frame or an envelope. What belongs to no channel is passed over."""
        channel = message.get("ch") or message.get("channel")
        event, data = message.get("event"), message.get("data", {})
        if event in ("slow_consumer", "error"):
            self.counts[event] += 1
            if event == "error":
                self.fail(f"error: {message}")
        if channel is None or channel == "system":
            return
        progress = self.channels.get(channel)
        if progress is None:
            self.fail(f"{channel}: not subscribed")
        elif event == "backpressure_drop":
            self._take_drop(progress, data)
        elif event == "gap":
            self._take_gap(progress, data)
        elif event == "snapshot" or message.get("type") == "snapshot":
            self._take_snapshot(progress, message)
        else:
            self._take_event(progress, message)

    def _take_event(self, progress: Progress, message: Mapping[str, Any]) -> None:
        seq, data = message["seq"], message["data"]
        self.counts["events"] += 1
        if progress.awaits_gap:
            self.fail(f"{progress.name}: {seq} before the gap that was announced")
        elif progress.seq is not None and seq != progress.seq + 1:
            word = "duplicate" if seq <= progress.seq else "jump"
            self.fail(f"{progress.name}: {word}: {seq} after {progress.seq}")
        elif progress.expects != NEXT and progress.kind in _NEEDS_STATE:
            self.fail(f"{progress.name}: {seq} where it needs {progress.expects}")
        progress.seq, progress.expects = seq, NEXT
        if "covered" in (message.get("type"), message.get("event")):
            self.counts["covered"] += 1
            if data["channel"] not in self.channels:
                self.fail(f"{progress.name}: covered by {data['channel']}, which is not subscribed")
            progress.history.add(seq, "lost", None)
        else:
            progress.history.add(seq, "event", data)
            if progress.kind == "none":
                self._take_fill(progress, data)

    def _take_fill(self, progress: Progress, fill: Mapping[str, Any]) -> None:
        """Who follows a market's fills and all fills gets each on one of the two, whatever happens in between."""
        key = (fill["market"], fill["tradeId"], fill["orderId"])
        if key in self._fills:
            self.fail(f"{progress.name}: fill {key} for the second time")
        self._fills.add(key)

    def _take_snapshot(self, progress: Progress, message: Mapping[str, Any]) -> None:
        seq, epoch = message["seq"], message.get("epoch", progress.epoch)
        self.counts["snapshots"] += 1
        is_good = (
            progress.seq is None
            or seq == progress.seq + 1  # one that was published
            or (progress.expects == STATE and seq >= progress.seq)
            or (progress.expects == STATE_HERE and seq == progress.seq)
        )
        if progress.awaits_gap or not is_good:
            self.fail(f"{progress.name}: snapshot {seq} after {progress.seq}, expected {progress.expects}")
        if message.get("snapshotSeq", seq) != seq:
            self.fail(f"{progress.name}: snapshotSeq {message['snapshotSeq']} in frame {seq}")
        if epoch != progress.epoch:
            progress.history.clear()
        progress.seq, progress.epoch, progress.expects = seq, epoch, NEXT
        progress.history.add(seq, "snapshot", message["data"])

    def _take_drop(self, progress: Progress, data: Mapping[str, Any]) -> None:
        self.counts["drops"] += 1
        self.counts["dropped"] += data["dropped"]
        from_seq, to_seq = data["fromSeq"], data["toSeq"]
        if progress.awaits_gap or (progress.seq is not None and from_seq != progress.seq + 1):
            self.fail(f"{progress.name}: drop from {from_seq} after {progress.seq}")
        if data["dropped"] != to_seq - from_seq + 1 or to_seq < from_seq:
            self.fail(f"{progress.name}: inexact drop {data}")
        if progress.kind == "none":
            self.fail(f"{progress.name}: dropped, though it has no state to make up for it: {data}")
        progress.seq = to_seq
        progress.expects = STATE_HERE if progress.kind in _NEEDS_STATE else NEXT
        progress.history.add(to_seq, "lost", None)

    def _take_gap(self, progress: Progress, data: Mapping[str, Any]) -> None:
        self.counts.update(["gaps", f"gap {data['reason']}"])
        from_seq, to_seq = data["fromSeq"], data["toSeq"]
        if progress.seq is not None and from_seq != progress.seq + 1:
            self.fail(f"{progress.name}: gap from {from_seq} after {progress.seq}")
        if data["reason"] == "evicted" and (to_seq is None or to_seq < from_seq):
            self.fail(f"{progress.name}: inexact gap {data}")
        progress.awaits_gap = False
        if data["epoch"] != progress.epoch:
            progress.history.clear()
        progress.epoch = data["epoch"]
        progress.seq = progress.head if to_seq is None else to_seq
        if progress.kind == "none":
            progress.expects = NEXT
        else:
            progress.expects = STATE if to_seq is None else STATE_HERE
        if progress.seq is not None:
            progress.history.add(progress.seq, "lost", None)
