"""What the operator says about identity: section ``[auth]``."""

from __future__ import annotations

import ipaddress
from typing import Final, Literal
from urllib.parse import urlsplit

import attrs

from hub.auth.claims import USER_TIERS
from hub.sansio.errors import HubError
from hub.sansio.options import Seconds, option

#: Signatures by a private key only: with HMAC whoever can verify a token could make one.
ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA")


class AuthConfigurationError(HubError):
    """The operator's fault: a file that ``[auth]`` names cannot be used. The text names key, value and what would
    be right, and nothing of the file's contents."""


def split_key_file(entry: str) -> tuple[str | None, str]:
    """Key id and path of an entry of ``jwt_key_files``: ``kid=path`` or ``path``. A path that has a "=" in it is
    written as ``=path``."""
    kid, separator, path = entry.partition("=")
    return (kid or None, path) if separator else (None, entry)


def _check_key_file(entry: str) -> None:
    if not split_key_file(entry)[1]:
        raise ValueError('expected the path of a PEM file, or "kid=path"')


def _check_jwks_url(url: str) -> None:
    if not url:
        return
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        is_plain = url.isascii() and url.isprintable() and " " not in url
    except ValueError:  # brackets that do not match, a port that is none
        host, is_plain, parts = "", False, urlsplit("")
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))
    # DNS has no longer names (RFC 1035, section 2.3.4), and resolvers raise strange errors at them.
    is_name = bool(host) and len(host) < 254 and all(0 < len(label) < 64 for label in host.split("."))
    if not (is_plain and is_safe and is_name) or parts.username is not None:
        raise ValueError(
            'expected a URL such as "https://login.example.com/jwks.json", without a password; '
            "http is for loopback alone, because who answers decides who gets in"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_gateway_network(text: str) -> None:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f'expected a network such as "10.0.0.0/8" or an address: {error}') from None
    if network.prefixlen == 0:
        raise ValueError("expected the gateway's network: from this one anybody could say who they are")
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError('expected IPv4 networks in their own form, such as "10.0.0.0/8"')


def _check_claim(name: str) -> None:
    if not name:
        raise ValueError('expected the name of a claim, such as "sub"')


@attrs.frozen(kw_only=True)
class AuthSettings:
    """Who clients are. Section ``[auth]``; without any of it all clients are anonymous."""

    jwt_algorithms: tuple[str, ...] = option(
        ("RS256",),
        doc="signatures that tokens may have; a token with any other is refused",
        choices=ALGORITHMS,
    )
    jwt_key_files: tuple[str, ...] = option(
        (),
        doc='PEM files, each with a public key or certificate that tokens are verified with; as "kid=path" for '
        "tokens with that key id or none",
        check=_check_key_file,
    )
    jwks_url: str = option(
        "",
        doc="where the issuer publishes its keys (RFC 7517); https, or http on loopback; empty: none",
        check=_check_jwks_url,
    )
    jwks_refresh: Seconds = option(
        Seconds(600.0),
        doc="the keys at jwks_url are fetched this often, and when a token names one that is not known",
        at_least=10.0,
    )
    jwks_timeout: Seconds = option(
        Seconds(5.0), doc="time for one fetch of jwks_url", at_least=0.1, at_most=60.0
    )
    issuer: str = option("", doc="the iss that tokens must have; empty: not checked")
    audience: str = option("", doc="what the aud of tokens must be or contain; empty: not checked")
    leeway: Seconds = option(
        Seconds(30.0),
        doc="how far clocks may differ: tokens are taken this much before nbf and iat, and after exp",
        at_most=600.0,
    )
    user_claim: str = option("sub", doc="the claim that names the user", check=_check_claim)
    tier_claim: str = option("tier", doc="the claim that names the tier", check=_check_claim)
    roles_claim: str = option(
        "permissions",
        doc="the claim with permissions, as a list or with spaces in between",
        check=_check_claim,
    )
    default_tier: str = option(
        "retail", doc="tier of users whose credentials name none that there is", choices=USER_TIERS
    )
    gateway_networks: tuple[str, ...] = option(
        (),
        doc="networks of a gateway that has verified the user and says so in X-User-Id and X-User-Tier; from anyone "
        "else these are ignored; empty: off",
        check=_check_gateway_network,
    )
    api_key_file: str = option("", doc="file with hashes of API keys, made by `hub keys`; empty: no API keys")
    ticket_age: Seconds = option(
        Seconds(30.0), doc="how long a ticket of POST /ticket may be used, once", at_least=1.0, at_most=3600.0
    )
    tickets: int = option(
        10_000,
        doc="tickets not yet used that are kept; beyond, the oldest are forgotten",
        unit="tickets",
        at_least=1,
    )
    expiry_warning: Seconds = option(
        Seconds(60.0), doc="how long before its credentials expire a connection is told; 0: never"
    )
    expiry_grace: Seconds = option(
        Seconds(30.0), doc="how long a connection may outlive its credentials before it is closed with 4003"
    )
    on_expiry: Literal["close", "keep"] = option(
        "close", doc="what becomes of a connection whose credentials expire", choices=("close", "keep")
    )

    @property
    def takes_tokens(self) -> bool:
        return bool(self.jwt_key_files or self.jwks_url)

    def __attrs_post_init__(self) -> None:
        if self.takes_tokens and not self.jwt_algorithms:
            raise ValueError('jwt_algorithms is empty; set it to what signs the tokens, as ["RS256"]')
