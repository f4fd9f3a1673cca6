"""How often one address may ask, and how often it may fail to say who it is."""

from __future__ import annotations

import math
from typing import Final

import trio

from hub.app.front.forwarded import limit_key
from hub.app.front.guard import Refused
from hub.app.front.refusals import Refusals
from hub.core.contracts import Request
from hub.sansio.errors import ErrorCode
from hub.sansio.rates import Buckets

#: Addresses that are remembered at once: about 20 MB, and more than can ask within a burst's time.
MAX_ADDRESSES: Final = 65_536
#: As many requests at once as come in so many seconds.
REQUESTS_BURST: Final = 2
FAILURES_BURST: Final = 4


class AddressRates:
    """Requests and failed logins per second and address; 0: no limit."""

    def __init__(self, refusals: Refusals, *, requests: float, failed_logins: float) -> None:
        self._refusals = refusals
        self._requests = _buckets(requests, REQUESTS_BURST)
        self._failures = _buckets(failed_logins, FAILURES_BURST)

    def check_request(self, request: Request) -> None:
        """Counts a request. Raises Refused."""
        if self._requests is None:
            return
        key, now = limit_key(request.peer), trio.current_time()
        if not self._requests.take(key, now):
            self._refusals.add("requests_per_ip", request.peer)
            raise _refusal("too many requests from this address", self._requests.wait(key, now))

    def has_failed_too_often(self, request: Request) -> bool:
        return self._failures is not None and self._wait_after_failures(self._failures, request) > 0

    def login_refusal(self, request: Request) -> Refused:
        """Counts the refusal of one failure more than an address may have."""
        self._refusals.add("logins_per_ip", request.peer)
        wait = 0.0 if self._failures is None else self._wait_after_failures(self._failures, request)
        return _refusal("too many failed logins from this address", wait)

    def note_failure(self, request: Request) -> None:
        """``request`` had credentials that are not valid."""
        if self._failures is not None:
            self._failures.take(limit_key(request.peer), trio.current_time())

    def _wait_after_failures(self, failures: Buckets, request: Request) -> float:
        return failures.wait(limit_key(request.peer), trio.current_time())


def _buckets(rate: float, burst: float) -> Buckets | None:
    return Buckets(rate, max(1.0, rate * burst), MAX_ADDRESSES) if rate else None


def _refusal(msg: str, wait: float) -> Refused:
    headers = {"retry-after": str(max(1, math.ceil(wait))), "cache-control": "no-store"}
    return Refused(429, msg, code=ErrorCode.RATE_LIMITED, headers=headers)
