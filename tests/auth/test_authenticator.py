"""Which of a request's credentials count, and that nothing else comes of them but an identity or a refusal."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trio
import trio.testing
from hypothesis import strategies as st

from hub.auth import AuthSettings, HubAuthenticator
from hub.auth.key_file import ApiKey, change_keys, hash_key, make_key
from hub.core.contracts import Authenticator, Request
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from tests.auth.tokens import Issuer

NOW = 1_800_000_000.0
ISSUER = Issuer("ES256", now=lambda: NOW)
GATEWAY = "10.1.0.1"
OUTSIDE = "203.0.113.1"
KEY = make_key()


class Clock:
    """Time of day, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(tmp_path: Path, clock: Clock) -> HubAuthenticator:
    """One that takes credentials of every kind."""
    (tmp_path / "key.pem").write_text(ISSUER.public_pem)
    created = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    entry = ApiKey(id="k", hash=hash_key(KEY), user="by-key", tier="mm", created=created)
    change_keys(tmp_path / "keys.toml", lambda keys: [entry])
    settings = AuthSettings(
        jwt_algorithms=("ES256",),
        jwt_key_files=(str(tmp_path / "key.pem"),),
        api_key_file=str(tmp_path / "keys.toml"),
        gateway_networks=("10.1.0.0/16",),
    )
    return HubAuthenticator(settings, now=clock)


def request(
    query: str = "", headers: Mapping[str, str] | None = None, *, peer: str = OUTSIDE, client: str = OUTSIDE
) -> Request:
    return Request(
        method="GET", path="/poll", query=query, headers=headers or {}, peer=client, direct_peer=peer
    )


async def code_of(authenticator: HubAuthenticator, of: Request) -> ErrorCode:
    with pytest.raises(RequestRefused) as caught:
        await authenticator.identify(of)
    return caught.value.code


def bearer(user: str, **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {ISSUER.token(user, **claims)}"}


# --- which count --------------------------------------------------------------------------------------------


async def test_without_credentials_a_client_is_anonymous(authenticator: HubAuthenticator) -> None:
    as_contract: Authenticator = authenticator
    assert await as_contract.identify(request()) is ANONYMOUS
    assert await authenticator.identify(request("channels=a&tokens=1&Token=x&my_ticket=2")) is ANONYMOUS


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
async def test_a_token_in_the_header(scheme: str, authenticator: HubAuthenticator) -> None:
    headers = {"authorization": f"{scheme} {ISSUER.token('alice')}"}
    assert (await authenticator.identify(request(headers=headers))).user == "alice"


@pytest.mark.parametrize("scheme", ["ApiKey", "apikey"])
async def test_a_key_in_the_header(scheme: str, authenticator: HubAuthenticator) -> None:
    found = await authenticator.identify(request(headers={"authorization": f"{scheme} {KEY}"}))
    assert found == Identity(user="by-key", tier="mm")


@pytest.mark.parametrize("field", ["token={}", "a=1&token={}&b", "%74oken={}", "&&token={}&token2=x"])
async def test_a_token_in_the_query(field: str, authenticator: HubAuthenticator) -> None:
    token = ISSUER.token("alice").replace("-", "%2D")
    assert (await authenticator.identify(request(field.format(token)))).user == "alice"


async def test_a_ticket_in_the_query_is_good_once(authenticator: HubAuthenticator) -> None:
    identity = await authenticator.verify_token(ISSUER.token("alice", tier="mm", permissions=["x"]))
    ticket, seconds = authenticator.issue_ticket(identity)
    assert seconds == 30.0
    assert await authenticator.identify(request(f"ticket={ticket}")) == identity
    assert await code_of(authenticator, request(f"ticket={ticket}")) == ErrorCode.UNAUTHENTICATED
    assert authenticator.statistics().tickets.failed == {"expired": 0, "used": 1, "invalid": 0}


async def test_a_gateways_word(authenticator: HubAuthenticator) -> None:
    headers = {"x-user-id": "alice", "x-user-tier": "mm"}
    assert await authenticator.identify(request(headers=headers, peer=GATEWAY)) == Identity(
        user="alice", tier="mm"
    )
    assert await authenticator.identify(request(headers=headers)) is ANONYMOUS


async def test_an_address_that_was_forwarded_is_no_gateway(authenticator: HubAuthenticator) -> None:
    spoofed = request(headers={"x-user-id": "alice"}, peer=OUTSIDE, client=GATEWAY)
    assert await authenticator.identify(spoofed) is ANONYMOUS


async def test_the_first_kind_counts(authenticator: HubAuthenticator) -> None:
    gateway = {"x-user-id": "by-gateway"}
    ticket, _ = authenticator.issue_ticket(Identity(user="by-ticket"))
    query = f"token={ISSUER.token('by-query')}&ticket={ticket}"

    async def user_of(query: str, headers: Mapping[str, str]) -> str | None:
        return (await authenticator.identify(request(query, {**gateway, **headers}, peer=GATEWAY))).user

    assert await user_of(query, bearer("by-header")) == "by-header"
    assert await user_of(query, {"authorization": f"ApiKey {KEY}"}) == "by-key"
    assert await user_of(query, {}) == "by-ticket"  # none of those before has used it up
    assert await user_of(f"token={ISSUER.token('by-query')}", {}) == "by-query"
    assert await user_of("", {}) == "by-gateway"
    # A proxy's own password is none of our affair.
    assert await user_of("", {"authorization": "Basic YTpi"}) == "by-gateway"


async def test_bad_credentials_are_not_made_up_for_by_others(authenticator: HubAuthenticator) -> None:
    """Whoever shows something wrong is told so, and does not become somebody else."""
    good = f"token={ISSUER.token('alice')}"
    for headers in (
        {"authorization": "Bearer x"},
        {"authorization": "Bearer"},
        {"authorization": "ApiKey"},
        {"authorization": "ApiKey x"},
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"Bearer {ISSUER.token('a')}, Bearer {ISSUER.token('a')}"},
    ):
        headers["x-user-id"] = "alice"
        assert await code_of(authenticator, request(good, headers, peer=GATEWAY)) == ErrorCode.UNAUTHENTICATED
    for query in ("token=", "ticket=", "token", "token=x", "ticket=x", f"ticket=x&{good}"):
        of = request(query, {"x-user-id": "alice"}, peer=GATEWAY)
        assert await code_of(authenticator, of) == ErrorCode.UNAUTHENTICATED


