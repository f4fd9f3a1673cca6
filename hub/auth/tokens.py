"""JSON Web Tokens: whose they are, and whether to believe it (RFC 7519; the precautions of RFC 8725)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import jwt

from hub.auth.claims import check_user, expired, known_tier, read_permissions, unauthenticated
from hub.auth.jwks import Jwks
from hub.auth.public_keys import PublicKey
from hub.auth.settings import AuthSettings
from hub.sansio.identity import Identity

logger = logging.getLogger(__name__)

#: Bytes of a token. It comes in a header, and all headers together have 16 KB by default.
MAX_TOKEN: Final = 8 * 1024
#: The end of the year 9999, the last that calendars of common languages know.
LATEST_TIME: Final = 253_402_300_799
#: JWS compact serialization with a signature (RFC 7515, section 7.1).
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@attrs.frozen
class _Header:
    algorithm: str
    kid: str | None


class TokenVerifier:
    """Verifies tokens with the configured keys and those of ``jwks``. ``now`` is Unix seconds."""

    def __init__(
        self,
        settings: AuthSettings,
        keys: Sequence[PublicKey],
        jwks: Jwks | None,
        *,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._algorithms = list(settings.jwt_algorithms)
        self._keys = tuple(keys)
        self._jwks = jwks
        self._now = now

    async def verify(self, token: str) -> Identity:
        """Raises RequestRefused: 40101 for a token that was good once, 40100 for any other that is not, 50001 while
        the issuer's keys cannot be had. What exactly is wrong is told in the log alone."""
        try:
            header = self._read_header(token)
            claims = self._find_claims(token, header)
            if claims is None and await self._has_new_keys(header):
                claims = self._find_claims(token, header)
            if claims is None:
                raise jwt.InvalidSignatureError
            return self._identify(claims)
        except jwt.ExpiredSignatureError:
            raise expired("token expired") from None
        except jwt.PyJWTError as error:
            logger.debug("token refused", extra={"reason": type(error).__name__})
            raise unauthenticated("invalid token") from None

    def _read_header(self, token: str) -> _Header:
        if len(token) > MAX_TOKEN or not _COMPACT.fullmatch(token):
            raise jwt.DecodeError
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise jwt.InvalidAlgorithmError
        return _Header(algorithm, header.get("kid"))

    async def _has_new_keys(self, header: _Header) -> bool:
        """Whether there are keys now that there were not when none of those would fit."""
        if self._jwks is None or self._jwks.knows(header.kid):
            return False
        return await self._jwks.renew()

    def _find_claims(self, token: str, header: _Header) -> Mapping[str, Any] | None:
        """What the token says, if one of the keys has signed it."""
        for key in (*self._keys, *(self._jwks.keys if self._jwks is not None else ())):
            if key.fits(header.algorithm, header.kid):
                try:
                    return self._decode(token, key)
                except jwt.InvalidSignatureError:
                    pass
        return None

    def _decode(self, token: str, key: PublicKey) -> Mapping[str, Any]:
        settings = self._settings
        # PyJWT 2.15 reads the clock itself, and takes an exp of true for a time: times are ours to check.
        return jwt.decode(
            token,
            key.key,
            algorithms=self._algorithms,
            issuer=settings.issuer or None,
            audience=settings.audience or None,
            options={
                "require": ["exp"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_iss": bool(settings.issuer),
                "verify_aud": bool(settings.audience),
                "verify_sub": False,
                "verify_jti": False,
            },
        )

    def _identify(self, claims: Mapping[str, Any]) -> Identity:
        settings, now = self._settings, self._now()
        expires_at = _read_time(claims["exp"])
        if any(_read_time(claims[name]) > now + settings.leeway for name in ("nbf", "iat") if name in claims):
            raise jwt.ImmatureSignatureError
        try:
            user = check_user(claims.get(settings.user_claim))
        except ValueError:
            raise jwt.InvalidTokenError from None
        if expires_at + settings.leeway <= now:
            raise jwt.ExpiredSignatureError
        return Identity(
            user=user,
            tier=known_tier(claims.get(settings.tier_claim), settings.default_tier),
            roles=read_permissions(claims.get(settings.roles_claim)),
            expires_at=expires_at,
        )


def _read_time(value: object) -> float:
    """A NumericDate (RFC 7519, section 2)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LATEST_TIME:
        raise jwt.DecodeError  # also for NaN and Infinity, which Python's JSON knows
    return float(value)
