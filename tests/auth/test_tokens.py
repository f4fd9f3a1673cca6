"""Tokens: which are believed, and that no other is, however it was made."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import strategies as st

from hub.auth import AuthConfigurationError, AuthSettings, HubAuthenticator
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import Identity
from tests.auth.tokens import Issuer, encode_json, encode_segment

NOW = 1_800_000_000.0
LEEWAY = 30.0


@cache
def issuer_of(algorithm: str, kid: str | None = None, number: int = 0) -> Issuer:
    """The same for the whole run: making RSA keys takes time. ``number`` tells issuers apart."""
    return Issuer(algorithm, kid, now=lambda: NOW)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., HubAuthenticator]:
    """Makes authenticators that know the public keys of issuers."""

    def make(*issuers: Issuer, now: float = NOW, **settings: Any) -> HubAuthenticator:
        entries = []
        for number, issuer in enumerate(issuers):
            path = tmp_path / f"{number}.pem"
            path.write_text(issuer.public_pem)
            entries.append(f"{issuer.kid}={path}" if issuer.kid is not None else str(path))
        settings.setdefault("jwt_algorithms", tuple({issuer.algorithm: None for issuer in issuers}))
        return HubAuthenticator(AuthSettings(jwt_key_files=tuple(entries), **settings), now=lambda: now)

    return make


Make = Callable[..., HubAuthenticator]


async def refusal_of(authenticator: HubAuthenticator, token: str) -> ErrorCode:
    with pytest.raises(RequestRefused) as caught:
        await authenticator.verify_token(token)
    assert caught.value.msg in ("token expired", "invalid token")
    assert caught.value.__suppress_context__  # what PyJWT says of the token goes no further
    return caught.value.code


# --- good ones ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("kid", [None, "k1"])
async def test_a_signed_token_says_who_it_is(algorithm: str, kid: str | None, make: Make) -> None:
    issuer = issuer_of(algorithm, kid)
    token = issuer.token("alice", tier="mm", permissions=["trade", "read"])
    assert await make(issuer).verify_token(token) == Identity(
        user="alice", tier="mm", roles=frozenset({"trade", "read"}), expires_at=NOW + 3600
    )


async def test_a_key_without_an_id_fits_a_token_that_names_one(make: Make) -> None:
    issuer = issuer_of("RS256", None)
    token = issuer.sign({"sub": "alice", "exp": NOW + 9}, kid="whatever")
    assert (await make(issuer).verify_token(token)).user == "alice"


async def test_a_token_without_key_id_is_tried_with_all_keys_of_its_type(make: Make) -> None:
    issuers = [issuer_of("RS256", "a"), issuer_of("ES256", "b"), issuer_of("RS256", "c", 1)]
    nameless = Issuer("RS256", None, key=issuers[2].key, now=lambda: NOW)
    assert (await make(*issuers).verify_token(nameless.token("alice"))).user == "alice"


async def test_a_certificate_is_a_public_key(tmp_path: Path) -> None:
    issuer = issuer_of("RS256")
    assert isinstance(issuer.key, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    first = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, issuer.key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(first).not_valid_after(first + datetime.timedelta(days=1))
    (tmp_path / "issuer.crt").write_bytes(
        builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)
    )
    settings = AuthSettings(jwt_key_files=(str(tmp_path / "issuer.crt"),))
    authenticator = HubAuthenticator(settings, now=lambda: NOW)
    assert (await authenticator.verify_token(issuer.token("alice"))).user == "alice"


@pytest.mark.parametrize(
    "claims, identity",
    [
        ({"tier": "mm"}, {"tier": "mm"}),
        ({"tier": "retail"}, {"tier": "retail"}),
        ({"tier": "anonymous"}, {"tier": "mm"}),
        ({"tier": "admin"}, {"tier": "mm"}),
        ({"tier": ["retail"]}, {"tier": "mm"}),
        ({"tier": None}, {"tier": "mm"}),
        ({"permissions": "trade read trade"}, {"roles": {"trade", "read"}}),
        ({"permissions": ["trade", 7, None, ["x"]]}, {"roles": {"trade"}}),
        ({"permissions": {"trade": True}}, {"roles": set()}),
        ({"permissions": 7}, {"roles": set()}),
        ({"permissions": None}, {"roles": set()}),
        ({"sub": "ğ" * 128}, {"user": "ğ" * 128}),
        ({"sub": "a b"}, {"user": "a b"}),
        ({"aud": "somebody"}, {}),
        ({"aud": 7, "iss": 7, "jti": 7}, {}),
    ],
)
async def test_claims(claims: Mapping[str, Any], identity: Mapping[str, Any], make: Make) -> None:
    issuer = issuer_of("ES256")
    found = await make(issuer, default_tier="mm").verify_token(issuer.token("alice", **claims))
    for name, value in identity.items():
        assert getattr(found, name) == value


async def test_claims_may_have_other_names(make: Make) -> None:
    issuer = issuer_of("ES256")
    token = issuer.sign(
        {"uid": "bob", "https://x.test/tier": "mm", "scope": "a b", "exp": NOW + 1, "sub": 7, "tier": "x"}
    )
    names = {"user_claim": "uid", "tier_claim": "https://x.test/tier", "roles_claim": "scope"}
    found = await make(issuer, **names).verify_token(token)
    assert found == Identity(user="bob", tier="mm", roles=frozenset("ab"), expires_at=NOW + 1)


# --- times --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claims, code",
    [
        ({"exp": NOW - LEEWAY + 1}, None),
        ({"exp": NOW - LEEWAY}, ErrorCode.TOKEN_EXPIRED),
        ({"exp": 0}, ErrorCode.TOKEN_EXPIRED),
        ({"exp": NOW + 0.5}, None),
        ({"exp": None}, ErrorCode.UNAUTHENTICATED),
        ({"exp": str(NOW + 9)}, ErrorCode.UNAUTHENTICATED),
        ({"exp": True}, ErrorCode.UNAUTHENTICATED),
        ({"exp": [NOW + 9]}, ErrorCode.UNAUTHENTICATED),
        ({"exp": float("inf")}, ErrorCode.UNAUTHENTICATED),
        ({"exp": float("nan")}, ErrorCode.UNAUTHENTICATED),
        ({"exp": -1}, ErrorCode.UNAUTHENTICATED),
        ({"exp": 253402300799}, None),
        ({"exp": 253402300800}, ErrorCode.UNAUTHENTICATED),
        ({"exp": 10**400}, ErrorCode.UNAUTHENTICATED),
        ({"nbf": NOW + LEEWAY}, None),
        ({"nbf": NOW + LEEWAY + 1}, ErrorCode.UNAUTHENTICATED),
        ({"nbf": "soon"}, ErrorCode.UNAUTHENTICATED),
        ({"iat": NOW + LEEWAY}, None),
        ({"iat": NOW + LEEWAY + 1}, ErrorCode.UNAUTHENTICATED),
        ({"iat": {}}, ErrorCode.UNAUTHENTICATED),
        ({"iat": None}, None),
        ({"nbf": NOW + 99, "exp": NOW - 99}, ErrorCode.UNAUTHENTICATED),
    ],
)
async def test_times(claims: Mapping[str, Any], code: ErrorCode | None, make: Make) -> None:
    issuer = issuer_of("ES256")
    authenticator, token = make(issuer, leeway=LEEWAY), issuer.token("alice", **claims)
    if code is None:
        assert (await authenticator.verify_token(token)).user == "alice"
    else:
        assert await refusal_of(authenticator, token) == code


# --- issuer and audience ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claims, is_good",
    [
        ({"iss": "https://login.test", "aud": "hub"}, True),
        ({"iss": "https://login.test", "aud": ["other", "hub"]}, True),
        ({"iss": "https://login.test"}, False),
        ({"aud": "hub"}, False),
        ({"iss": "https://login.test/", "aud": "hub"}, False),
        ({"iss": ["https://login.test"], "aud": "hub"}, False),
        ({"iss": "https://login.test", "aud": "hub2"}, False),
        ({"iss": "https://login.test", "aud": []}, False),
        ({"iss": "https://login.test", "aud": {"hub": 1}}, False),
        ({"iss": "https://login.test", "aud": ["hub", 7]}, False),
    ],
)
async def test_issuer_and_audience(claims: Mapping[str, Any], is_good: bool, make: Make) -> None:
    issuer = issuer_of("ES256")
    authenticator = make(issuer, issuer="https://login.test", audience="hub")
    token = issuer.token("alice", **claims)
    if is_good:
        assert (await authenticator.verify_token(token)).user == "alice"
    else:
        assert await refusal_of(authenticator, token) == ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "user", [None, "", 7, "a" * 129, "a\nb", "a\x00", " alice", "alice ", "\ud800", ["alice"]]
)
async def test_a_user_has_a_name(user: object, make: Make) -> None:
    issuer = issuer_of("ES256")
    assert await refusal_of(make(issuer), issuer.token(user)) == ErrorCode.UNAUTHENTICATED


# --- forgeries ----------------------------------------------------------------------------------------------


def forge(header: object, claims: object, signature: bytes) -> str:
    return f"{encode_json(header)}.{encode_json(claims)}.{encode_segment(signature)}"


GOOD = {"sub": "alice", "exp": NOW + 9}


async def test_another_key_is_no_signature(make: Make) -> None:
    for kid in (None, "k1"):
        ours, theirs = issuer_of("RS256", kid), issuer_of("RS256", kid, 1)
        assert await refusal_of(make(ours), theirs.token("alice")) == ErrorCode.UNAUTHENTICATED


async def test_an_expired_forgery_is_not_told_that_it_expired(make: Make) -> None:
    forged = issuer_of("RS256", None, 1).token("alice", expires_in=-999)
    assert await refusal_of(make(issuer_of("RS256")), forged) == ErrorCode.UNAUTHENTICATED


async def test_a_changed_payload_is_refused(make: Make) -> None:
    issuer = issuer_of("RS256")
    header, _, signature = issuer.token("alice").split(".")
    forged = f"{header}.{encode_json({**GOOD, 'sub': 'bob'})}.{signature}"
    assert await refusal_of(make(issuer), forged) == ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 0, ["RS256"], {"RS256": 1}])
async def test_no_algorithm_is_none(algorithm: object, make: Make) -> None:
    issuer = issuer_of("RS256")
    for signature in (b"", b"x", b"\0" * 256):
        forged = forge({"alg": algorithm}, GOOD, signature)
        assert await refusal_of(make(issuer), forged) == ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("kid", [None, "k1"])
async def test_a_public_key_is_no_secret_of_an_hmac(algorithm: str, kid: str | None, make: Make) -> None:
    """The oldest trick: everybody has the public key, and HMAC signs with what it verifies with."""
    issuer = issuer_of("RS256", kid)
    head = encode_json({"alg": algorithm, **({"kid": kid} if kid else {})})
    text = f"{head}.{encode_json(GOOD)}".encode()
    pem = issuer.public_pem
    for secret in (pem, pem.strip(), pem.replace("\n", "\r\n"), ""):
        digest = hmac.digest(secret.encode(), text, getattr(hashlib, f"sha{algorithm[2:]}"))
        forged = f"{text.decode()}.{encode_segment(digest)}"
        assert await refusal_of(make(issuer), forged) == ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize("signed_with", ["RS256", "PS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("configured", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_only_configured_algorithms_count(signed_with: str, configured: str, make: Make) -> None:
    """An issuer's own key, and a kind of signature that nobody has allowed."""
    ours, theirs = issuer_of(configured, "k1"), issuer_of(signed_with, "k1")
    if signed_with == configured:
        return
    assert await refusal_of(make(ours), theirs.token("alice")) == ErrorCode.UNAUTHENTICATED
    liar = theirs.sign(GOOD, alg=configured)
    assert await refusal_of(make(ours), liar) == ErrorCode.UNAUTHENTICATED


