"""What credentials of any kind may say of their bearer: user, tier, permissions."""

from __future__ import annotations

from typing import Final

from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.tiers import TIER_NAMES

#: The tiers that a user can have. ``anonymous`` is for those who show no credentials.
USER_TIERS: Final = tuple(name for name in TIER_NAMES if name != "anonymous")
#: Longer than e-mail addresses and UUIDs are, short enough for logs, metrics and connection tables.
MAX_USER: Final = 128


def check_user(value: object) -> str:
    """``value`` as a user's name. Raises ValueError, without the value."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_USER:
        raise ValueError(f"a user is a text of 1 to {MAX_USER} characters")
    if not value.isprintable() or value != value.strip():  # two names must not look the same in a log
        raise ValueError("a user has printable characters only, and no space at the ends")
    return value


def known_tier(value: object, default: str) -> str:
    """The tier that credentials name, ``default`` where they name none that a user can have."""
    return value if isinstance(value, str) and value in USER_TIERS else default


def read_permissions(value: object) -> frozenset[str]:
    """Permissions as a list, or as a text with spaces between them (RFC 8693, section 4.2: ``scope``). What is
    neither gives no permission."""
    if isinstance(value, str):
        return frozenset(value.split())
    return (
        frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()
    )


def unauthenticated(msg: str) -> RequestRefused:
    """The refusal of credentials that are not valid (40100)."""
    return RequestRefused(ErrorCode.UNAUTHENTICATED, msg)


def expired(msg: str) -> RequestRefused:
    """The refusal of credentials that were valid once (40101)."""
    return RequestRefused(ErrorCode.TOKEN_EXPIRED, msg)
