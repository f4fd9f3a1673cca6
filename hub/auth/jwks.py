"""The issuer's keys at a URL (RFC 7517), fetched in the background.

All fetching is done by one task, so there is never more than one fetch at a time, and never two within PAUSE,
whatever clients send. Keys that were fetched once stay until a later set replaces them.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Collection
from typing import Final

import attrs
import httpx
import trio

from hub.auth.public_keys import PublicKey, UnusableKey, read_key_set
from hub.sansio.errors import ErrorCode, RequestRefused

logger = logging.getLogger(__name__)

#: Seconds between two fetches at least: what a flood of unknown key ids can make us ask for.
PAUSE: Final = 5.0
#: Seconds after which a fetch that failed is tried again, though nobody may need it.
RETRY: Final = 30.0
#: Bytes of a set. Those of large issuers have about 20 KB, with the certificates that we do not read.
MAX_SIZE: Final = 256 * 1024


class JwksUnavailable(Exception):
    """The issuer's fault, or the network's: there was no set of keys at the URL."""


@attrs.frozen(kw_only=True)
class JwksStatistics:
    """``keys`` are those in use; ``is_failing`` says that the last fetch brought none."""

    keys: int
    fetches: int
    is_failing: bool


class Jwks:
    """``keys`` are those of the last good answer. ``run`` must be running for there to be any."""

    def __init__(self, url: str, algorithms: Collection[str], *, refresh: float, timeout: float) -> None:
        self.keys: tuple[PublicKey, ...] = ()
        self.is_loaded = False
        #: Whether the last fetch failed.
        self.is_failing = False
        self.fetches = 0
        self._url = url
        self._algorithms = frozenset(algorithms)
        self._refresh = refresh
        self._timeout = timeout
        #: Set to have a fetch; None while none may begin.
        self._wanted: trio.Event | None = None
        #: Set when the fetch that is under way, or the next one, has ended.
        self._ended = trio.Event()
        self._is_fetching = False
        # The system's certificates, because an issuer may well have one of the operator's own authority.
        self._tls = ssl.create_default_context()

    def knows(self, kid: str | None) -> bool:
        """Whether a key of this id is there, so that a fetch would bring nothing new."""
        return kid is not None and any(key.kid == kid for key in self.keys)

    def statistics(self) -> JwksStatistics:
        return JwksStatistics(keys=len(self.keys), fetches=self.fetches, is_failing=self.is_failing)

    async def renew(self) -> bool:
        """Waits for a fetch: the one under way, or one that begins now. Returns at once where none may, and then, or
        when it failed, False. Raises RequestRefused (50001) where no keys were ever loaded."""
        fetches = self.fetches
        if self._wanted is not None:
            self._wanted.set()
        if self._wanted is not None or self._is_fetching:
            await self._ended.wait()
        if not self.is_loaded:
            raise RequestRefused(ErrorCode.UNAVAILABLE, "tokens cannot be verified now; try again later")
        return self.fetches > fetches and not self.is_failing

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetches, at once and then as often as it is due or wanted, until cancelled."""
        try:
            self._is_fetching = True
            task_status.started()
            while True:
                await self._update()
                await trio.sleep(PAUSE)
                self._wanted = trio.Event()
                patience = min(RETRY, self._refresh) if self.is_failing else self._refresh
                with trio.move_on_after(patience - PAUSE):
                    await self._wanted.wait()
                self._wanted, self._is_fetching = None, True
        finally:
            self._wanted = None
            self._end_fetch()

    def _end_fetch(self) -> None:
        self._is_fetching = False
        self._ended.set()
        self._ended = trio.Event()

    async def _update(self) -> None:
        try:
            with trio.fail_after(self._timeout):
                text = await self._fetch()
            found = read_key_set(text, self._algorithms)
        except trio.TooSlowError:
            self._fail(f"no answer within {self._timeout:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, JwksUnavailable, UnusableKey, UnicodeError) as error:
            self._fail(str(error) or type(error).__name__)
        else:
            self._take(found.keys, found.skipped)
        self.fetches += 1
        self._end_fetch()

    def _take(self, keys: tuple[PublicKey, ...], skipped: int) -> None:
        has_changed = {key.kid for key in keys} != {key.kid for key in self.keys}
        fields = {"keys": len(keys), "skipped": skipped}
        if not keys:
            # The issuer's word: it may have withdrawn them all.
            logger.warning("JWKS has no usable key", extra=fields)
        elif has_changed or self.is_failing or not self.is_loaded:
            logger.info("JWKS loaded", extra=fields)
        self.keys, self.is_loaded, self.is_failing = keys, True, False

    def _fail(self, error: str) -> None:
        if not self.is_failing:
            logger.error("JWKS unavailable", extra={"error": error, "keys": len(self.keys)})
        self.is_failing = True

    async def _fetch(self) -> bytes:
        """The body of a 200 answer. Redirects are not followed: who gets in is decided at the configured place."""
        # Unpacked, a small answer could become any size.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        async with httpx.AsyncClient(
            verify=self._tls, trust_env=False, follow_redirects=False, timeout=None, headers=headers
        ) as client:
            async with client.stream("GET", self._url) as response:
                if response.status_code != httpx.codes.OK:
                    raise JwksUnavailable(f"answered HTTP {response.status_code}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise JwksUnavailable("answered with an encoding that was not asked for")
                return await _read_body(response)


async def _read_body(response: httpx.Response) -> bytes:
    body = bytearray()
    with trio.CancelScope() as enough:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_SIZE:
                # httpx 0.28 leaves six generators open behind a `break`; cancelled at their await, all of them end.
                enough.cancel()
    if len(body) > MAX_SIZE:
        raise JwksUnavailable(f"answered with more than {MAX_SIZE} bytes")
    return bytes(body)
