"""A gateway's headers count where the gateway is at the other end of the connection, and nowhere else."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from hub.auth import GATEWAY_HEADERS, gateway_identity, parse_networks
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import Identity

NETWORKS = ("10.1.0.0/16", "192.0.2.7", "fd00:1::/32", "2001:db8::5")
ALICE = {"x-user-id": "alice", "x-user-tier": "mm"}


def identify(headers: dict[str, str], peer: str, *networks: str) -> Identity | None:
    return gateway_identity(headers, peer, parse_networks(networks or NETWORKS), "retail")


@pytest.mark.parametrize(
    "peer",
    [
        "10.1.0.1",
        "10.1.255.255",
        "192.0.2.7",
        "fd00:1::1",
        "fd00:1::1%eth0",
        "2001:db8::5",
        "::ffff:10.1.0.1",
    ],
)
def test_a_gateway_is_believed(peer: str) -> None:
    assert identify(ALICE, peer) == Identity(user="alice", tier="mm")


@pytest.mark.parametrize(
    "peer",
    [
        "10.2.0.1", "192.0.2.8", "127.0.0.1", "::1", "fd00:2::1", "2001:db8::6", "::ffff:10.2.0.1", "::10.1.0.1",
        "64:ff9b::10.1.0.1", "2002:0a01:0001::1", "", "@", "unix", "10.1.0.1, 10.2.0.1", "10.1.0.1:80", "10.1.0.01",
        "0x0a.1.0.1", "167837697", " 10.1.0.1",
    ],
)  # fmt: skip
def test_nobody_else_is(peer: str) -> None:
    assert identify(ALICE, peer) is None


def test_without_networks_nobody_is() -> None:
    for peer in ("127.0.0.1", "::1", "10.1.0.1"):
        assert gateway_identity(ALICE, peer, (), "retail") is None


def test_any_ipv4_address_is_not_any_ipv6_address() -> None:
    assert identify(ALICE, "203.0.113.1", "0.0.0.0/0") is not None
    assert identify(ALICE, "::ffff:203.0.113.1", "0.0.0.0/0") is not None
    assert identify(ALICE, "2001:db8::1", "0.0.0.0/0") is None


def test_a_gateway_may_name_nobody() -> None:
    assert identify({}, "10.1.0.1") is None
    assert identify({"x-user-tier": "mm"}, "10.1.0.1") is None


@pytest.mark.parametrize("tier", [None, "", "anonymous", "admin", "MM", "retail, mm"])
def test_a_tier_that_there_is_not(tier: str | None) -> None:
    headers = {"x-user-id": "alice"} if tier is None else {"x-user-id": "alice", "x-user-tier": tier}
    assert identify(headers, "10.1.0.1") == Identity(user="alice", tier="retail")


def test_a_name_in_utf8() -> None:
    headers = {"x-user-id": "ağ😀".encode().decode("latin-1")}
    found = identify(headers, "10.1.0.1")
    assert found is not None and found.user == "ağ😀"


@pytest.mark.parametrize(
    "user", ["", "a" * 129, "a\x00", "alice, bob", "alice,bob", "\xff", "a\u0130", " alice", "\x85"]
)
def test_a_name_that_is_none(user: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        identify({"x-user-id": user}, "10.1.0.1")
    assert caught.value.code == ErrorCode.UNAUTHENTICATED
    assert (
        identify({"x-user-id": user}, "10.2.0.1") is None
    )  # from anyone else it is no error, but nothing at all


@hypothesis.given(user=st.text(), tier=st.text(), peer=st.text() | st.ip_addresses().map(str))
def test_nothing_raises_anything_else(user: str, tier: str, peer: str) -> None:
    try:
        found = identify({"x-user-id": user, "x-user-tier": tier}, peer, "0.0.0.0/1", "::/1")
    except RequestRefused:
        return
    assert found is None or (found.user and found.tier in ("retail", "mm"))


def test_the_names_are_those_that_the_port_strips() -> None:
    assert frozenset(ALICE) == GATEWAY_HEADERS