async def test_one_rsa_key_does_not_allow_both_kinds_of_rsa_signature(make: Make) -> None:
    ours = issuer_of("RS256")
    theirs = Issuer("PS256", None, key=ours.key, now=lambda: NOW)
    assert await refusal_of(make(ours), theirs.token("alice")) == ErrorCode.UNAUTHENTICATED
    both = make(ours, jwt_algorithms=("RS256", "PS256"))
    assert (await both.verify_token(theirs.token("alice"))).user == "alice"


async def test_a_key_that_the_token_brings_along_is_not_believed(make: Make) -> None:
    theirs = issuer_of("RS256", None, 1)
    for header in (
        {"jwk": theirs.jwk()},
        {"jku": "http://127.0.0.1:1/jwks"},
        {"x5u": "http://127.0.0.1:1/x"},
        {"x5c": ["MIIB"]},
    ):
        token = theirs.sign(GOOD, **header)
        assert await refusal_of(make(issuer_of("RS256")), token) == ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "header", [{"crit": ["exp"]}, {"crit": []}, {"crit": ["b64"], "b64": False}, {"b64": False}, {"kid": 7}]
)
async def test_headers_that_would_have_to_be_understood(header: Mapping[str, Any], make: Make) -> None:
    issuer = issuer_of("ES256")
    assert await refusal_of(make(issuer), issuer.sign(GOOD, **header)) == ErrorCode.UNAUTHENTICATED


