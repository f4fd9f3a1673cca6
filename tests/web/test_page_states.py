"""The page's books, trades, orders and balances: what it makes of a snapshot and the events after it."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import attrs
import httpx
import pytest

from tests.hub_process import HubProcess, running_hub
from tests.web.browser import Browser, Page
from tests.web.steps import TRANSPORTS, publish, row, switch, wait_connected, wait_followed

pytestmark = pytest.mark.needs("node", "node packages", "chromium")

NAMESPACES = (
    'namespaces.book.pattern="book:*"',
    'namespaces.book.snapshot="book"',
    'namespaces.book.on_lag="snapshot"',
    'namespaces.tape.pattern="tape:*"',
    'namespaces.tape.snapshot="trades"',
    "server.drain_window=0",
)
SIDES = ("bids", "asks")


@pytest.fixture
def hub() -> Iterator[HubProcess]:
    with running_hub(None, *NAMESPACES) as hub:
        yield hub


@pytest.fixture(scope="module")
def modules(browser: Browser, market: HubProcess) -> Iterator[Page]:
    """A page whose modules can be had one by one."""
    with browser.open(market.public_url) as page:
        yield page


@attrs.define
class RandomBook:
    """A book that changes at random, and the items that tell of it."""

    channel: str
    rng: random.Random
    levels: dict[str, dict[str, str]] = attrs.field(factory=lambda: {side: {} for side in SIDES})

    def snapshot(self) -> dict[str, Any]:
        self.levels = {
            side: {self.price(side): self.amount() for _ in range(self.rng.randint(5, 30))} for side in SIDES
        }
        return {"channel": self.channel, "type": "snapshot", "data": self.value()}

    def delta(self) -> dict[str, Any]:
        changes: dict[str, list[list[str]]] = {side: [] for side in SIDES}
        for side in self.rng.choices(SIDES, k=self.rng.randint(1, 4)):
            levels = self.levels[side]
            price = self.rng.choice([*levels, self.price(side)])
            amount = self.rng.choice(["0", "0.00", self.amount(), self.amount()])
            if Decimal(amount):
                levels[price] = amount
            else:
                levels.pop(price, None)
            changes[side] = [change for change in changes[side] if change[0] != price] + [[price, amount]]
        return {"channel": self.channel, "type": "delta", "data": changes}

    def price(self, side: str) -> str:
        cents = self.rng.randint(9_000, 9_999) if side == "bids" else self.rng.randint(10_000, 10_999)
        return f"{cents // 100}.{cents % 100:02d}"

    def amount(self) -> str:
        return f"{self.rng.randint(1, 9)}.{self.rng.randint(0, 99):02d}"

    def value(self) -> dict[str, list[list[str]]]:
        return {
            side: [
                [price, self.levels[side][price]]
                for price in sorted(self.levels[side], key=Decimal, reverse=side == "bids")
            ]
            for side in SIDES
        }


def value_of(page: Page, channel: str) -> Any:
    return page.evaluate(f"store.open({json.dumps(channel)}).value")


# --- over the wire -----------------------------------------------------------------------------------------


def test_book_is_the_hubs_whatever_the_transport(browser: Browser, hub: HubProcess) -> None:
    book = RandomBook("book:a", random.Random(7))
    publish(hub, book.snapshot(), *(book.delta() for _ in range(20)))
    ways = [way for pair in itertools.permutations(TRANSPORTS, 2) for way in pair]
    seq = 21
    with browser.open(hub.public_url) as page, ThreadPoolExecutor(1) as thread:
        wait_followed(page, ["book:a"])
        for number, transport in enumerate(ways):
            items = [book.delta() for _ in range(60)]
            if number % 4 == 1:
                items.append(book.snapshot())
            publishing = thread.submit(publish, hub, *items)
            switch(page, transport)  # somewhere in the middle of it
            publishing.result()
            seq += len(items)
            page.wait_for(f"live.position('book:a').seq === {seq}")
            assert value_of(page, "book:a") == book.value()
        assert page.attributes("#proof") == {"lost": "0", "repeated": "0"}
        held = httpx.get(f"{hub.public_url}/snapshot/book:a", trust_env=False).json()
        assert (held["seq"], held["data"]) == (seq, book.value())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_newcomer_gets_the_state(browser: Browser, hub: HubProcess, transport: str) -> None:
    book = RandomBook("book:a", random.Random(8))
    trades = [{"tradeId": n, "price": "1.5", "amount": "2", "side": "buy", "ts": n} for n in range(60)]
    publish(hub, book.snapshot(), *(book.delta() for _ in range(300)))
    publish(hub, *({"channel": "tape:a", "data": [trade]} for trade in trades))
    with browser.open(hub.public_url) as page:
        switch(page, transport)
        wait_connected(page, transport)
        wait_followed(page, ["book:a", "tape:a"])
        page.wait_for("store.open('tape:a').value?.length === 50 && store.open('book:a').value !== null")
        assert value_of(page, "book:a") == book.value()
        assert value_of(page, "tape:a") == trades[-50:]


def test_ladder_shows_the_best_levels(browser: Browser, hub: HubProcess) -> None:
    book = RandomBook("book:a", random.Random(9))
    publish(hub, book.snapshot(), *(book.delta() for _ in range(50)))
    with browser.open(hub.public_url, viewport={"width": 1440, "height": 900}) as page:
        page.wait_for("document.querySelector('.ladder .bids .level') !== null")
        for side in SIDES:
            shown = page.evaluate(
                f"[...document.querySelectorAll('.ladder .{side} .level .price')].map((e) => e.textContent)"
            )
            best = [price for price, _ in book.value()[side][:11]]
            assert shown == (best if side == "bids" else best[::-1])
        bid, ask = (book.value()[side][0][0] for side in SIDES)
        assert page.text(f"{row('book:a')} .value").startswith(bid)
        assert page.text(f"{row('book:a')} .value").endswith(ask)


# --- its rules ---------------------------------------------------------------------------------------------


def fold(modules: Page, kind: str, *events: tuple[str, Any]) -> Any:
    frames = [{"event": event, "data": data} for event, data in events]
    return modules.evaluate(
        f"""import('/states.js').then(({{ openState }}) => {{
            const state = openState({json.dumps(kind)});
            for (const frame of {json.dumps(frames)}) state.take(frame);
            return state.value;
        }})"""
    )


def order(number: int, status: str) -> dict[str, Any]:
    return {"orderId": number, "status": status}


@pytest.mark.parametrize(
    "kind, events, value",
    [
        ("book", [("delta", {"bids": [["1", "1"]], "asks": []})], None),
        (
            "book",
            [
                ("snapshot", {"bids": [["9", "1"], ["10", "1"]], "asks": [["11.50", "1"], ["12", "3"]]}),
                ("delta", {"bids": [["9.5", "2"]], "asks": [["11.5", "7"], ["12.00", "0.0"], ["99", "0"]]}),
                ("delta", {"asks": []}),
            ],
            {"bids": [["10", "1"], ["9.5", "2"], ["9", "1"]], "asks": [["11.5", "7"]]},
        ),
        ("trades", [("trade", [1]), ("snapshot", [5, 6]), ("trade", [7])], [5, 6, 7]),
        ("orders", [("order", order(1, "new"))], None),
        (
            "orders",
            [
                ("snapshot", [order(1, "new"), order(2, "new")]),
                ("order", order(3, "new")),
                ("order", order(2, "partially_filled")),
                ("order", order(1, "filled")),
                ("order", order(4, "rejected")),
            ],
            [order(2, "partially_filled"), order(3, "new")],
        ),
        (
            "balances",
            [
                ("snapshot", [{"asset": "btc", "total": "1"}, {"asset": "tl", "total": "2"}]),
                ("balance", [{"asset": "btc", "total": "3"}]),
                ("balance", {"asset": "eth", "total": "4"}),
            ],
            [
                {"asset": "btc", "total": "3"},
                {"asset": "tl", "total": "2"},
                {"asset": "eth", "total": "4"},
            ],
        ),
    ],
)
def test_state_is_what_its_events_come_to(
    modules: Page, kind: str, events: list[tuple[str, Any]], value: Any
) -> None:
    assert fold(modules, kind, *events) == value


@pytest.mark.parametrize("kind", ["none", "last", "top"])
def test_other_channels_are_their_newest_event(modules: Page, kind: str) -> None:
    assert modules.evaluate(f"import('/states.js').then(({{ openState }}) => openState('{kind}'))") is None
