"""Time is the tests' own, also where real sockets are."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from tests.providers.backend import patient_clock


@pytest.fixture
def clock() -> MockClock:
    return patient_clock()
