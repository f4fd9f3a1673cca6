"""``/channels``: what there is, for who asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import trio.testing

from hub.app.page.listing import Listing
from hub.core.broker import Broker
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy
from tests.hub_process import ROOT, HubProcess, running_hub

GATEWAY = 'auth.gateway_networks=["127.0.0.1/32"]'


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    settings = (GATEWAY, "sources.demo.rate=0", "server.drain_window=0")
    with running_hub(ROOT / "conf" / "demo.toml", *settings) as hub:
        yield hub


def listing(hub: HubProcess, **headers: str) -> dict[str, Any]:
    answer = httpx.get(f"{hub.public_url}/channels", headers=headers, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


def test_public_channels_and_what_is_derived_from_them(hub: HubProcess) -> None:
    found = listing(hub)
    rows = {row["channel"]: row for row in found["channels"]}
    assert (found["user"], found["total"]) == (None, len(rows))
    assert [*rows] == sorted(rows)
    kinds = {name.partition("@")[0]: row["snapshot"] for name, row in rows.items()}
    assert kinds == {
        "bbo": "last",
        "copilot:demo": "none",
        "job:backtest_demo": "last",
        "kline.1m": "last",
        "kline.5m": "last",
        "kline.1h": "last",
        "orderbook": "book",
        "orderbook.5": "top",
        "orderbook.10": "top",
        "orderbook.20": "top",
        "ticker": "last",
        "trades": "trades",
    }
    assert not any(row["private"] for row in rows.values())
    derived = {name: row for name, row in rows.items() if row["snapshot"] == "top"}
    assert all(row["seq"] == 0 for row in derived.values()), "nobody has asked for them yet"
    assert all(row["seq"] > 0 for name, row in rows.items() if name not in derived)
    for name, row in rows.items():
        answer = httpx.get(f"{hub.public_url}/history/{name}?limit=1", trust_env=False).json()
        assert answer["epoch"] == row["epoch"]


def test_own_channels_without_their_parts(hub: HubProcess) -> None:
    public = {row["channel"] for row in listing(hub)["channels"]}
    found = listing(hub, **{"x-user-id": "demo-alice"})
    assert found["user"] == "demo-alice"
    own = {row["channel"] for row in found["channels"] if row["private"]}
    assert own == {"orders", "balances"}  # there were no fills yet
    assert {row["channel"] for row in found["channels"]} == public | own
    assert {row["channel"] for row in found["channels"][:2]} == own, "first, so that no limit hides them"


def test_nobody_sees_the_channels_of_others(hub: HubProcess) -> None:
    assert not [row for row in listing(hub, **{"x-user-id": "somebody"})["channels"] if row["private"]]


async def test_restricted_channels_are_for_whom_their_names_or_rights_say(
    autojump_clock: trio.testing.MockClock,
) -> None:
    policies = [Policy(pattern="user:{user}:*"), Policy(pattern="desk:*", allow=("role:desk",))]
    broker = Broker(Namespaces(policies, {}))
    for channel in ("user:anna:news", "user:bert:news", "desk:notes"):
        broker.publish(channel, b"1")
    found = Listing(broker)
    anna, bert = Identity("anna", "retail", frozenset({"desk"})), Identity("bert", "retail")
    assert [row["channel"] for row in await found.rows(anna)] == ["desk:notes", "user:anna:news"]
    assert [row["channel"] for row in await found.rows(bert)] == ["user:bert:news"]
    assert await found.rows(ANONYMOUS) == []
