"""The keys that tokens are verified with: from PEM files, and from JSON Web Key Sets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hub.auth.settings import AuthConfigurationError, split_key_file
from hub.sansio import strict_json

#: RFC 7518, section 3.3, for the lower one; beyond the upper one a signature costs milliseconds.
RSA_BITS: Final = range(2048, 8192 + 1)
#: Keys of one set that are used. A token without a key id is tried with all that fit its algorithm.
MAX_KEYS: Final = 32
#: What PyJWT makes a key of each type with; which algorithms it is good for we decide ourselves.
_MADE_FOR: Final[Mapping[object, str]] = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


class UnusableKey(ValueError):
    """Not a key, or one that no token may be signed with. The text does not show the key."""


@attrs.frozen
class PublicKey:
    """``algorithms`` are those of the configured ones that the key's type fits; a token with any other is not even
    tried with it, which is what keeps an RSA key from being taken for the secret of an HMAC."""

    kid: str | None
    key: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey = attrs.field(repr=False)
    algorithms: frozenset[str]

    def fits(self, algorithm: str, kid: str | None) -> bool:
        """Whether a token that says so can be this key's: key ids count where both sides have one."""
        return algorithm in self.algorithms and (kid is None or self.kid is None or kid == self.kid)


def make_key(kid: str | None, key: object, allowed: Collection[str]) -> PublicKey:
    """``allowed`` are the configured algorithms. Raises UnusableKey."""
    if isinstance(key, RSAPublicKey):
        if key.key_size not in RSA_BITS:
            raise UnusableKey(f"an RSA key has {RSA_BITS[0]} to {RSA_BITS[-1]} bits, not {key.key_size}")
        return PublicKey(kid, key, _pick("an RSA key", ("RS256", "PS256"), allowed))
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return PublicKey(kid, key, _pick("a P-256 key", ("ES256",), allowed))
    if isinstance(key, Ed25519PublicKey):
        return PublicKey(kid, key, _pick("an Ed25519 key", ("EdDSA",), allowed))
    raise UnusableKey("a key is RSA, elliptic on the curve P-256, or Ed25519")


def _pick(what: str, fitting: tuple[str, ...], allowed: Collection[str]) -> frozenset[str]:
    if not (both := frozenset(fitting) & frozenset(allowed)):
        raise UnusableKey(f"{what} needs {' or '.join(fitting)} in jwt_algorithms")
    return both


# --- PEM files -------------------------------------------------------------------------------------------


def read_key_files(entries: Iterable[str], allowed: Collection[str]) -> list[PublicKey]:
    """The keys of ``auth.jwt_key_files``. Raises AuthConfigurationError."""
    keys = []
    for entry in entries:
        kid, path = split_key_file(entry)
        try:
            keys.append(make_key(kid, _read_pem(Path(path).read_bytes()), allowed))
        except OSError as error:
            raise AuthConfigurationError(
                f'auth.jwt_key_files = "{entry}": {error.strerror or error}'
            ) from None
        except UnusableKey as error:
            raise AuthConfigurationError(f'auth.jwt_key_files = "{entry}": {error}') from None
    return keys


def _read_pem(data: bytes) -> object:
    """The first certificate's key (the others are its chain), or the one public key. A certificate's dates are not
    looked at: here it is but a wrapping of a key. Raises UnusableKey."""
    if b"PRIVATE KEY-----" in data:
        raise UnusableKey(
            "expected a public key: whoever has this private one can make tokens, so keep it at the issuer"
        )
    try:
        if b"-----BEGIN CERTIFICATE-----" in data:
            return x509.load_pem_x509_certificate(data).public_key()
        if data.count(b"-----BEGIN ") > 1:
            raise UnusableKey("expected one key; put each into a file of its own")
        return load_pem_public_key(data)
    except UnusableKey:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableKey("expected a PEM file with a public key or a certificate") from None


# --- JSON Web Key Sets -----------------------------------------------------------------------------------


@attrs.frozen
class KeySet:
    """The keys of a set that tokens may be signed with, and how many others it has."""

    keys: tuple[PublicKey, ...]
    skipped: int


def read_key_set(text: bytes, allowed: Collection[str]) -> KeySet:
    """Reads a JWK Set (RFC 7517, section 5, which also says to skip the keys that are not understood). Raises
    UnusableKey where it is none."""
    try:
        document = strict_json.loads(text.decode())
    except ValueError:  # MalformedJson and UnicodeDecodeError are ones
        raise UnusableKey("not JSON") from None
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise UnusableKey("not a JWK Set")
    keys = []
    for member in members[:MAX_KEYS]:
        try:
            keys.append(_read_jwk(member, allowed))
        except UnusableKey:
            pass
    return KeySet(tuple(keys), len(members) - len(keys))


def _read_jwk(member: Any, allowed: Collection[str]) -> PublicKey:
    if not isinstance(member, dict):
        raise UnusableKey("not an object")
    kid, operations = member.get("kid"), member.get("key_ops", ["verify"])
    if not (kid is None or isinstance(kid, str)):
        raise UnusableKey("kid is not a text")
    # Keys that sign nothing, and private or symmetric keys, which were never to be published.
    if member.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKey("not for signatures")
    if "d" in member or "k" in member:
        raise UnusableKey("not a public key")
    kind = member.get("kty")
    if not isinstance(kind, str) or kind not in _MADE_FOR:
        raise UnusableKey("unknown kty")
    try:
        key = jwt.PyJWK(member, _MADE_FOR[kind]).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError, UnsupportedAlgorithm):
        raise UnusableKey("malformed") from None
    algorithm = member.get("alg")
    return make_key(kid, key, [name for name in allowed if algorithm is None or name == algorithm])
