"""Who a client is."""

from __future__ import annotations

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
