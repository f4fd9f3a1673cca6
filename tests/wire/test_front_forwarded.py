"""Whose request it is, where proxies stand in between: what they add is believed, what they pass on is not."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.app.front.forwarded import client_address, limit_key, parse_address
from tests.wire.front_port import serving
from tests.wire.rawpeer import request, upgrade_request

#: The peer is 10.0.0.1; 10/8 and fd00::/8 are ours.
PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))

FORWARDED = {
    "for=192.0.2.1": "192.0.2.1",
    "For=192.0.2.1;proto=https;by=203.0.113.43": "192.0.2.1",
    "proto=https;for=192.0.2.1": "192.0.2.1",
    " for=192.0.2.1 ; proto=https ": "192.0.2.1",
    'for="192.0.2.1"': "192.0.2.1",
    'for="192.0.2.1:47011"': "192.0.2.1",
    "for=192.0.2.1:47011": "192.0.2.1",
    'for="[2001:db8:cafe::17]"': "2001:db8:cafe::17",
    'for="[2001:DB8:cafe::17]:4711"': "2001:db8:cafe::17",
    "for=[2001:db8::1]": "2001:db8::1",
    'for="[::ffff:192.0.2.1]"': "192.0.2.1",
    r'for="192.0\.2.1"': "192.0.2.1",
    # Through several proxies: from the right to the first that is not ours.
    "for=192.0.2.1, for=10.0.0.2": "192.0.2.1",
    "for=6.6.6.6, for=192.0.2.1": "192.0.2.1",
    "for=6.6.6.6, for=192.0.2.1, for=10.0.0.3, for=10.0.0.2": "192.0.2.1",
    'for=192.0.2.1,for="[fd00::2]:80"': "192.0.2.1",
    "for=10.9.9.9, for=10.0.0.2": "10.9.9.9",
    # What the client wrote at the left opens quotes, or is anything else.
    'for="6.6.6.6, for=192.0.2.1': "192.0.2.1",
    'for="x, for="[2001:db8::1]:47"': "2001:db8::1",
    'for="x\\, for="[2001:db8::1]:47"': "2001:db8::1",
    '""", for=192.0.2.1': "192.0.2.1",
    "\\, for=192.0.2.1": "192.0.2.1",
    "for=;;=, for=192.0.2.1;host=\"a,for=6.6.6.6\"": "192.0.2.1",
    # What cannot be read ends the walk where it was read so far.
    "": "10.0.0.1",
    ",": "10.0.0.1",
    "for=unknown": "10.0.0.1",
    "for=_hidden": "10.0.0.1",
    'for="_hidden:80"': "10.0.0.1",
    "for=6.6.6.6, for=unknown": "10.0.0.1",
    "for=6.6.6.6, for=_hidden, for=10.0.0.2": "10.0.0.2",
    "for=6.6.6.6,": "10.0.0.1",
    "for=6.6.6.6, by=10.0.0.2": "10.0.0.1",
    "for=6.6.6.6;for=192.0.2.1": "10.0.0.1",
    "for=192.0.2.1 nonsense": "10.0.0.1",
    "for = 192.0.2.1": "10.0.0.1",
    "for=192.0.2.256": "10.0.0.1",
    "for=192.0.2": "10.0.0.1",
    "for=192.0.2.1:123456": "10.0.0.1",
    "for=2001:db8::1": "10.0.0.1",
    'for="[192.0.2.1]"x': "10.0.0.1",
    'for="[fe80::1%eth0]"': "10.0.0.1",
    "192.0.2.1": "10.0.0.1",
}  # fmt: skip

X_FORWARDED_FOR = {
    "192.0.2.1": "192.0.2.1",
    " 192.0.2.1 ": "192.0.2.1",
    "192.0.2.1:47011": "192.0.2.1",
    "2001:db8::17": "2001:db8::17",
    "[2001:db8::17]": "2001:db8::17",
    "[2001:db8::17]:4711": "2001:db8::17",
    "::ffff:192.0.2.1": "192.0.2.1",
    "6.6.6.6, 192.0.2.1": "192.0.2.1",
    "6.6.6.6,192.0.2.1,10.0.0.2, fd00::7": "192.0.2.1",
    "nonsense, 192.0.2.1, 10.0.0.2": "192.0.2.1",
    "10.0.0.3, 10.0.0.2": "10.0.0.3",
    "": "10.0.0.1",
    "unknown": "10.0.0.1",
    "6.6.6.6, unknown, 10.0.0.2": "10.0.0.2",
    "6.6.6.6, , 10.0.0.2": "10.0.0.2",
    "6.6.6.6, 192.0.2.1 x": "10.0.0.1",
    "6.6.6.6, 1.2.3": "10.0.0.1",
    "6.6.6.6, 010.0.0.1": "10.0.0.1",
    "6.6.6.6, 192.0.2.1:": "10.0.0.1",
    "6.6.6.6, [2001:db8::1": "10.0.0.1",
    "6.6.6.6, 2001:db8::1]": "10.0.0.1",
    "6.6.6.6, fe80::1%eth0": "10.0.0.1",
    "for=6.6.6.6": "10.0.0.1",
}


