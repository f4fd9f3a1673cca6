"""The browser that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hub_process import ROOT, HubProcess, running_hub
from tests.web.browser import Browser, running_browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def market() -> Iterator[HubProcess]:
    """The demo, as `make run` starts it."""
    with running_hub(ROOT / "conf" / "demo.toml", "server.drain_window=0") as hub:
        yield hub
