"""Who may have which channel: the ``allow`` of a namespace, and the owner in a channel's name."""

from __future__ import annotations

from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import Identity
from hub.sansio.names import Match
from hub.sansio.policies import Policy


def check_access(name: str, match: Match, identity: Identity) -> None:
    """Raises RequestRefused: 40100 for who should say who they are, 40102 for who may not."""
    policy = match.policy
    needs_user = policy.private or "user" in match.holes
    if needs_user and identity.user is None:
        raise RequestRefused(ErrorCode.UNAUTHENTICATED, "auth required", channel=name)
    if match.holes.get("user", identity.user) != identity.user or not _is_allowed(policy, identity):
        if identity.user is None:
            raise RequestRefused(ErrorCode.UNAUTHENTICATED, "auth required", channel=name)
        raise RequestRefused(ErrorCode.FORBIDDEN, "insufficient permissions", channel=name)


def is_open_to_anyone(match: Match) -> bool:
    """Whether a channel is there for clients without credentials."""
    policy = match.policy
    return not policy.private and "user" not in match.holes and (not policy.allow or "anyone" in policy.allow)


def _is_allowed(policy: Policy, identity: Identity) -> bool:
    return not policy.allow or any(_is_one_of(who, identity) for who in policy.allow)


def _is_one_of(who: str, identity: Identity) -> bool:
    if who == "anyone":
        return True
    if identity.user is None:
        return who == f"tier:{identity.tier}"
    kind, _, name = who.partition(":")
    return (
        who == "authenticated"
        or (kind == "user" and name == identity.user)
        or (kind == "tier" and name == identity.tier)
        or (kind == "role" and name in identity.roles)
    )
