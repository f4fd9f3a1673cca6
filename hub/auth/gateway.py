"""Identity from a gateway that has verified the user itself and passes the result on in headers.

Anybody can write these headers, so they count only where the connection itself comes from one of the configured
networks. An address that a proxy forwards is no proof: it, too, is but a header.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from hub.auth.claims import check_user, known_tier, unauthenticated
from hub.sansio.errors import RequestRefused
from hub.sansio.identity import Identity

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

USER_HEADER: Final = "x-user-id"
TIER_HEADER: Final = "x-user-tier"
#: What nobody but a gateway may send; the public port takes them out of all other requests.
GATEWAY_HEADERS: Final = frozenset({USER_HEADER, TIER_HEADER})


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks such as ``10.0.0.0/8``, or single addresses. Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def is_trusted(direct_peer: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks. ``::ffff:10.0.0.1`` is how a socket for both families sees
    10.0.0.1 (RFC 4291, section 2.5.5.2)."""
    if not networks:
        return False
    try:
        address = ipaddress.ip_address(direct_peer)
    except ValueError:  # no address at all, as with a Unix socket
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in networks)


def gateway_identity(
    headers: Mapping[str, str], direct_peer: str, networks: Sequence[Network], default_tier: str
) -> Identity | None:
    """Who the gateway says the user is; None where it is no gateway that speaks, or it names nobody.

    Header names are lower case; ``direct_peer`` is the address at the other end of the connection. Raises
    RequestRefused (40100) where a gateway names a user that cannot be one.
    """
    if USER_HEADER not in headers or not is_trusted(direct_peer, networks):
        return None
    try:
        user = check_user(_as_text(headers[USER_HEADER]))
        # Two headers in one: the client's own has come through, and which is the gateway's nobody can tell.
        if "," in user:
            raise ValueError
    except ValueError:
        raise _refusal() from None
    return Identity(user=user, tier=known_tier(headers.get(TIER_HEADER), default_tier))


def _as_text(value: str) -> str:
    """Headers are read as Latin-1 and written as UTF-8, by whoever writes more than ASCII."""
    return value.encode("latin-1").decode()


def _refusal() -> RequestRefused:
    return unauthenticated("the gateway named no valid user")