def client(**headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return str(client_address(ip_address("10.0.0.1"), named, PROXIES))


@pytest.mark.parametrize("value, expected", FORWARDED.items())
def test_forwarded(value: str, expected: str) -> None:
    assert client(forwarded=value) == expected


@pytest.mark.parametrize("value, expected", X_FORWARDED_FOR.items())
def test_x_forwarded_for(value: str, expected: str) -> None:
    assert client(x_forwarded_for=value) == expected


@pytest.mark.parametrize(
    "forwarded, x_forwarded_for, expected",
    [
        ("for=192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("for=192.0.2.1;proto=https", "6.6.6.6, 192.0.2.1", "192.0.2.1"),
        # A proxy that adds one of them passes on the other as the client wrote it.
        ("for=6.6.6.6", "192.0.2.1", "10.0.0.1"),
        ("for=192.0.2.1", "6.6.6.6", "10.0.0.1"),
        ("nonsense", "6.6.6.6", "10.0.0.1"),
    ],
)
def test_two_headers_that_do_not_agree_are_not_believed(
    forwarded: str, x_forwarded_for: str, expected: str
) -> None:
    assert client(forwarded=forwarded, x_forwarded_for=x_forwarded_for) == expected


def test_without_headers_it_is_the_proxy() -> None:
    assert client() == client(x_real_ip="6.6.6.6") == "10.0.0.1"


SPECIAL = st.text(st.sampled_from('for="\\,;:[]0123456789abcdef.= _x'), max_size=60)


@given(left=st.one_of(SPECIAL, st.text(max_size=40)))
def test_whatever_a_client_writes_does_not_hide_what_the_proxy_adds(left: str) -> None:
    for added in ("for=192.0.2.1", 'for="[::ffff:192.0.2.1]:80";proto=https;host="a,\\"b"'):
        assert client(forwarded=f"{left}, {added}") == "192.0.2.1"
    assert client(x_forwarded_for=f"{left}, 192.0.2.1") == "192.0.2.1"


@pytest.mark.parametrize(
    "address, parsed, key",
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::1", "fe80::/64"),
        ("::1", "::1", "::/64"),
    ],
)
def test_addresses_of_the_kernel(address: str, parsed: str, key: str) -> None:
    assert str(parse_address(address)) == parsed
    assert limit_key(parsed) == key


# --- at the port ----------------------------------------------------------------------------------------------


async def peers(trusted: tuple[str, ...], *headers: str) -> list[tuple[str, str]]:
    """Who the handlers of each kind see: the client, and the direct peer."""
    proxies = tuple(map(ip_network, trusted))
    found = []
    async with serving(trusted_proxies=proxies) as served, served.client() as kept:
        asked = request("GET", "/who", *headers)
        for response in (
            await kept.ask(asked),
            await kept.ask(asked),
            await served.ask(request("POST", "/direct", *headers, body=b"x")),
            await served.ask(upgrade_request("/v2", *headers)),
        ):
            described: Any = response.json()
            found.append((described["peer"], described["direct"]))
    return found


async def test_a_trusted_proxy_tells_who_asks(mock_clock: Any) -> None:
    assert await peers(("127.0.0.0/8",), "Forwarded: for=192.0.2.1") == [("192.0.2.1", "127.0.0.1")] * 4
    assert await peers(("127.0.0.1",), "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1") == (
        [("192.0.2.1", "127.0.0.1")] * 4
    )


async def test_from_anyone_else_the_headers_are_ignored(mock_clock: Any) -> None:
    headers = ("Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1")
    for trusted in ((), ("10.0.0.0/8", "::/0")):
        assert await peers(trusted, *headers) == [("127.0.0.1", "127.0.0.1")] * 4
