"""Tiers: the limits of stream-v2.md, by name."""

from __future__ import annotations

import pytest

from hub.sansio.tiers import TIER_NAMES, AnonymousTier, Tier, Tiers


def test_the_limits_of_the_specification() -> None:
    tiers = Tiers()
    limits = {
        name: (tier.connections_per_user, tier.channels_per_connection, tier.channels_per_user)
        for name in ("retail", "mm")
        for tier in [tiers.find(name)]
    }
    assert limits == {"retail": (10, 200, 500), "mm": (50, 200, 1000)}
    assert tiers.find("anonymous").channels_per_connection == 50
    for name in TIER_NAMES:
        tier = tiers.find(name)
        assert (tier.subscribes, tier.unsubscribes, tier.pings, tier.messages) == (10, 10, 5, 20)
        assert (tier.violations, tier.violation_window, tier.retry_after) == (10, 30.0, 30.0)


@pytest.mark.parametrize("name", ["", "gold", "find", "__class__", "RETAIL"])
def test_a_tier_that_is_none_has_the_limits_of_retail(name: str) -> None:
    tiers = Tiers(retail=Tier(pings=3))
    assert tiers.find(name) is tiers.retail


def test_each_tier_is_found_by_its_name() -> None:
    tiers = Tiers(anonymous=AnonymousTier(pings=1))
    assert [tiers.find(name) for name in TIER_NAMES] == [tiers.anonymous, tiers.retail, tiers.mm]
