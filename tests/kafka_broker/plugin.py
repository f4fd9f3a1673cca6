"""A pytest plugin: the fixture ``kafka_broker``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import needs
from tests.kafka_broker.broker import KafkaBroker
from tests.kafka_broker.jars import fetch_jars

NEEDS = ("java", "maven")


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A running broker for the whole run. A test that stops it starts it again; each test has topics of its own.

    Skips, with the reason, where Java or Maven is missing (conftest.py makes that a failure in CI).
    """
    for name in NEEDS:
        if reason := needs.missing(name):
            pytest.skip(reason)
    broker = KafkaBroker(fetch_jars(), tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.close()
