"""First states over HTTP: one GET, tried again where that may help."""

from __future__ import annotations

import math
import random
import re
import ssl
from collections.abc import Callable
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy

import attrs
import httpx
import trio

from hub.core.contracts import SnapshotUnavailable
from hub.providers.settings import ProviderSettings
from hub.sansio.payload import BadPayload, check_payload

#: Seconds to wait before another try; each is shortened by up to a half, so that nodes do not knock as one.
PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)
#: The part of the timeout in which a connection must be there: a lost packet leaves time for another try.
_CONNECT_SHARE = 0.3

#: What a back end says that knows the channel and has nothing in it.
_NOTHING = b"[]"


class _Away(Exception):
    """The back end's fault, for now. The text says what was wrong."""


@attrs.frozen(kw_only=True)
class ProviderStatistics:
    """``failed`` by reason: "refused" (4xx and other statuses), "bad" (an answer that is none), "away" (no
    connection, or 5xx), "slow" (the caller's time was up). ``waiting`` is the fetches under way."""

    answered: int
    failed: dict[str, int]
    retried: int
    waiting: int


class HttpSnapshots(trio.abc.AsyncResource):
    """Asks back ends for states. Satisfies ``hub.core.contracts.SnapshotProvider``.

    Resource handling: keeps connections open between fetches, at most ``settings.connections``; ``aclose`` ends
    them. A fetch that is cancelled gives its connection back or closes it.

    Error handling: where there is no connection, where it breaks, and at 5xx, a fetch tries again, as long as the
    caller's deadline leaves time for it and ``PAUSES`` has another. No redirect is followed: whoever it names would
    get the headers.
    """

    def __init__(
        self,
        settings: ProviderSettings,
        *,
        tls: ssl.SSLContext | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``tls`` says whom to trust (None: the system's authorities); ``jitter`` gives numbers from 0 to 1."""
        self._answer_size = int(settings.answer_size)
        self._jitter = jitter
        self._answered = self._retried = self._waiting = 0
        self._failed = {"refused": 0, "bad": 0, "away": 0, "slow": 0}
        self._client = httpx.AsyncClient(
            verify=tls or ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(
                max_connections=settings.connections, max_keepalive_connections=settings.connections
            ),
            timeout=httpx.Timeout(None, connect=settings.timeout * _CONNECT_SHARE),
            # One client asks for everybody: a cookie of one user's answer must not go with another's request.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            # A compressed answer could be a thousand times what its bound allows.
            headers={"accept": "application/json", **settings.headers, "accept-encoding": "identity"},
        )

    async def fetch(self, url: str) -> bytes:
        """The state at ``url`` as JSON on one line; ``[]`` where the back end answers 204.

        Raises SnapshotUnavailable, whose text has neither the URL's path nor its query. The caller holds the clock.
        """
        deadline = trio.current_effective_deadline()
        self._waiting += 1
        try:
            state = await self._fetch(url, deadline)
        except trio.Cancelled:
            if trio.current_time() >= deadline:  # else whoever wanted it has left
                self._failed["slow"] += 1
            raise
        finally:
            self._waiting -= 1
        self._answered += 1
        return state

    async def aclose(self) -> None:
        """Closes all connections; fetches that are under way fail."""
        await self._client.aclose()

    def statistics(self) -> ProviderStatistics:
        return ProviderStatistics(
            answered=self._answered, failed=dict(self._failed), retried=self._retried, waiting=self._waiting
        )

    # --- tries --------------------------------------------------------------------------------------------

    async def _fetch(self, url: str, deadline: float) -> bytes:
        pauses = iter(PAUSES)
        while True:
            try:
                return await self._try(url)
            except _Away as away:
                pause = next(pauses, math.inf) * (1.0 - self._jitter() / 2)
                if trio.current_time() + pause >= deadline or pause == math.inf:
                    raise self._unavailable("away", url, str(away)) from None
            self._retried += 1
            await trio.sleep(pause)

    async def _try(self, url: str) -> bytes:
        """One request. Raises _Away where another may do better."""
        try:
            async with self._client.stream("GET", url) as response:
                if response.status_code == HTTPStatus.NO_CONTENT:
                    await response.aread()  # or else its connection is not used again
                    return _NOTHING
                if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise _Away(f"HTTP {response.status_code}")
                if response.status_code != HTTPStatus.OK:
                    raise self._unavailable("refused", url, f"HTTP {response.status_code}")
                return await self._read(url, response)
        except httpx.InvalidURL:
            raise self._unavailable("refused", url, "no URL that can be asked") from None
        except httpx.TransportError as error:
            raise _Away(_describe(error)) from None

    async def _read(self, url: str, response: httpx.Response) -> bytes:
        """The body, as far as it is what it should be."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise self._unavailable("bad", url, "an encoded answer, which was not asked for")
        body = bytearray()
        with trio.CancelScope() as scope:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > self._answer_size:
                    # Not `break`: httpx's generators would be left to the garbage collector. Cancelled, they end.
                    scope.cancel()
        if len(body) > self._answer_size:
            raise self._unavailable("bad", url, f"an answer of more than {self._answer_size} bytes")
        try:
            return check_payload(bytes(body))
        except BadPayload as error:
            raise self._unavailable("bad", url, str(error)) from None

    def _unavailable(self, reason: str, url: str, text: str) -> SnapshotUnavailable:
        self._failed[reason] += 1
        return SnapshotUnavailable(f"{_host(url)}: {text}")


def _host(url: str) -> str:
    return re.split("[/?]", url.partition("://")[2], maxsplit=1)[0]


def _describe(error: httpx.TransportError) -> str:
    """The first words in the chain of causes: for TLS and closed connections, httpx has none of its own."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {cause}" if cause is not None else type(error).__name__
