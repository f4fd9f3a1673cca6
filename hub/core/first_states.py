"""First states: of some channels the hub has not seen the beginning, and asks a back end what came before."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

import trio

from hub.core.channel import Channel
from hub.core.contracts import SnapshotUnavailable
from hub.core.registry import Registry
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import Identity
from hub.sansio.parts import parts_of
from hub.sansio.payload import BadPayload, check_payload

logger = logging.getLogger(__name__)


#: Gives a channel's state as compact JSON. Raises SnapshotUnavailable; the caller holds the clock.
FetchState = Callable[[Channel], Awaitable[bytes]]


class FirstStates:
    """Asks ``fetch`` for the state of channels that have none, once for all who wait for the same."""

    def __init__(self, registry: Registry, fetch: FetchState | None, timeout: float) -> None:
        self._registry = registry
        self._fetch_state = fetch
        self._timeout = timeout
        self._asked: dict[Channel, trio.Event] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Must be running for ``prepare`` to work."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def lacking(self, names: Iterable[str], identity: Identity) -> dict[str, Channel]:
        """Of the channels ``names``, by name, the one whose state has to be asked for: the channel itself, or the
        one that it is derived from. Names that are refused are passed over."""
        lacking: dict[str, Channel] = {}
        if self._fetch_state is None:
            return lacking
        for name in names:
            try:
                policy = self._registry.check(name, identity).policy
                if policy.provider or policy.derived_from:
                    channel = self._registry.open(name, identity)
                    origin = channel if channel.derivation is None else channel.derivation.source
                    if origin.policy.provider and not origin.has_state:
                        lacking[name] = origin
            except RequestRefused:
                continue
        return lacking

    async def prepare(self, lacking: Mapping[str, Channel]) -> dict[str, RequestRefused]:
        """Waits for the states; says which cannot be had now, by name (50000)."""
        with trio.move_on_after(self._timeout):
            for answered in [self._ask(channel) for channel in lacking.values()]:
                await answered.wait()
        refusals = {}
        for name, channel in lacking.items():
            if not channel.has_state or channel.is_forgotten:
                msg = "snapshot unavailable, try again"
                refusals[name] = RequestRefused(ErrorCode.INTERNAL, msg, channel=name)
        return refusals

    def _ask(self, channel: Channel) -> trio.Event:
        if channel not in self._asked:
            self._asked[channel] = trio.Event()
            channel.is_asked_for = True  # so that it is not forgotten meanwhile
            assert self._nursery is not None
            self._nursery.start_soon(self._fetch, channel)
        return self._asked[channel]

    async def _fetch(self, channel: Channel) -> None:
        assert self._fetch_state is not None
        try:
            with trio.fail_after(self._timeout):
                data = await self._fetch_state(channel)
            if not channel.has_state:
                channel.seed(self._own(channel, data))
        except (SnapshotUnavailable, BadPayload, trio.TooSlowError) as error:
            logger.error(
                "snapshot failed", extra={"channel": channel.name, "reason": str(error) or "too slow"}
            )
        finally:
            channel.is_asked_for = False
            self._asked.pop(channel).set()
            if not channel.has_state:  # else those who waited are about to subscribe
                self._registry.leave_unused(channel)

    def _own(self, channel: Channel, data: bytes) -> bytes:
        """What a part has of a state: a back end may not have looked at which part it was asked for. Raises
        BadPayload."""
        data = check_payload(data)
        if channel.whole is None:
            return data
        template = self._registry.namespaces.resolve(channel.whole).parts
        return parts_of(template).only(data, channel.name)
