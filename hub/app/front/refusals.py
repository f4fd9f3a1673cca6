"""What a port refused because of its limits: counted each time, logged now and then."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final

import trio

logger = logging.getLogger(__name__)

#: Seconds between two lines about one limit: whoever floods the port must not flood the log.
LOG_INTERVAL: Final = 10.0


class Refusals:
    """Of one port. Limits are named as in the metric ws_rate_limit_exceeded_total."""

    def __init__(self, port: str) -> None:
        self._port = port
        self._counts: Counter[str] = Counter()
        self._unlogged: Counter[str] = Counter()
        self._logged_at: dict[str, float] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        return dict(self._counts)

    def add(self, limit: str, address: str) -> None:
        self._counts[limit] += 1
        self._unlogged[limit] += 1
        now = trio.current_time()
        if now - self._logged_at.get(limit, -LOG_INTERVAL) >= LOG_INTERVAL:
            self._logged_at[limit] = now
            fields = {
                "port": self._port,
                "limit": limit,
                "address": address,
                "count": self._unlogged.pop(limit),
            }
            logger.warning("limit reached", extra=fields)
