"""The other end of a connection, and which of its headers are believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from hub.app.front.forwarded import Network, client_address, is_in, parse_address
from hub.auth.gateway import GATEWAY_HEADERS

_NO_HEADERS: Final[frozenset[str]] = frozenset()


@attrs.frozen(kw_only=True)
class Peer:
    """``address`` is that of the connection itself. ``ignored_headers`` are taken out of its requests."""

    address: str
    is_proxy: bool = False
    ignored_headers: frozenset[str] = GATEWAY_HEADERS
    _proxies: tuple[Network, ...] = ()

    def client(self, headers: Mapping[str, str]) -> str:
        """The address of whom a proxy tells by ``headers``."""
        return str(client_address(parse_address(self.address), headers, self._proxies))


def make_peer(address: str, *, proxies: tuple[Network, ...], gateways: tuple[Network, ...]) -> Peer:
    """The peer at ``address``, as the kernel gives it, where networks are trusted as proxies and as gateways."""
    parsed = parse_address(address)
    return Peer(
        address=str(parsed),
        is_proxy=is_in(parsed, proxies),
        ignored_headers=_NO_HEADERS if is_in(parsed, gateways) else GATEWAY_HEADERS,
        proxies=proxies,
    )
