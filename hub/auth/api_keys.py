"""API keys, for programs that cannot refresh a token: ``Authorization: ApiKey <key>``."""

from __future__ import annotations

import hmac
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import attrs
import trio

from hub.auth.claims import expired, unauthenticated
from hub.auth.key_file import ApiKey, KeyFileBroken, decode_keys, hash_key
from hub.sansio.identity import Identity

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether the file has changed.
LOOK_INTERVAL: Final = 1.0
#: Bytes; a hundred thousand keys or so.
MAX_FILE: Final = 32 * 1024 * 1024
#: Characters; ours have 47.
MAX_KEY: Final = 256


@attrs.frozen
class _Loaded:
    """``signature`` differs when the file has changed, be it only in who may read it."""

    by_hash: Mapping[str, ApiKey]
    signature: tuple[int, ...]


class ApiKeys:
    """The keys in a file, read again when it changes. ``now`` is Unix seconds.

    Raises OSError and KeyFileBroken when the file cannot be used at the start. Later the old keys stay: a slip of
    the operator's must not lock everybody out.
    """

    def __init__(self, path: Path, *, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._loaded = _read(path)
        self._looked_at = -math.inf
        self._is_loading = False
        self._problem = ""

    def __len__(self) -> int:
        return len(self._loaded.by_hash)

    async def identify(self, key: str) -> Identity:
        """Whose key it is. Raises RequestRefused: 40101 for one that has expired, 40100 for any other."""
        if trio.current_time() - self._looked_at >= LOOK_INTERVAL and not self._is_loading:
            self._looked_at = trio.current_time()
            await self._load_again()
        found = self._find(key) if len(key) <= MAX_KEY else None
        if found is None:
            raise unauthenticated("invalid API key")
        expires_at = None if found.expires is None else found.expires.timestamp()
        if expires_at is not None and expires_at <= self._now():
            raise expired("API key expired")
        return Identity(
            user=found.user, tier=found.tier, roles=frozenset(found.permissions), expires_at=expires_at
        )

    def _find(self, key: str) -> ApiKey | None:
        """Looks a key up by its hash. How long that takes depends on the hash's bits, which nobody can choose; and
        what was found is compared in constant time."""
        digest = hash_key(key)
        found = self._loaded.by_hash.get(digest)
        return found if found is not None and hmac.compare_digest(found.hash, digest) else None

    async def _load_again(self) -> None:
        self._is_loading = True
        try:
            if self._has_changed():
                # A long file takes its time, and clients shall not wait for it.
                self._loaded = await trio.to_thread.run_sync(_read, self._path)
                logger.info("API keys loaded", extra={"keys": len(self)})
            self._problem = ""
        except (OSError, KeyFileBroken) as error:
            self._complain(error.strerror or str(error) if isinstance(error, OSError) else str(error))
        finally:
            self._is_loading = False

    def _has_changed(self) -> bool:
        return _signature(os.stat(self._path)) != self._loaded.signature

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            fields = {"path": str(self._path), "error": problem, "keys": len(self)}
            logger.error("API key file unusable", extra=fields)
        self._problem = problem


def _read(path: Path) -> _Loaded:
    with path.open("rb") as file:
        signature = _signature(os.fstat(file.fileno()))
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise KeyFileBroken(f"more than {MAX_FILE} bytes")
    return _Loaded({key.hash: key for key in decode_keys(data)}, signature)


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
