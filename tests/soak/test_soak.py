"""The simplest clients behind a bad network: no gap that is not told, nothing twice, states equal to the hub's.

`make soak` runs it for ten minutes; ``SOAK_SECONDS`` says how long otherwise, ``SOAK_SEED`` which bad luck.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hub_process import running_hub
from tests.soak.crowd import Crowd, running_proxy, served_pages
from tests.soak.footprint import Footprint
from tests.soak.people import ALICE, BOB, MARKET_MAKER, People
from tests.soak.soak import CONFIG, channels_of, follow, hub_settings, table

SECONDS = float(os.environ.get("SOAK_SECONDS", "25"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
IS_LONG = SECONDS > 120
#: Mean seconds until a connection is cut.
LIFETIME = 8.0 if IS_LONG else 4.0
#: Seconds for which channels are buffered. In a short run slow clients come back too late now and then.
BUFFERED = 60 if IS_LONG else 10

pytestmark = pytest.mark.needs("node", "node packages", "chromium")


def fill(crowd: Crowd, people: People) -> None:
    """A client of every kind, with credentials of every kind."""
    alice, bob, mm = people.bearer(ALICE), people.bearer(BOB), people.api_key(MARKET_MAKER)
    crowd.add_python("websockets /v2", "v2", channels_of("btc_tl"), alice)
    crowd.add_python("websockets /v2 CBOR", "cbor", channels_of("btc_usdt", parts=True), mm)
    crowd.add_python("websockets /live", "live", channels_of("eth_usdt", parts=True), bob)
    crowd.add_python("SSE, poll, /live in turn", "switching", channels_of("sol_usdt"), people.api_key(BOB))
    crowd.add_node("Node ws", "ws", channels_of("btc_usdt"), mm)
    crowd.add_node("Node eventsource", "eventsource", channels_of("btc_tl", parts=True), alice)
    crowd.add_page("Chromium WebSocket", "ws", channels_of("btc_tl", parts=True), people.token(ALICE))
    crowd.add_page("Chromium EventSource", "eventsource", channels_of("sol_usdt"), people.token(BOB))


def test_soak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = People(tmp_path)
    with served_pages() as pages, Crowd(pages) as crowd:
        with running_hub(CONFIG, *hub_settings(pages, buffered=BUFFERED), *people.settings) as hub:
            footprint = Footprint(hub)
            with running_proxy(hub.address, seed=SEED, lifetime=LIFETIME) as proxy:
                crowd.address = proxy.address
                fill(crowd, people)
                results = follow(hub, crowd, SECONDS, footprint)
                network = proxy.stop()
            failures = [failure for result in results for failure in result.failures()]
            failures += footprint.failures() + hub.take_errors()[:3]
            if IS_LONG:  # then whoever comes back does so in time
                failures += [
                    f"{result.member.name}: gaps" for result in results if result.report.counts.get("gaps")
                ]
            with capsys.disabled():
                print(table(results, network, SECONDS), footprint, sep="\n")
            assert not failures, "\n".join(failures)
