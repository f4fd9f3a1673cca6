"""Where a channel's numbers come from.

The core asks once per channel, when it is made, and counts on from there. Numbers that must be the same on
every node and after a restart come from a durable log; then its source brings a Numbering of its own.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Protocol

from hub.sansio.publication import Position

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


class Numbering(Protocol):
    def start(self, channel: str, user: str | None) -> Position:
        """The position before the first publication of a channel that is made now."""
        ...

    def forget(self, position: Position) -> None:
        """A channel that stood at ``position`` is no longer remembered."""
        ...


class MemoryNumbering:
    """Numbers of channels that live in this process's memory: from 1, under an epoch of this start.

    All public channels share an epoch, and so do those of one user, which keeps cursors short; another user's
    cursor means nothing. A channel that was forgotten may come back and count from 1 again, so whenever one is
    forgotten the epoch of those made later changes.
    """

    def __init__(self, now_ms: int) -> None:
        self._boot = _base36(now_ms) + "".join(secrets.choice(_ALPHABET) for _ in range(3))
        self._secret = secrets.token_bytes(16)
        self._generation = 0

    def start(self, channel: str, user: str | None) -> Position:
        epoch = f"{self._boot}.{self._generation}" if self._generation else self._boot
        return Position(epoch if user is None else f"{epoch}-{self._sign(user)}", 0)

    def _sign(self, user: str) -> str:
        digest = hashlib.blake2b(user.encode(), key=self._secret, digest_size=5).digest()
        return _base36(int.from_bytes(digest, "big"))

    def forget(self, position: Position) -> None:
        if position.seq:
            self._generation += 1


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _ALPHABET[digit] + digits
    return digits
