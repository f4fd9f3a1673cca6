"""The hub that readers have: what `make run` starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docs.documents import ROOT
from tests.hub_process import HubProcess, running_hub


@pytest.fixture(scope="session")
def demo_hub() -> Iterator[HubProcess]:
    with running_hub(ROOT / "conf" / "demo.toml") as hub:
        yield hub
