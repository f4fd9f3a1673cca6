"""The simplest clients behind a bad network: no gap that is not told, nothing twice, states equal to the hub's.

`make soak` runs it for ten minutes; ``SOAK_SECONDS`` says how long otherwise.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.hub_process import HubProcess, running_hub
from tests.soak.crowd import Crowd, running_proxy, served_pages
from tests.soak.soak import CONFIG, Result, follow, hub_settings, public_channels, table

SECONDS = float(os.environ.get("SOAK_SECONDS", "25"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
#: Mean seconds until a connection is cut.
LIFETIME = 4.0 if SECONDS < 120 else 8.0

pytestmark = pytest.mark.needs("node", "node packages", "chromium")


def fill(crowd: Crowd) -> None:
    """A client of every kind. Markets differ, so that no client hides behind another's work."""
    crowd.add_python("websockets /v2", "v2", public_channels("btc_tl"), {})
    crowd.add_python("websockets /v2 CBOR", "cbor", public_channels("btc_usdt"), {})
    crowd.add_python("websockets /live", "live", public_channels("eth_usdt"), {})
    crowd.add_python("SSE, poll, /live in turn", "switching", public_channels("btc_usdt"), {})
    crowd.add_node("Node ws", "ws", public_channels("btc_usdt"), {})
    crowd.add_node("Node eventsource", "eventsource", public_channels("btc_tl"), {})
    crowd.add_page("Chromium WebSocket", "ws", public_channels("btc_tl"), None)
    crowd.add_page("Chromium EventSource", "eventsource", public_channels("sol_usdt"), None)


def test_soak(capsys: pytest.CaptureFixture[str]) -> None:
    with served_pages() as pages, running_hub(CONFIG, *hub_settings(pages)) as hub:
        descriptors = hub.descriptors()
        with running_proxy(hub.address, seed=SEED, lifetime=LIFETIME) as proxy:
            with Crowd(proxy.address, pages) as crowd:
                fill(crowd)
                results = follow(hub, crowd, SECONDS)
            network = proxy.stop()
        with capsys.disabled():
            print(table(results, network, SECONDS))
        failures = [failure for result in results for failure in result.failures()]
        assert not failures, "\n".join(failures)
