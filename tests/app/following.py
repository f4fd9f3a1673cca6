"""A hub, a network that breaks, and somebody who writes down what a follower tells; time is the test's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio

from hub.app.commands.following import Follower
from hub.app.compose import Hub
from hub.app.settings import Settings
from hub.app.settings.plugins import find_plugins, settings_of
from hub.app.settings.sections import LimitSettings, ServerSettings
from hub.auth.settings import AuthSettings
from hub.core.broker import Broker
from hub.sansio.policies import Policy
from hub.sansio.tiers import AnonymousTier, Tiers

POLICIES = {
    "plain": Policy(pattern="ev:*", event="tick", lag_limit=0),
    "small": Policy(pattern="small:*", buffer_count=5),
    "state": Policy(pattern="state:*", snapshot="last", lag_limit=0),
    "orders": Policy(pattern="orders", private=True, lag_limit=0, parts="orders@{market}"),
    "orders_market": Policy(pattern="orders@{market}", private=True, lag_limit=0),
    "staff": Policy(pattern="staff:*", allow=("role:staff",)),
}


@asynccontextmanager
async def open_hub(auth: AuthSettings | None = None) -> AsyncIterator[tuple[Broker, str]]:
    """A hub within the test, and its public URL."""
    plugins = find_plugins("hub.transports", own_only=True)
    hub = Hub(
        Settings(
            server=ServerSettings(bind="127.0.0.1:0", admin_bind=""),
            limits=LimitSettings(connections_per_ip=0),
            tiers=Tiers(anonymous=AnonymousTier(channels_per_connection=200)),
            auth=auth or AuthSettings(),
            namespaces=POLICIES,
            transports={name: settings_of(plugin)() for name, plugin in plugins.items()},
        ),
        plugins,
        {},
    )
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(hub.run)
        yield hub.broker, addresses.public
        hub.start_drain()


class Network:
    """What lies between a client and a hub. Connection i is cut after ``budgets[i]`` bytes of the hub's; the
    connections after those are good, until ``is_dead``: then nothing comes through."""

    def __init__(self, target: str, budgets: Sequence[int] = ()) -> None:
        self.budgets = list(budgets)
        self.connections = 0
        self.is_dead = False
        self._port = int(target.rpartition(":")[2])

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:
            serve: Any = partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1")
            listeners: list[trio.SocketListener] = await nursery.start(serve)
            yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            nursery.cancel_scope.cancel()

    async def _serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        budget = self.budgets.pop(0) if self.budgets else None
        try:
            async with (
                await trio.open_tcp_stream("127.0.0.1", self._port) as hub,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._copy, client, hub, None)
                await self._copy(hub, client, budget)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, budget: int | None) -> None:
        while budget is None or budget > 0:
            data = await source.receive_some(65536 if budget is None else min(budget, 65536))
            if not data:
                return
            if budget is not None:
                budget -= len(data)
            if not self.is_dead:
                await sink.send_all(data)


@attrs.define
class Told:
    """What a follower told and said."""

    events: list[dict[str, Any]] = attrs.field(factory=list)
    said: list[str] = attrs.field(factory=list)

    def follower(self, *channels: str, **options: Any) -> Follower:
        return Follower(
            channels,
            tell=lambda raw: self.events.append(json.loads(raw)),
            say=self.said.append,
            jitter=lambda: 0.5,
            **options,
        )

    def data(self, channel: str) -> list[Any]:
        return [event["data"] for event in self.events if event["channel"] == channel]


async def wait_for(is_true: Callable[[], object], seconds: float = 300.0) -> None:
    with trio.fail_after(seconds):
        while not is_true():  # noqa: ASYNC110  # what is waited for has no event
            await trio.sleep(0.1)