# --- form ---------------------------------------------------------------------------------------------------


async def test_a_token_has_a_longest_size(make: Make) -> None:
    issuer = issuer_of("ES256")
    authenticator = make(issuer)
    just = issuer.token("alice", pad="x" * 5900)
    assert len(just) < 8192
    assert (await authenticator.verify_token(just)).user == "alice"
    assert await refusal_of(authenticator, issuer.token("alice", pad="x" * 6200)) == ErrorCode.UNAUTHENTICATED
    assert await refusal_of(authenticator, "a" * 10_000_000) == ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "token",
    [
        "", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d.e", "null", "\x00", "é.é.é", "\ud800.a.b", " ",
        f"{encode_json([])}.{encode_json(GOOD)}.AAAA",
        f"{encode_json({'alg': 'ES256'})}.!.AAAA",
        f"{encode_segment(b'[' * 4000)}.{encode_json(GOOD)}.AAAA",
        f"{encode_segment(b'1' * 5000)}.{encode_json(GOOD)}.AAAA",
        f"{encode_segment(bytes([255, 254]))}.{encode_json(GOOD)}.AAAA",
    ],
)  # fmt: skip
async def test_garbage(token: str, make: Make) -> None:
    assert await refusal_of(make(issuer_of("ES256")), token) == ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize("claims", [[], None, "x", 7, {}, {"exp": NOW + 9}, {"sub": "alice"}])
