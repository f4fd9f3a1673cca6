"""The invariant: what a client is given plus what it is told it lost is what was published, in order, once.

Channels of every rule for laggards; the payloads mean nothing. See ``tests.core.world`` for the clients.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.core.broker import Broker, BrokerLimits
from hub.core.registry import RegistryLimits
from hub.sansio.drops import SlowRules
from hub.sansio.names import Namespaces
from hub.sansio.options import Seconds
from hub.sansio.policies import Policy
from tests.core.checker import Truth
from tests.core.market import BOUNDLESS
from tests.core.world import BEGINNINGS, SETUPS, Setup, World, shrink_everything, step, steps, take_step

POLICIES = (
    Policy(pattern="drop:*", lag_limit=5, buffer_count=12),
    Policy(pattern="whole:*", lag_limit=0, buffer_count=40),
    Policy(pattern="book:*", on_lag="snapshot", snapshot="last", lag_limit=4, buffer_count=10),
    Policy(pattern="tick:*", on_lag="latest", snapshot="last", lag_limit=3, buffer_count=8),
    Policy(pattern="last:*", on_lag="latest", lag_limit=2, buffer_count=6),
    Policy(pattern="heal:*", on_lag="snapshot", lag_limit=2, buffer_count=6),
    Policy(pattern="fill:*", on_lag="close", lag_limit=0, buffer_count=10),
    Policy(pattern="order:*", on_lag="close", snapshot="last", lag_limit=6, buffer_count=10),
    Policy(pattern="old:*", buffer_count=50, buffer_age=Seconds(20.0)),
)
CHANNELS = (*(policy.pattern.replace("*", "1") for policy in POLICIES), "drop:2", "book:2")
POOLS = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=4, unique=True).map(tuple)
STEPS = steps(
    (0.5, 6.0, 25.0, 700.0),
    step("publish", st.integers(0, 4), st.integers(1, 12), st.sampled_from((0, 30, 300))),
)


async def play(
    setup: Setup, pool: tuple[str, ...], begins: list[Any], script: list[Any], truth: Truth
) -> None:
    limits = BrokerLimits(
        write_deadline=0.0, idle_timeout=0.0, slow=SlowRules(warn_dropped=10, close_dropped=300),
        registry=RegistryLimits(buffered_bytes=setup.buffered_bytes, idle=setup.idle),
    )  # fmt: skip
    broker = Broker(
        Namespaces(POLICIES, {}), limits=limits, tiers=BOUNDLESS, now_ms=lambda: 1_740_000_000_000
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        world = World(nursery, broker, truth, pool)
        for begin in begins:
            world.begin(*begin)
        for one in script:
            match one:
                case ("publish", place, count, padding):
                    for _ in range(count):
                        truth.publish_number(broker, world.channels((place,))[0], padding)
                case _:
                    await take_step(world, one)
        await world.settle()
        world.check_complete()
        nursery.cancel_scope.cancel()


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(setup=SETUPS, pool=POOLS, begins=BEGINNINGS, script=st.lists(STEPS, min_size=30, max_size=90))
def test_told_plus_delivered_is_published(
    setup: Setup, pool: tuple[str, ...], begins: list[Any], script: list[Any]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        shrink_everything(patch, setup)
        truth = Truth(Namespaces(POLICIES, {}))
        truth.watch(patch)
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(play, setup, pool, begins, script, truth, clock=clock)
