"""Who a client is."""

from __future__ import annotations

import attrs


@attrs.frozen
class Identity:
    """``user`` is None for the anonymous; ``tier`` names the limits that apply."""

    user: str | None = None
    tier: str = "anonymous"


ANONYMOUS = Identity()
