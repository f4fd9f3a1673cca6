"""A hub for the tests of this folder; each test has channels of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.hub_process import HubProcess, running_hub
from tests.wire.publishing import Publisher

CONFIG = Path(__file__).with_name("hub.toml")
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared_hub() -> Iterator[HubProcess]:
    with running_hub(CONFIG, "logging.level=debug") as hub:
        yield hub


@pytest.fixture
def hub(shared_hub: HubProcess) -> Iterator[HubProcess]:
    """The hub that tests share. A test fails that makes it log an error."""
    shared_hub.take_errors()
    yield shared_hub
    assert shared_hub.process.poll() is None, f"the hub has died:\n{shared_hub.tail()}"
    with httpx.Client(trust_env=False) as client:  # whatever it has to say, it has said by now
        assert client.get(f"{shared_hub.admin_url}/healthz").status_code == 200
    errors = shared_hub.take_errors()
    assert not errors, "\n".join(errors)


@pytest.fixture
def publisher(hub: HubProcess) -> Iterator[Publisher]:
    publisher = Publisher(hub)
    yield publisher
    publisher.close()


@pytest.fixture
def http(hub: HubProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=hub.public_url, timeout=60.0, trust_env=False) as client:
        yield client


@pytest.fixture
def name() -> Callable[[str], str]:
    """Makes the name of a channel in a namespace (``ev``, ``small`` ...) that no other test uses."""
    return lambda namespace: f"{namespace}:t{next(_numbers)}"
