"""The way in: what sources publish gets its number here.

Publishing is synchronous and never waits. An event of a channel with a pace may wait for its time as the channel's
one pending draft, which a newer one replaces; channels that are derived from others are made anew at their pace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import trio

from hub.core.channel import Channel
from hub.core.draft import Draft
from hub.core.pacing import Pacer
from hub.core.registry import Registry
from hub.core.scheduler import Scheduler
from hub.core.statistics import Counts
from hub.sansio.errors import ErrorCode, PublishRefused, RequestRefused
from hub.sansio.parts import is_list, parts_of
from hub.sansio.payload import BadPayload
from hub.sansio.publication import Position, Publication, check_event_name

_KINDS = (None, "snapshot", "delta")


class Intake:
    """Takes publications for the channels of ``registry``. ``run`` must be running for channels with a pace."""

    def __init__(
        self, registry: Registry, scheduler: Scheduler, counts: Counts, now_ms: Callable[[], int]
    ) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._counts = counts
        self._now_ms = now_ms
        self._pacer = Pacer(self._call_up)

    async def run(self) -> None:
        """Publishes what waited for its time, until cancelled."""
        await self._pacer.run()

    def publish(
        self,
        channel: str,
        data: bytes,
        *,
        ts: int | None = None,
        event: str | None = None,
        kind: str | None = None,
        user: str | None = None,
        last_update_id: int | None = None,
    ) -> Position:
        """Gives the event the next number of its channel, and goes on. See ``contracts.Publish``."""
        target = self._registry.find(channel, user) or self._open(channel, user)
        self._check(target, event, kind)
        if ts is None:
            ts = self._now_ms()
        draft = Draft(data, self._parse(target, data, kind), ts, event, kind, last_update_id)
        if target.is_whole:
            return self._offer_whole(target, draft)
        if target.whole is not None:
            return self._offer_part(target, target.whole, draft)
        return self._offer(target, draft)

    def refresh(self, channel: Channel) -> None:
        """``channel`` is asked for: a derived one that nobody wanted meanwhile is brought up to date."""
        if channel.derivation is not None and channel.derivation.is_stale:
            now = trio.current_time()
            if now >= channel.paced_at + channel.policy.pace:
                self._call_up(channel, now)
            else:
                self._pacer.schedule(channel)

    def _open(self, name: str, user: str | None) -> Channel:
        try:
            return self._registry.open_to_publish(name, user)
        except RequestRefused as refusal:
            raise self._refusal(refusal.code, refusal.msg) from None

    def _check(self, target: Channel, event: str | None, kind: str | None) -> None:
        if event is not None:
            try:
                check_event_name(event)
            except ValueError as error:
                raise self._refusal(ErrorCode.INVALID_REQUEST, str(error)) from None
        if kind not in _KINDS:
            raise self._refusal(ErrorCode.INVALID_REQUEST, "type must be snapshot or delta")
        if target.derivation is not None:
            msg = f"{target.name} is derived from {target.derivation.source.name}: publish there"
            raise self._refusal(ErrorCode.INVALID_REQUEST, msg)

    def _parse(self, target: Channel, data: bytes, kind: str | None) -> Any:
        try:
            return target.view.parse(data, kind)
        except BadPayload as error:
            raise self._refusal(ErrorCode.INVALID_REQUEST, f"data: {error}") from None

    def _refusal(self, code: ErrorCode, msg: str) -> PublishRefused:
        self._counts.publish_refused += 1
        return PublishRefused(code, msg)

    # --- numbers ------------------------------------------------------------------------------------------

    def _offer(self, target: Channel, draft: Draft) -> Position:
        """Appends, or keeps for later where the channel has a pace: then the position is that of the frame that
        will carry this or something newer."""
        if not target.policy.pace:
            return self._append(target, draft)
        now = trio.current_time()
        if target.view.is_final(draft.parsed) or now >= target.paced_at + target.policy.pace:
            self._counts.conflated += target.pending is not None
            target.pending = None
            target.paced_at = now
            return self._append(target, draft)
        self._counts.conflated += target.pending is not None
        target.pending = draft
        self._pacer.schedule(target)
        return target.log.next_position

    def _append(self, target: Channel, draft: Draft) -> Position:
        log = target.log
        before = log.size
        publication = Publication(
            log.head_seq + 1,
            draft.data,
            ts=draft.ts,
            stored_at=trio.current_time(),
            event=_event_of(target, draft),
            kind=draft.kind,
            last_update_id=draft.last_update_id,
            part=draft.part,
            whole=draft.whole,
        )
        target.append(publication, draft.parsed)
        self._counts.published += 1
        self._counts.published_bytes += len(draft.data)
        self._registry.grew(log.size - before)
        self._scheduler.mark(target)
        for derived in target.derived:
            assert derived.derivation is not None
            derived.derivation.is_stale = True
            if derived.is_wanted:
                self._pacer.schedule(derived)
        return log.position

    def _call_up(self, channel: Channel, now: float) -> None:
        """The time has come for the next frame of a channel with a pace."""
        if channel.is_forgotten:
            return
        if now < channel.paced_at + channel.policy.pace:  # something went out since it was scheduled
            self._pacer.schedule(channel)
            return
        if channel.derivation is not None:
            draft = channel.derivation.next_frame(channel.view)
        else:
            draft, channel.pending = channel.pending, None
        if draft is not None:
            channel.paced_at = now
            self._append(channel, draft)

    # --- wholes and parts ---------------------------------------------------------------------------------

    def _offer_part(self, part: Channel, whole_name: str, draft: Draft) -> Position:
        """What is published on a part is an event of the whole too."""
        if draft.kind == "snapshot":
            raise self._refusal(ErrorCode.INVALID_REQUEST, f"publish snapshots on {whole_name}")
        whole = self._registry.find(whole_name, part.user) or self._open(whole_name, part.user)
        self._check_both(part, whole)
        named = set(parts_of(whole.policy.parts).group(draft.data)) - {None, part.name}
        if named:
            msg = f"data: belongs to {', '.join(sorted(filter(None, named)))}, not to {part.name}"
            raise self._refusal(ErrorCode.INVALID_REQUEST, msg)
        parsed = self._parse(whole, draft.data, draft.kind)
        position = self._offer(part, attrs.evolve(draft, whole=whole.log.next_position))
        self._offer(whole, attrs.evolve(draft, parsed=parsed, part=(part.name, position)))
        return position

    def _offer_whole(self, whole: Channel, draft: Draft) -> Position:
        """What is published on the whole is an event of its part too; a list with events of several parts is
        several events."""
        parts = parts_of(whole.policy.parts)
        if draft.kind == "snapshot" and whole.has_snapshots:
            return self._offer_whole_state(whole, draft)
        if not is_list(draft.data):
            return self._offer_item(whole, parts.name_of(draft.data), draft)
        groups = parts.group(draft.data)
        if len(groups) <= 1:
            return self._offer_item(whole, next(iter(groups), None), draft)
        for name, data in groups.items():
            group = attrs.evolve(draft, data=data, parsed=self._parse(whole, data, draft.kind))
            self._offer_item(whole, name, group)
        return whole.log.position

    def _offer_item(self, whole: Channel, part_name: str | None, draft: Draft) -> Position:
        if part_name is not None and (part := self._find_part(part_name, whole)) is not None:
            self._check_both(whole, part)
            parsed = self._parse(part, draft.data, draft.kind)
            position = self._offer(part, attrs.evolve(draft, parsed=parsed, whole=whole.log.next_position))
            draft = attrs.evolve(draft, part=(part_name, position))
        return self._offer(whole, draft)

    def _offer_whole_state(self, whole: Channel, draft: Draft) -> Position:
        groups = parts_of(whole.policy.parts).group(draft.data)
        named = {part.name: part for part in self._registry.parts_of(whole)}
        for name in groups:
            if name is not None and name not in named and (part := self._find_part(name, whole)) is not None:
                self._check_both(whole, part)
                named[name] = part
        for name, part in named.items():
            data = groups.get(name, b"[]")
            parsed = self._parse(part, data, "snapshot")
            self._offer(part, attrs.evolve(draft, data=data, parsed=parsed))
        return self._offer(whole, draft)

    def _find_part(self, name: str, whole: Channel) -> Channel | None:
        """None where there is no such part, as of a market that is not configured: the event is on the whole alone."""
        try:
            # A name from a payload may be that of any channel, even one that all may see.
            if self._registry.namespaces.resolve(name).pattern != whole.policy.parts:
                return None
            return self._registry.find(name, whole.user) or self._registry.open_to_publish(name, whole.user)
        except RequestRefused:
            return None

    def _check_both(self, first: Channel, second: Channel) -> None:
        """Where there are as many channels as there may be, opening the second may have cost the first."""
        if first.is_forgotten or second.is_forgotten:
            raise self._refusal(ErrorCode.UNAVAILABLE, "too many channels on this node")


def _event_of(target: Channel, draft: Draft) -> str:
    """The event's name in an envelope. Where others are changes, a state is called so, that it is not taken for one."""
    if draft.kind == "snapshot" and target.policy.snapshot not in ("none", "last", "top"):
        return "snapshot"
    return draft.event or target.policy.event
