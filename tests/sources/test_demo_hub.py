"""The demo in the hub that conf/demo.toml describes: all is taken, and the hub's views say what the demo says."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio
import trio.testing

from hub.app.settings import Settings, load
from hub.app.settings.sections import default_namespaces
from hub.core.broker import Broker
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.names import Namespaces
from hub.sansio.publication import Position
from hub.sources.demo import DemoSettings, DemoSource

CONFIG = Path(__file__).parents[2] / "conf" / "demo.toml"
START = 1_740_000_000_000


def read_settings() -> Settings:
    return load(CONFIG, {}, [], {}, {"demo": DemoSource})


def open_broker(settings: Settings) -> Broker:
    channels = settings.channels
    values = {"market": channels.markets, "interval": channels.intervals, "depth": map(str, channels.depths)}
    return Broker(Namespaces(settings.namespaces.values(), values))


@attrs.define
class Tap:
    """Publishes, and notes what: by owner and channel."""

    broker: Broker
    payloads: dict[tuple[str | None, str], list[Any]] = attrs.field(factory=lambda: defaultdict(list))

    def __call__(self, channel: str, data: bytes, **options: Any) -> Position:
        position = self.broker.publish(channel, data, **options)
        self.payloads[options["user"], channel].append(msgspec.json.decode(data))
        return position


def state(broker: Broker, channel: str, identity: Identity = ANONYMOUS) -> Any:
    found = broker.open(channel, identity).state
    assert found is not None
    return msgspec.json.decode(found.data)


def fold_book(payloads: list[Any]) -> dict[str, list[list[str]]]:
    sides: dict[str, dict[Decimal, list[str]]] = {"bids": {}, "asks": {}}
    for payload in payloads:
        for name, levels in sides.items():
            for price, amount in payload[name]:
                levels[Decimal(price)] = [price, amount]
                if not Decimal(amount):
                    del levels[Decimal(price)]
    return {
        name: [levels[price] for price in sorted(levels, reverse=name == "bids")]
        for name, levels in sides.items()
    }


def test_the_markets_channels_are_those_of_a_hub_without_configuration() -> None:
    namespaces = dict(read_settings().namespaces)
    del namespaces["job"], namespaces["copilot"]
    assert namespaces == default_namespaces()


async def test_the_hub_takes_it_all_and_says_the_same(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    broker = open_broker(read_settings())
    tap = Tap(broker)
    source = DemoSource(
        DemoSettings(rate=500.0, seed=4), now_ms=lambda: START + round(trio.current_time() * 1000)
    )
    await nursery.start(broker.run)
    state_channels = [f"orderbook.{depth}@btc_tl" for depth in (5, 20)]
    async with trio.open_nursery() as running:
        await running.start(source.run, tap)
        await trio.sleep(10)
        running.cancel_scope.cancel()
    assert source.statistics().detail["refusedChannels"] == []
    await trio.sleep(1)
    book = fold_book(tap.payloads[None, "orderbook@btc_tl"])
    assert state(broker, "orderbook@btc_tl") == book
    for channel, depth in zip(state_channels, (5, 20), strict=True):
        top = state(broker, channel)
        assert {name: top[name] for name in book} == {name: side[:depth] for name, side in book.items()}
    trades = [trade for payload in tap.payloads[None, "trades@btc_tl"] for trade in payload]
    assert state(broker, "trades@btc_tl") == trades[-50:]
    assert state(broker, "ticker@btc_tl") == tap.payloads[None, "ticker@btc_tl"][-1]
    check_user(tap, Identity("demo-mm", "mm"))


def check_user(tap: Tap, identity: Identity) -> None:
    assert identity.user is not None
    orders = {order["orderId"]: order for order in tap.payloads[identity.user, "orders"] if order}
    still_open = [order for order in orders.values() if order["status"] in ("new", "partially_filled")]
    assert still_open
    assert state(tap.broker, "orders", identity) == still_open
    for market in {order["market"] for order in still_open}:
        mine = [order for order in still_open if order["market"] == market]
        assert state(tap.broker, f"orders@{market}", identity) == mine
    balances = {item["asset"]: item for said in tap.payloads[identity.user, "balances"] for item in said}
    assert state(tap.broker, "balances", identity) == list(balances.values())
