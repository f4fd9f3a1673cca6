"""The page at ``/`` in a real browser, on a real hub."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.hub_process import HubProcess, running_hub, start_hub
from tests.web.browser import Browser, Page
from tests.web.steps import TRANSPORTS, numbered, publish, row, switch, wait_connected, wait_followed

pytestmark = pytest.mark.needs("node", "node packages", "chromium")

#: Two namespaces, one that greets with the last value and one that does not.
NAMESPACES = (
    'namespaces.state.pattern="state:*"',
    'namespaces.state.snapshot="last"',
    'namespaces.event.pattern="event:*"',
    "namespaces.event.lag_limit=0",
    "namespaces.state.lag_limit=0",
    "server.drain_window=0",
)
#: Notes in the page what the user interface is given.
TAP = "window.taken = []; live.listen(({channel, seq, event, data}) => taken.push([channel, seq, event, data.n]))"


@pytest.fixture
def hub() -> Iterator[HubProcess]:
    with running_hub(None, *NAMESPACES) as hub:
        yield hub


@pytest.fixture(scope="module")
def modules(browser: Browser, market: HubProcess) -> Iterator[Page]:
    """A page whose modules can be had one by one."""
    with browser.open(market.public_url) as page:
        yield page


# --- what it shows -----------------------------------------------------------------------------------------


def test_market_is_shown_by_channel_and_moves(browser: Browser, market: HubProcess) -> None:
    with browser.open(market.public_url, viewport={"width": 1440, "height": 900}) as page:
        wait_connected(page, "websocket")
        page.wait_for("document.querySelectorAll('#groups li').length === live.listing.total")
        types = page.evaluate(
            "[...document.querySelectorAll('#groups section')].map((part) => part.dataset.type)"
        )
        assert types == ["ticker", "bbo", "trades", "orderbook", "kline", "copilot", "job"]
        before = int(page.wait_for(f'document.querySelector("{row("bbo@btc_tl")}").dataset.seq'))
        page.wait_for(f'Number(document.querySelector("{row("bbo@btc_tl")}").dataset.seq) > {before}')
        page.wait_for("document.getElementById('rate').textContent !== '0'")
        page.wait_for(f"document.querySelector(\"{row('bbo@btc_tl')} .rate\").textContent !== '0'")
        assert page.attributes("#proof") == {"lost": "0", "repeated": "0"}


@pytest.mark.parametrize(
    "channel, drawn",
    [
        ("orderbook@btc_tl", ".ladder .bids .level .price"),
        ("orderbook.5@btc_tl", ".ladder .asks .level .price"),
        ("trades@btc_tl", ".tape .trade[data-move]"),
        ("kline.1m@btc_tl", ".candles g"),
        ("ticker@btc_tl", ".headline .chip"),
        ("bbo@btc_tl", ".quote-side.bid .price"),
        ("job:backtest_demo", ".progress.wide"),
        ("copilot:demo", ".message"),
    ],
)
def test_channel_is_drawn_by_what_it_says(
    browser: Browser, market: HubProcess, channel: str, drawn: str
) -> None:
    with browser.open(market.public_url) as page:
        page.wait_for(f'document.querySelector("{row(channel)}") !== null')
        page.click(f"{row(channel)} button")
        page.wait_for(f"document.querySelector('#detail {drawn}') !== null")
        page.click("#detail .raw summary")
        page.wait_for("document.querySelectorAll('#detail .events li').length > 0")
        page.call("press", "body", "Escape")
        assert page.evaluate("document.getElementById('detail').hidden")


def test_payload_is_text_and_nothing_else(browser: Browser, hub: HubProcess) -> None:
    data = {"text": "<img src=x onerror=\"document.title='hacked'\"><b>bold</b>", "n": 1}
    publish(hub, {"channel": "state:a", "data": data})
    with browser.open(hub.public_url) as page:
        page.wait_for(f"document.querySelector(\"{row('state:a')}\")?.textContent.includes('onerror')")
        page.click(f"{row('state:a')} button")
        page.wait_for("document.querySelector('#detail .json')?.textContent.includes('onerror')")
        assert page.evaluate("document.querySelectorAll('main img, aside img, main b, aside b').length") == 0
        assert page.evaluate("document.title") == "trio-hub"


def test_empty_hub_says_how_to_begin(browser: Browser, hub: HubProcess) -> None:
    with browser.open(hub.public_url) as page:
        page.wait_for("!document.getElementById('empty').hidden")
        # The hub is asked first which channel it would allow.
        page.wait_for("document.getElementById('example').textContent.includes('/publish')")
        for transport in TRANSPORTS:
            switch(page, transport)
            wait_connected(page, transport)
        publish(hub, {"channel": "event:first", "data": {"text": "hello"}})
        page.wait_for(f'document.querySelector("{row("event:first")}") !== null')
        wait_followed(page, ["event:first"])
        publish(hub, {"channel": "event:first", "data": {"text": "hello again"}})
        page.wait_for(f"document.querySelector(\"{row('event:first')}\").textContent.includes('hello again')")
        assert page.evaluate("document.getElementById('empty').hidden")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_channel_that_comes_later_shows_its_last_value(
    browser: Browser, hub: HubProcess, transport: str
) -> None:
    publish(hub, *numbered(["state:old", "event:old"], range(3)))
    with browser.open(hub.public_url) as page:
        wait_followed(page, ["state:old", "event:old"])
        switch(page, transport)
        wait_connected(page, transport)
        publish(hub, *numbered(["state:new", "event:new"], range(7)))
        for channel in ("state:old", "event:old", "state:new", "event:new"):
            n = 6 if channel.endswith("new") else 2
            page.wait_for(
                f"""document.querySelector("{row(channel)} .value")?.textContent === '{{"n":{n}}}'"""
            )
        publish(hub, *numbered(["state:new", "event:new"], range(7, 9)))
        page.wait_for("['state:new', 'event:new'].every((name) => live.position(name)?.seq === 9)")
        assert page.attributes("#proof") == {"lost": "0", "repeated": "0"}


def test_filter_and_keys(browser: Browser, hub: HubProcess) -> None:
    publish(hub, *numbered(["state:apple", "state:pear", "event:apple"], range(1)))
    with browser.open(hub.public_url) as page:
        page.wait_for("document.querySelectorAll('#groups li').length === 3")
        page.call("press", "body", "/")
        page.call("fill", "#filter", "APPLE")
        page.wait_for("document.querySelectorAll('#groups li').length === 2")
        page.call("fill", "#filter", "plum")
        page.wait_for("!document.getElementById('unmatched').hidden")
        page.call("fill", "#filter", "")
        page.wait_for("document.querySelectorAll('#groups li').length === 3")
        page.call("focus", f"{row('event:apple')} button")
        page.call("press", ":focus", "ArrowDown")
        page.call("press", ":focus", "Enter")
        page.wait_for("document.querySelector('#detail h2').textContent === 'state:apple'")
        page.call("press", "body", "3")
        wait_connected(page, "poll")


# --- going on ----------------------------------------------------------------------------------------------


def test_switching_by_click_loses_and_repeats_nothing(browser: Browser, hub: HubProcess) -> None:
    channels = ["state:a", "state:b", "event:a", "event:b"]
    publish(hub, *numbered(channels, range(1)))
    ways = [*itertools.permutations(TRANSPORTS, 2)]
    random.Random(5).shuffle(ways)
    burst = 150
    with browser.open(hub.public_url) as page, ThreadPoolExecutor(1) as thread:
        wait_followed(page, channels)
        page.evaluate(TAP)
        steps = [way for pair in ways for way in pair]
        for number, transport in enumerate(steps):
            numbers = range(1 + number * burst, 1 + (number + 1) * burst)
            publishing = thread.submit(publish, hub, *numbered(channels, numbers))
            switch(page, transport)  # somewhere in the middle of it
            publishing.result()
            if number % 3 == 0:
                wait_connected(page, transport)  # else the next switch comes while this one is under way
        last = len(steps) * burst
        page.wait_for(f"{json.dumps(channels)}.every((name) => live.position(name).seq === {last + 1})")
        taken = page.evaluate("taken")
        for channel in channels:
            mine = [(seq, event, n) for name, seq, event, n in taken if name == channel]
            assert mine == [(n + 1, "message", n) for n in range(1, last + 1)]
        page.wait_for("document.querySelector('#handover[data-to]') !== null")
        assert page.attributes("#proof") == {"lost": "0", "repeated": "0"}
        shown = page.attributes("#handover")
        assert (shown["lost"], shown["repeated"]) == ("0", "0")
        assert "0 lost, 0 repeated" in page.text("#handover") or "waiting" in page.text("#handover")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_hub_that_restarts_is_found_again(browser: Browser, transport: str) -> None:
    first = start_hub(None, *NAMESPACES)
    second: HubProcess | None = None
    try:
        publish(first, *numbered(["state:a", "event:a"], range(3)))
        with browser.open(first.public_url) as page:
            switch(page, transport)
            wait_connected(page, transport)
            wait_followed(page, ["state:a", "event:a"])
            first.terminate()
            page.wait_for("!document.getElementById('trouble').hidden")
            assert page.attributes("#status")["state"] == "reconnecting"
            assert "Reconnecting" in page.text("#trouble")
            assert first.wait_exit() == 0
            second = start_hub(None, *NAMESPACES, arguments=["--bind", f"127.0.0.1:{first.address[1]}"])
            publish(second, *numbered(["state:a", "event:a"], range(10)))
            page.evaluate("live.retryNow()")
            wait_connected(page, transport)
            publish(second, *numbered(["state:a", "event:a"], range(10, 20)))
            page.wait_for("['state:a', 'event:a'].every((name) => live.position(name)?.seq === 20)")
            assert page.evaluate("document.getElementById('trouble').hidden")
            assert page.evaluate("live.counts.restarts") == 2
            assert page.attributes("#proof") == {"lost": "0", "repeated": "0"}
    finally:
        first.kill()
        if second is not None:
            second.terminate()
            second.wait_exit()
            second.kill()


def test_more_channels_than_are_allowed(browser: Browser) -> None:
    channels = [f"event:c{number}" for number in range(8)]
    with running_hub(None, *NAMESPACES, "tiers.anonymous.channels_per_connection=5") as hub:
        publish(hub, *numbered(channels, range(1)))
        with browser.open(hub.public_url) as page:
            for transport in TRANSPORTS:
                switch(page, transport)
                wait_connected(page, transport)
                page.wait_for("document.querySelectorAll('#groups li[data-followed=true]').length === 5")
                left_out = page.evaluate(
                    "document.querySelector('#groups li[data-followed=false]').dataset.channel"
                )
                assert page.text(f"{row(left_out)} .age") == "off"
                assert page.call("getAttribute", f"{row(left_out)} button", "title").startswith(
                    "not subscribed: 5"
                )
                page.click(f"{row(left_out)} button")
                page.wait_for(f"document.querySelector(\"{row(left_out)}\").dataset.followed === 'true'")
                wait_connected(page, transport)
                publish(hub, {"channel": left_out, "data": {"n": transport}})
                page.wait_for(
                    f"document.querySelector(\"{row(left_out)} .value\").textContent.includes('{transport}')"
                )
                page.wait_for("document.querySelectorAll('#groups li[data-followed=true]').length === 5")
                page.call("press", "body", "Escape")


def test_transport_that_does_not_get_through_is_left(browser: Browser, hub: HubProcess) -> None:
    publish(hub, *numbered(["state:a"], range(1)))
    blocked = """window.WebSocket = class {
        constructor() { setTimeout(() => this.onclose?.({code: 1006, reason: ''})); }
        close() {}
    };"""
    with browser.open(hub.public_url, script=blocked) as page:
        page.wait_for("document.querySelector('#status[data-state=degraded][data-using=sse]') !== null")
        wait_followed(page, ["state:a"])
        publish(hub, *numbered(["state:a"], range(7, 8)))
        page.wait_for(f"document.querySelector(\"{row('state:a')}\").textContent.includes('7')")


# --- its rules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "events, counts",
    [
        ([("e", 4), ("e", 5)], {"events": 2}),
        ([("e", 4), ("e", 4), ("e", 3)], {"events": 1, "repeated": 2}),
        ([("e", 4), ("e", 7)], {"events": 2, "lost": 2}),
        (
            [("gap", 9, {"reason": "evicted", "fromSeq": 4, "toSeq": 9, "epoch": "one"}), ("e", 10)],
            {"events": 1, "gaps": 1, "missed": 6},
        ),
        (
            [("gap", 9, {"reason": "evicted", "fromSeq": 6, "toSeq": 9, "epoch": "one"})],
            {"gaps": 1, "missed": 4, "lost": 2},
        ),
        (
            [
                ("gap", 0, {"reason": "epoch", "fromSeq": 4, "toSeq": None, "epoch": "two"}),
                ("snapshot", 2),
                ("e", 3),
            ],
            {"events": 2, "restarts": 1},
        ),
        ([("e", 4), ("covered", 5, {"channel": "b"}), ("e", 6)], {"events": 2}),
        ([("covered", 5, {"channel": "b"}), ("covered", 5, {"channel": "b"})], {"lost": 1, "repeated": 1}),
        (
            [("backpressure_drop", 8, {"fromSeq": 4, "toSeq": 8, "dropped": 5}), ("snapshot", 8), ("e", 9)],
            {"events": 2, "dropped": 5},
        ),
        (
            [("gap", 0, {"reason": "ahead", "fromSeq": 4, "toSeq": None, "epoch": "one"}), ("e", 2)],
            {"events": 1, "gaps": 1},
        ),
    ],
)
def test_sequence_is_proved(modules: Page, events: list[Any], counts: dict[str, int]) -> None:
    frames = [
        {"channel": "a", "event": event, "seq": seq, "data": rest[0] if rest else {}}
        for event, seq, *rest in events
    ]
    program = f"""import('/positions.js').then(({{ Positions }}) => {{
        const positions = new Positions();
        positions.subscribed('a', {{ seq: 3, epoch: 'one' }});
        for (const frame of {json.dumps(frames)}) positions.accept(frame);
        return positions.counts;
    }})"""
    found = modules.evaluate(program)
    assert {name: count for name, count in found.items() if count} == counts


def test_no_more_is_followed_than_a_url_can_name(modules: Page) -> None:
    program = """import('/channels.js').then(({ chooseChannels }) => {
        const listed = new Map(Array.from({ length: 300 }, (_, n) => [`t${n % 3}:${'x'.repeat(40)}${n}`, {}]));
        const all = chooseChannels(listed, new Set(), null, Infinity);
        const focus = [...listed.keys()].at(-1);
        return [all, chooseChannels(listed, new Set(all), focus, 10), focus];
    })"""
    every, few, focus = modules.evaluate(program)
    assert 40 < len(every) < 80
    assert {name.partition(":")[0] for name in every[:3]} == {"t0", "t1", "t2"}
    assert few == [focus, *every[:9]]
