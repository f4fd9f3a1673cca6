"""The hub that readers have: what `make run` starts, with users that it knows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docs.documents import ROOT
from tests.docs.people import People, make_people
from tests.hub_process import HubProcess, running_hub


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return make_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="session")
def demo_hub(people: People) -> Iterator[HubProcess]:
    with running_hub(ROOT / "conf" / "demo.toml", *people.settings()) as hub:
        yield hub
