"""Who may have which channel: the whole table, and one rule against all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.access import check_access, is_open_to_anyone
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.names import Match, Namespaces
from hub.sansio.policies import Policy, check_allowed

ANNA = Identity("anna", "retail")
MAKER = Identity("max", "mm", frozenset({"desk", "audit"}))
WHO = {"nobody": ANONYMOUS, "anna": ANNA, "max": MAKER}
OK, AUTH, FORBIDDEN = 0, ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN

#: allow, private, holes: what each of nobody, anna and max is told
TABLE: list[tuple[tuple[str, ...], bool, dict[str, str], tuple[int, int, int]]] = [
    ((), False, {}, (OK, OK, OK)),
    (("anyone",), False, {}, (OK, OK, OK)),
    (("authenticated",), False, {}, (AUTH, OK, OK)),
    (("user:anna",), False, {}, (AUTH, OK, FORBIDDEN)),
    (("user:None",), False, {}, (AUTH, FORBIDDEN, FORBIDDEN)),
    (("tier:mm",), False, {}, (AUTH, FORBIDDEN, OK)),
    (("tier:anonymous",), False, {}, (OK, FORBIDDEN, FORBIDDEN)),
    (("tier:anonymous", "tier:mm"), False, {}, (OK, FORBIDDEN, OK)),
    (("role:desk",), False, {}, (AUTH, FORBIDDEN, OK)),
    (("role:des",), False, {}, (AUTH, FORBIDDEN, FORBIDDEN)),
    (("role:nobody", "user:anna"), False, {}, (AUTH, OK, FORBIDDEN)),
    ((), True, {}, (AUTH, OK, OK)),
    (("anyone",), True, {}, (AUTH, OK, OK)),
    (("tier:anonymous",), True, {}, (AUTH, FORBIDDEN, FORBIDDEN)),
    (("tier:mm",), True, {}, (AUTH, FORBIDDEN, OK)),
    ((), False, {"user": "anna"}, (AUTH, OK, FORBIDDEN)),
    (("anyone",), False, {"user": "anna"}, (AUTH, OK, FORBIDDEN)),
    (("user:max",), False, {"user": "anna"}, (AUTH, FORBIDDEN, FORBIDDEN)),
    (("role:desk",), False, {"user": "max"}, (AUTH, FORBIDDEN, OK)),
    ((), True, {"user": "max"}, (AUTH, FORBIDDEN, OK)),
    ((), False, {"user": "None"}, (AUTH, FORBIDDEN, FORBIDDEN)),
    ((), False, {"market": "anna"}, (OK, OK, OK)),
]


def told(match: Match, identity: Identity) -> int:
    refusal = None
    try:
        check_access("the:channel", match, identity)
    except RequestRefused as error:
        refusal = error
    if refusal is None:
        return OK
    assert refusal.channel == "the:channel"
    assert refusal.msg == ("auth required" if refusal.code == AUTH else "insufficient permissions")
    return refusal.code


@pytest.mark.parametrize("allow, private, holes, expected", TABLE)
def test_the_table(
    allow: tuple[str, ...], private: bool, holes: dict[str, str], expected: tuple[int, int, int]
) -> None:
    match = Match(Policy(pattern="x", allow=allow, private=private), holes)
    assert tuple(told(match, identity) for identity in WHO.values()) == expected


users = st.none() | st.sampled_from(("anna", "max", "None", "anyone"))
identities = st.builds(
    lambda user, tier, roles: Identity(user, "anonymous" if user is None else tier, frozenset(roles)),
    users, st.sampled_from(("retail", "mm")), st.sets(st.sampled_from(("desk", "anna", "mm")), max_size=2),
)  # fmt: skip
allowed = st.sampled_from(
    ("anyone", "authenticated", "user:anna", "user:None", "tier:mm", "tier:retail", "role:desk", "role:anna", "role:mm")
)  # fmt: skip
matches = st.builds(
    lambda allow, private, owner: Match(
        Policy(pattern="x", allow=tuple(allow), private=private), {} if owner is None else {"user": owner}
    ),
    st.lists(allowed, max_size=3), st.booleans(), users,
)  # fmt: skip


@given(match=matches, identity=identities)
def test_what_holds_for_all(match: Match, identity: Identity) -> None:
    code = told(match, identity)
    assert (code == AUTH) == (code != OK and identity.user is None), "who is known is not asked who they are"
    if is_open_to_anyone(match):
        assert told(match, ANONYMOUS) == OK
    if code == OK:
        owner = match.holes.get("user")
        assert owner is None or owner == identity.user, "another user's channel"
        assert identity.user is not None or not match.policy.private
        more = Identity(identity.user, identity.tier, identity.roles | {"more"})
        assert told(match, more) == OK, "a role took a right away"


@given(match=matches)
def test_what_anyone_may_have_needs_no_credentials(match: Match) -> None:
    assert is_open_to_anyone(match) == (told(match, ANONYMOUS) == OK)


def test_the_owner_in_a_name() -> None:
    namespaces = Namespaces((Policy(pattern="user:{user}:*"),), {})
    assert told(namespaces.match("user:anna:news"), ANNA) == OK
    assert told(namespaces.match("user:max:anna"), ANNA) == FORBIDDEN
    assert told(namespaces.match("user:anna:max"), MAKER) == FORBIDDEN


@pytest.mark.parametrize("who", ["anyone", "authenticated", "user:a", "tier:mm", "role:a b", "user:auth0|1"])
def test_groups(who: str) -> None:
    check_allowed(who)


@pytest.mark.parametrize("who", ["", "nobody", "anyone:x", "user", "user:", "Anyone", "group:a", "role"])
def test_not_a_group(who: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        check_allowed(who)
