"""Who asks, where proxies stand in between: ``Forwarded`` (RFC 7239) and ``X-Forwarded-For``.

Each proxy appends whom it heard, so only what stands at the right is known to be true: the lists are read from
there, for as long as it is a trusted proxy that speaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_PAIR: Final = re.compile(
    r'[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^"\\,; \t]*)[ \t]*(?:;|$)'
)
_NODE: Final = re.compile(r"(?:\[([^\]]+)\]|([0-9.]+))(?::[0-9]{1,5})?", re.ASCII)


def is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def parse_address(text: str) -> Address:
    """An address as the kernel says it: IPv4 also where it came over an IPv6 socket, without an interface.
    Raises ValueError."""
    return _unmapped(ip_address(text.partition("%")[0]))


def limit_key(address: str) -> str:
    """What limits count by: an IPv4 address; of IPv6 the /64, which is the least that one client has to itself."""
    return str(ip_network((address, 64), strict=False)) if ":" in address else address


def client_address(peer: Address, headers: Mapping[str, str], proxies: tuple[Network, ...]) -> Address:
    """The client of a request that ``peer``, a trusted proxy, sent: the rightmost address that is not in
    ``proxies``. What cannot be read ends the walk at the last trusted hop. Where both headers are there and tell
    different clients, the proxy has passed one of them on unseen, so neither is believed.
    """
    said = [
        _walk(peer, read(value), proxies)
        for name, read in (("forwarded", _forwarded), ("x-forwarded-for", _x_forwarded_for))
        if (value := headers.get(name)) is not None
    ]
    return said[0] if said and said.count(said[0]) == len(said) else peer


def _walk(peer: Address, hops: Iterator[Address | None], proxies: tuple[Network, ...]) -> Address:
    for hop in hops:
        if hop is None:
            break
        peer = hop
        if not is_in(hop, proxies):
            break
    return peer


def _x_forwarded_for(value: str) -> Iterator[Address | None]:
    for item in reversed(value.split(",")):
        yield _parse_item(item.strip())


def _parse_item(item: str) -> Address | None:
    """A node, or what RFC 7239 would not allow: IPv6 without brackets."""
    return _parse_plain(item) if item.count(":") > 1 and not item.startswith("[") else _parse_node(item)


def _forwarded(value: str) -> Iterator[Address | None]:
    for element in _elements_from_the_right(value):
        nodes = [text for name, text in _pairs(element) if name.lower() == "for"]
        yield _parse_node(nodes[0]) if len(nodes) == 1 else None


def _elements_from_the_right(value: str) -> Iterator[str]:
    """The elements of a list; a quote that the left part leaves open does not swallow what is right of it."""
    end, is_quoted = len(value), False
    for index in range(len(value) - 1, -1, -1):
        if value[index] == '"':
            is_quoted ^= not _is_escaped(value, index)
        elif value[index] == "," and not is_quoted:
            yield value[index + 1 : end]
            end = index
    yield value[:end]


def _is_escaped(value: str, index: int) -> bool:
    start = index
    while start and value[start - 1] == "\\":
        start -= 1
    return (index - start) % 2 == 1


def _pairs(element: str) -> list[tuple[str, str]]:
    """Names and values of an element; none where it is malformed."""
    pairs, position = [], 0
    while position < len(element):
        match = _PAIR.match(element, position)
        if match is None:
            return []
        pairs.append((match[1], re.sub(r"\\(.)", r"\1", match[2][1:-1]) if match[2][:1] == '"' else match[2]))
        position = match.end()
    return pairs


def _parse_node(node: str) -> Address | None:
    """``192.0.2.1``, ``192.0.2.1:80``, ``[2001:db8::1]``, ``[2001:db8::1]:80``; None for ``unknown``, ``_hidden``
    and whatever else."""
    match = _NODE.fullmatch(node)
    return None if match is None else _parse_plain(match[1] or match[2])


def _parse_plain(text: str) -> Address | None:
    try:
        return None if "%" in text else _unmapped(ip_address(text))
    except ValueError:
        return None


def _unmapped(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address
