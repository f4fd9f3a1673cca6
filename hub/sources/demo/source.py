"""The demo source: lets a simulated exchange run at a configured rate."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable
from typing import ClassVar

import attrs
import trio

from hub.core.contracts import Publish, SourceStatistics
from hub.sansio.errors import PublishRefused
from hub.sansio.options import option
from hub.sources.demo.drafts import Allowance, Draft
from hub.sources.demo.exchange import SimulatedExchange
from hub.sources.demo.instruments import check_market, find_instrument
from hub.sources.demo.showcase import open_showcases
from hub.sources.demo.trade_feeds import INTERVALS

#: Seconds between two batches: fine enough for `orderbook.N`, coarse enough that a quiet demo costs nothing.
_TICK = 0.01
#: Seconds' worth of events that may be made up for after a stall.
_CATCH_UP = 0.1
#: Publications between two checkpoints: about half a millisecond of work.
_BATCH = 50

_logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class DemoSettings:
    """Section ``[sources.demo]``."""

    markets: tuple[str, ...] = option(
        ("btc_tl", "eth_tl", "btc_usdt", "eth_usdt", "avax_tl", "sol_usdt"),
        doc="markets to simulate; one that the demo does not know trades around 100",
        check=check_market,
    )
    rate: float = option(
        200.0,
        doc="publications per second, all market channels together; 0 stands still",
        at_least=0.0,
        at_most=10_000.0,
    )
    seed: int = option(
        -1, doc="the same seed gives the same orders; -1 takes another one at each start", at_least=-1
    )
    intervals: tuple[str, ...] = option(
        ("1m", "5m", "1h"), doc="intervals of the kline channels", choices=tuple(INTERVALS)
    )
    depth: int = option(
        100,
        doc="levels of a book at most; the farthest orders are cancelled",
        unit="levels a side",
        at_least=20,
        at_most=1_000,
    )
    users: tuple[str, ...] = option(
        ("demo-alice", "demo-bob", "demo-mm"),
        doc="users with money and orders of their own, published on orders, fills and balances; empty: none",
    )
    showcase: bool = option(True, doc="also publish the generic channels job:backtest_demo and copilot:demo")

    def __attrs_post_init__(self) -> None:
        if not self.markets:
            raise ValueError("the demo needs at least one market")
        for names in (self.markets, self.intervals, self.users):
            if len(set(names)) < len(names):
                raise ValueError("a market, an interval or a user of the demo is named twice")
        if not all(self.users):
            raise ValueError("a user of the demo has no name")


def unix_ms() -> int:
    """The wall clock in Unix milliseconds."""
    return time.time_ns() // 1_000_000


class DemoSource:
    """A small exchange with random orders, for demonstrations and for load.

    ``trio.current_time()`` sets the pace, ``now_ms`` only the timestamps and the candles. A channel that the
    hub's configuration has no place for is refused once, logged, and left out from then on.
    """

    name: ClassVar[str] = "demo"
    Settings: ClassVar[type] = DemoSettings

    def __init__(self, settings: DemoSettings, *, now_ms: Callable[[], int] = unix_ms) -> None:
        self._settings = settings
        self._now_ms = now_ms
        self._seed = secrets.randbits(32) if settings.seed == -1 else settings.seed
        self._showcases = open_showcases() if settings.showcase else []
        self._status = "starting"
        self._published = 0
        self._skipped = 0
        self._refused: set[str] = set()

    async def run(
        self, publish: Publish, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Publishes every channel's first state, calls ``started()``, then runs until cancelled."""
        now_ms = self._now_ms()
        exchange = self._open_exchange(now_ms)
        self._publish(publish, exchange.publish_opening(now_ms))
        self._status = "ok"
        task_status.started()
        allowance = Allowance(self._settings.rate, window=_CATCH_UP, now=trio.current_time())
        while True:
            # Sleeping for a tick, not until one: what is late is made up for by the allowance alone.
            await trio.sleep(_TICK)
            allowance.earn(trio.current_time())
            self._skipped = int(allowance.forgotten)
            await self._publish_tick(publish, exchange, allowance)

    async def _publish_tick(
        self, publish: Publish, exchange: SimulatedExchange, allowance: Allowance
    ) -> None:
        now_ms = self._now_ms()
        allowance.spend(self._publish(publish, exchange.publish_due(now_ms)))
        for showcase in self._showcases:
            self._publish(publish, showcase.publish_due(now_ms))
        while allowance.available:
            await trio.lowlevel.checkpoint()
            orders = exchange.publish_orders(now_ms, min(allowance.available, _BATCH))
            allowance.spend(self._publish(publish, orders))

    def _publish(self, publish: Publish, drafts: Iterable[Draft]) -> int:
        """Hands the drafts over; returns how many there were, taken or refused."""
        count = 0
        for draft in drafts:
            count += 1
            if draft.channel not in self._refused:
                self._publish_one(publish, draft)
        return count

    def _publish_one(self, publish: Publish, draft: Draft) -> None:
        channel, data, ts, event, kind, last_update_id, user = draft
        try:
            publish(channel, data, ts=ts, event=event, kind=kind, last_update_id=last_update_id, user=user)
        except PublishRefused as refusal:
            self._refused.add(channel)
            _logger.warning("demo channel refused", extra={"channel": channel, "reason": refusal.msg})
        else:
            self._published += 1

    def _open_exchange(self, now_ms: int) -> SimulatedExchange:
        settings = self._settings
        return SimulatedExchange(
            [find_instrument(market) for market in settings.markets],
            seed=self._seed,
            intervals=settings.intervals,
            depth=settings.depth,
            users=settings.users,
            now_ms=now_ms,
        )

    def statistics(self) -> SourceStatistics:
        """``seed`` repeats this run; ``skipped`` counts events that a stall kept from happening."""
        detail = {
            "markets": list(self._settings.markets),
            "rate": self._settings.rate,
            "seed": self._seed,
            "published": self._published,
            "skipped": self._skipped,
            "refusedChannels": sorted(self._refused),
        }
        status = "degraded" if self._refused and self._status == "ok" else self._status
        return SourceStatistics(status=status, detail=detail)
