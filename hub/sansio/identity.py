"""Who a client is."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class Identity:
    """``user`` is None for the anonymous; ``tier`` names the limits that apply; ``roles`` are what the token calls
    permissions; ``expires_at`` (Unix seconds) is when the credentials end, None: never."""

    user: str | None = None
    tier: str = "anonymous"
    roles: frozenset[str] = frozenset()
    expires_at: float | None = None


ANONYMOUS = Identity()


def identity_as_json(identity: Identity) -> dict[str, Any]:
    """How a client is told who it is; ``expiresAt`` is Unix milliseconds."""
    expires_at = None if identity.expires_at is None else int(identity.expires_at * 1000)
    return {"userId": identity.user, "tier": identity.tier, "expiresAt": expires_at}