async def test_signed_garbage(claims: object, make: Make) -> None:
    issuer = issuer_of("ES256")
    assert await refusal_of(make(issuer), issuer.sign(claims)) == ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize("inserted", ["=", "\n", " ", "%", ".", "+"])
async def test_there_is_one_way_to_write_a_token(inserted: str, make: Make) -> None:
    issuer = issuer_of("ES256")
    authenticator, token = make(issuer), issuer.token("alice")
    for place in (0, 5, token.index("."), len(token) - 5, len(token)):
        forged = token[:place] + inserted + token[place:]
        assert await refusal_of(authenticator, forged) == ErrorCode.UNAUTHENTICATED


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_CLAIMS = st.sampled_from(["sub", "exp", "nbf", "iat", "iss", "aud", "tier", "permissions", "jti"])
_HEADERS = st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk"])


@pytest.fixture(scope="module")
def authenticator(tmp_path_factory: pytest.TempPathFactory) -> HubAuthenticator:
    path = tmp_path_factory.mktemp("keys") / "k1.pem"
    path.write_text(issuer_of("ES256", "k1").public_pem)
    settings = AuthSettings(
        jwt_key_files=(f"k1={path}",), jwt_algorithms=("ES256",), issuer="i", audience="a"
    )
    return HubAuthenticator(settings, now=lambda: NOW)


