"""An issuer of tokens, with real keys: what a login service would be."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def make_private_key(algorithm: str) -> PrivateKey:
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def encode_segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encode_json(value: object) -> str:
    return encode_segment(json.dumps(value).encode())


class Issuer:
    """Signs tokens with one key, named ``kid`` (None: not named)."""

    def __init__(
        self,
        algorithm: str = "RS256",
        kid: str | None = "k1",
        *,
        key: PrivateKey | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.key = key or make_private_key(algorithm)
        self._now = now

    @property
    def public_pem(self) -> str:
        public = self.key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def private_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def token(
        self,
        user: object,
        tier: object = "retail",
        permissions: object = (),
        expires_in: float = 3600,
        **claims: Any,
    ) -> str:
        """``claims`` come beside or instead of the usual ones; None leaves one out."""
        now = int(self._now())
        usual = {
            "sub": user,
            "tier": tier,
            "permissions": permissions,
            "iat": now,
            "exp": now + expires_in,
        }
        return self.sign({name: value for name, value in {**usual, **claims}.items() if value is not None})

    def sign(self, claims: object, **header: Any) -> str:
        """A token of any claims; ``header`` comes beside or instead of the usual fields."""
        kid = {} if self.kid is None else {"kid": self.kid}
        signer = jwt.get_algorithm_by_name(self.algorithm)
        head = encode_json({"alg": self.algorithm, "typ": "JWT", **kid, **header})
        text = f"{head}.{encode_json(claims)}"
        return f"{text}.{encode_segment(signer.sign(text.encode(), self.key))}"

    def jwk(self, **fields: Any) -> dict[str, Any]:
        """The public key as JSON Web Key; ``fields`` come beside or instead of its own."""
        public = self.key.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            jwk = ECAlgorithm.to_jwk(public, as_dict=True)
        else:
            jwk = OKPAlgorithm.to_jwk(public, as_dict=True)
        kid = {} if self.kid is None else {"kid": self.kid}
        return {**jwk, **kid, "alg": self.algorithm, "use": "sig", **fields}

    def jwks(self, *others: Issuer) -> dict[str, Any]:
        """The set that has this key and those of ``others``."""
        return {"keys": [issuer.jwk() for issuer in (self, *others)]}