async def test_a_field_that_comes_twice(authenticator: HubAuthenticator) -> None:
    token = ISSUER.token("alice")
    for query in (
        f"token={token}&token={token}",
        f"token={token}&%74oken=",
        f"ticket=x&ticket&token={token}",
    ):
        assert await code_of(authenticator, request(query)) == ErrorCode.UNAUTHENTICATED


async def test_expired_credentials_are_told_as_such(
    authenticator: HubAuthenticator, mock_clock: trio.testing.MockClock
) -> None:
    of = request(headers=bearer("alice", expires_in=-60))
    assert await code_of(authenticator, of) == ErrorCode.TOKEN_EXPIRED
    ticket, seconds = authenticator.issue_ticket(Identity(user="alice"))
    mock_clock.jump(seconds)
    assert await code_of(authenticator, request(f"ticket={ticket}")) == ErrorCode.TOKEN_EXPIRED


async def test_a_ticket_does_not_outlive_the_token(authenticator: HubAuthenticator, clock: Clock) -> None:
    identity = await authenticator.verify_token(ISSUER.token("alice", expires_in=5))
    for passed, is_good in ((34, True), (35, False)):  # as with the token itself, 30 s of leeway
        ticket, _ = authenticator.issue_ticket(identity)
        clock.now = NOW + passed
        if is_good:
            assert await authenticator.identify(request(f"ticket={ticket}")) == identity
        else:
            assert await code_of(authenticator, request(f"ticket={ticket}")) == ErrorCode.TOKEN_EXPIRED


async def test_the_anonymous_get_no_ticket(authenticator: HubAuthenticator) -> None:
    with pytest.raises(RequestRefused) as caught:
        authenticator.issue_ticket(ANONYMOUS)
    assert caught.value.code == ErrorCode.UNAUTHENTICATED


async def test_a_hub_that_takes_none() -> None:
    authenticator = HubAuthenticator(AuthSettings(gateway_networks=()))
    headers = {"x-user-id": "alice", "x-user-tier": "mm"}
    assert await authenticator.identify(request(headers=headers, peer="127.0.0.1")) is ANONYMOUS
    for headers, query, msg in (
        (bearer("alice"), "", "this hub takes no tokens"),
        ({}, f"token={ISSUER.token('alice')}", "this hub takes no tokens"),
        ({"authorization": f"ApiKey {KEY}"}, "", "this hub takes no API keys"),
        ({}, "ticket=x", "invalid ticket"),
    ):
        with pytest.raises(RequestRefused) as caught:
            await authenticator.identify(request(query, headers))
        assert (caught.value.code, caught.value.msg) == (ErrorCode.UNAUTHENTICATED, msg)


async def test_it_runs_without_anything_to_do(
    authenticator: HubAuthenticator, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    await nursery.start(authenticator.run)
    await trio.sleep(3600)
    statistics = authenticator.statistics()
    assert (statistics.jwks, statistics.api_keys, statistics.tickets.issued) == (None, 1, 0)


# --- whatever a client sends --------------------------------------------------------------------------------

_SCHEMES = st.sampled_from(["Bearer ", "ApiKey ", "Basic ", "Bearer", "", "bearer\t", "BEARER  "])
_FIELDS = st.sampled_from(["token", "ticket", "%74oken", "tick%65t", "x", "", "token+"])
_VALUES = st.text() | st.sampled_from(["%", "%zz", "%ff", "+", KEY, ISSUER.token("alice")])


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(
    scheme=_SCHEMES,
    credentials=_VALUES,
    fields=st.lists(st.tuples(_FIELDS, _VALUES), max_size=3),
    user=st.none() | st.text(),
    peer=st.sampled_from([GATEWAY, OUTSIDE, "", "::1"]),
)
def test_nothing_raises_anything_else(
    scheme: str,
    credentials: str,
    fields: list[tuple[str, str]],
    user: str | None,
    peer: str,
    authenticator: HubAuthenticator,
) -> None:
    headers = {"authorization": scheme + credentials} if scheme or credentials else {}
    headers.update({} if user is None else {"x-user-id": user})
    query = "&".join(f"{name}={value}" for name, value in fields)
    code = trio.run(_code_of, authenticator, request(query, headers, peer=peer))
    assert code in (None, ErrorCode.UNAUTHENTICATED, ErrorCode.TOKEN_EXPIRED)


async def _code_of(authenticator: HubAuthenticator, of: Request) -> ErrorCode | None:
    try:
        await authenticator.identify(of)
    except RequestRefused as refused:
        return refused.code
    return None