@hypothesis.given(
    token=st.text()
    | st.builds(".".join, st.lists(st.text("abcAZ09_-="), min_size=3, max_size=3))
    | st.builds(
        lambda header, claims: issuer_of("ES256", "k1").sign(claims, **header),
        st.dictionaries(_HEADERS, json_values),
        st.dictionaries(_CLAIMS, json_values) | json_values,
    )
)
def test_nothing_that_a_client_sends_raises_anything_else(
    token: str, authenticator: HubAuthenticator
) -> None:
    code = trio.run(_code_of, authenticator, token)
    assert code in (None, ErrorCode.UNAUTHENTICATED, ErrorCode.TOKEN_EXPIRED)


async def _code_of(authenticator: HubAuthenticator, token: str) -> ErrorCode | None:
    try:
        assert (await authenticator.verify_token(token)).user
    except RequestRefused as refused:
        return refused.code
    return None


async def test_neither_log_nor_error_shows_the_token(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    issuer = issuer_of("ES256")
    secret = issuer.token("s3cret", exp="x")
    with pytest.raises(RequestRefused) as caught:
        await make(issuer).verify_token(secret)
    (record,) = [record for record in caplog.records if record.name == "hub.auth.tokens"]
    assert record.__dict__["reason"] == "DecodeError"
    shown = f"{record.__dict__}{caught.value!r}{caught.value.msg}"
    assert not any(part in shown for part in [*secret.split("."), "s3cret"])


# --- key files ----------------------------------------------------------------------------------------------


def problem_of(content: str | bytes | None, tmp_path: Path, *algorithms: str) -> str:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(AuthConfigurationError) as caught:
        HubAuthenticator(AuthSettings(jwt_key_files=(f"k1={path}",), jwt_algorithms=algorithms or ("RS256",)))
    start = f'auth.jwt_key_files = "k1={path}": '
    assert str(caught.value).startswith(start)
    return str(caught.value).removeprefix(start)


def test_a_key_file_is_there(tmp_path: Path) -> None:
    assert problem_of(None, tmp_path) == "No such file or directory"


def test_a_key_file_has_a_public_key(tmp_path: Path) -> None:
    for content in ("", "hello", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\xff\x00"):
        assert problem_of(content, tmp_path) == "expected a PEM file with a public key or a certificate"
    pem = issuer_of("RS256").public_pem
    assert problem_of(pem + pem, tmp_path) == "expected one key; put each into a file of its own"


def test_a_private_key_is_not_taken(tmp_path: Path) -> None:
    assert problem_of(issuer_of("RS256").private_pem, tmp_path).startswith("expected a public key: ")


def test_a_key_fits_an_algorithm(tmp_path: Path) -> None:
    assert problem_of(issuer_of("RS256").public_pem, tmp_path, "ES256", "EdDSA") == (
        "an RSA key needs RS256 or PS256 in jwt_algorithms"
    )
    assert problem_of(issuer_of("ES256").public_pem, tmp_path) == "a P-256 key needs ES256 in jwt_algorithms"
    assert (
        problem_of(issuer_of("EdDSA").public_pem, tmp_path) == "an Ed25519 key needs EdDSA in jwt_algorithms"
    )


def test_a_weak_or_strange_key_is_not_taken(tmp_path: Path) -> None:
    weak = Issuer("RS256", key=rsa.generate_private_key(public_exponent=65537, key_size=1024))
    assert problem_of(weak.public_pem, tmp_path) == "an RSA key has 2048 to 8192 bits, not 1024"
    strange = Issuer("ES256", key=ec.generate_private_key(ec.SECP384R1()))
    assert problem_of(strange.public_pem, tmp_path, "ES256").startswith("a key is RSA, elliptic on")
