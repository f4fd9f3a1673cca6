"""The same invariant on a market: books, best levels, paced channels, trades, private records, wholes and parts.

Besides: what a naive client makes of states and changes is the hub's own view at each seq.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.core.broker import BrokerLimits
from hub.core.registry import RegistryLimits
from hub.sansio.drops import SlowRules
from hub.sansio.names import Namespaces
from tests.core.checker import Truth
from tests.core.market import ANNA, VALUES, candle, dump, fill, make_broker, order, policies
from tests.core.world import BEGINNINGS, SETUPS, Setup, World, shrink_everything, step, steps, take_step

#: Small enough that slow clients lose some.
SMALL: dict[str, dict[str, Any]] = {
    "ticker": {"lag_limit": 2, "buffer_count": 5},
    "book": {"lag_limit": 6, "buffer_count": 15},
    "top": {"lag_limit": 2, "buffer_count": 5},
    "trades": {"lag_limit": 5, "buffer_count": 12},
    "kline": {"lag_limit": 2, "buffer_count": 5},
    "bbo": {"lag_limit": 3, "buffer_count": 8},
    "orders": {"buffer_count": 10},
    "orders_market": {"buffer_count": 6},
    "fills": {"buffer_count": 25},
    "fills_market": {"buffer_count": 25},
    "balances": {"buffer_count": 5},
}
PUBLIC = (
    "ticker@btc_tl", "orderbook@btc_tl", "orderbook.2@btc_tl", "orderbook.5@btc_tl", "trades@btc_tl",
    "kline.1m@btc_tl", "bbo@btc_tl",
)  # fmt: skip
PRIVATE = ("orders", "orders@btc_tl", "orders@eth_tl", "fills", "fills@btc_tl", "balances")
CHANNELS = (*PUBLIC, *PRIVATE)
MARKETS_OF_ORDERS = ("btc_tl", "eth_tl", "no_such")
STATUSES = ("new", "new", "partially_filled", "filled", "cancelled")

POOLS = st.one_of(
    st.sampled_from(
        (
            ("orderbook@btc_tl",),
            ("orderbook@btc_tl", "orderbook.2@btc_tl", "orderbook.5@btc_tl"),
            ("orders", "orders@btc_tl"),
            ("fills", "fills@btc_tl", "orders@eth_tl", "orders"),
        )
    ),
    st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=4, unique=True).map(tuple),
)
#: where in the pool, digits that say what is in each event, and whether others have their turn in between
STEPS = steps(
    (0.03, 0.2, 1.2, 25.0),
    step("publish", st.integers(0, 4), st.lists(st.integers(0, 999), min_size=1, max_size=9), st.booleans()),
)


def source_of(channel: str) -> str:
    """Where one publishes for ``channel``: what is derived the hub makes itself."""
    return "orderbook@btc_tl" if channel.startswith("orderbook.") else channel


def publish_one(world: World, channel: str, digits: int, clock: int) -> None:
    """An event whose content follows from ``digits``."""
    price, amount, kind = str(digits % 8 + 1), str(digits // 8 % 4), None
    match channel.partition("@")[0].partition(".")[0]:
        case "ticker":
            data = dump({"last": str(digits)})
        case "orderbook":
            kind = "snapshot" if digits > 900 else (None, "delta")[digits % 2]
            changed: dict[str, Any] = {("bids", "asks")[digits // 2 % 2]: [[price, amount]]}
            whole = {"bids": [[price, "5"], ["9", "1"]], "asks": [["10", "1"]]}
            data = dump(whole if kind == "snapshot" else changed)
        case "trades":
            kind = "snapshot" if digits > 980 else None
            data = dump([{"tradeId": clock * 10 + index, "price": price} for index in range(digits % 4)])
        case "kline":
            data = candle(clock // 4, digits, closed=clock % 4 == 3)
        case "bbo":
            data = dump({"bid": price, "ask": amount})
        case "balances":
            kind = "snapshot" if digits > 900 else None
            assets = dict.fromkeys((("TL", "BTC", "ETH")[digits % 3], ("TL", "USDT")[digits % 2]))
            data = dump([{"asset": asset, "total": str(digits)} for asset in assets])
        case "fills":
            data = dump(fill(clock, MARKETS_OF_ORDERS[digits % 3] if channel == "fills" else "btc_tl"))
        case _:
            kind, data = an_order(channel, digits)
    world.broker.publish(channel, data, kind=kind, user="anna")
    if digits % 5 == 0 and channel in PRIVATE:
        world.broker.publish(channel, data, kind=kind, user="bert")


def an_order(channel: str, digits: int) -> tuple[str | None, bytes]:
    market = channel.partition("@")[2]

    def one(number: int) -> dict[str, Any]:
        return order(
            number % 7, market or MARKETS_OF_ORDERS[number % 3], STATUSES[number % 5], updatedAt=digits
        )

    if channel == "orders" and digits > 900:
        return "snapshot", dump([one(number) for number in (digits, digits + 1)])
    if digits % 4 == 0:
        return None, dump([one(number) for number in (digits, digits + 1, digits + 2)])
    return None, dump(one(digits))


async def play(
    setup: Setup, pool: tuple[str, ...], begins: list[Any], script: list[Any], truth: Truth
) -> None:
    limits = BrokerLimits(
        write_deadline=0.0, idle_timeout=0.0, slow=SlowRules(warn_dropped=10, close_dropped=300),
        registry=RegistryLimits(buffered_bytes=setup.buffered_bytes),
    )  # fmt: skip
    broker = make_broker(limits=limits, changes=SMALL)
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        world = World(nursery, broker, truth, pool, ANNA)
        if script[0][0] != "nothing":  # now and then the book is not known for a while
            publish_one(world, "orderbook@btc_tl", 999, 0)
        for begin in begins:
            world.begin(*begin)
        clock = 0
        for one in script:
            match one:
                case ("publish", place, numbers, takes_turns):
                    channel = source_of(world.channels((place,))[0])
                    for digits in numbers:
                        clock += 1
                        publish_one(world, channel, digits, clock)
                        if takes_turns:
                            await trio.lowlevel.checkpoint()
                case _:
                    await take_step(world, one)
        await trio.sleep(3)  # what waits for its time goes out
        await world.settle()
        world.check_complete()
        nursery.cancel_scope.cancel()


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(setup=SETUPS, pool=POOLS, begins=BEGINNINGS, script=st.lists(STEPS, min_size=30, max_size=90))
def test_a_market(setup: Setup, pool: tuple[str, ...], begins: list[Any], script: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        shrink_everything(patch, setup)
        truth = Truth(Namespaces(policies(**SMALL), VALUES))
        truth.watch(patch)
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(play, setup, pool, begins, script, truth, clock=clock)
