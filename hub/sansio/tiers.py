"""What clients of one tier may use (stream-v2.md, "Limits"). 0 means no limit."""

from __future__ import annotations

import attrs

from hub.sansio.options import Seconds, option


@attrs.frozen(kw_only=True)
class Tier:
    """The limits of one ``[tiers.NAME]``. Rates are per connection; a second's worth may come at once."""

    channels_per_connection: int = option(
        200, doc="subscriptions of one connection; beyond: 40003; 0: no limit", at_least=0
    )
    connections_per_user: int = option(
        10, doc="connections of one user; beyond: 4030, or 429 over HTTP; 0: no limit", at_least=0
    )
    channels_per_user: int = option(
        500, doc="subscriptions of one user, all connections; beyond: 40003; 0: no limit", at_least=0
    )
    subscribes: int = option(10, doc="subscribe requests per second; beyond: 40004; 0: no limit", at_least=0)
    unsubscribes: int = option(
        10, doc="unsubscribe requests per second; beyond: 40004; 0: no limit", at_least=0
    )
    pings: int = option(5, doc="ping requests per second; beyond: 40004; 0: no limit", at_least=0)
    messages: int = option(20, doc="messages of any kind per second; beyond: 40004; 0: no limit", at_least=0)
    violations: int = option(
        10,
        doc="this many refusals with 40004 within violation_window: closed with 4029; 0: never",
        at_least=0,
    )
    violation_window: Seconds = option(Seconds(30.0), doc="see violations", at_least=1.0)
    retry_after: Seconds = option(Seconds(30.0), doc="what a client that is closed with 4029 is told to wait")


@attrs.frozen(kw_only=True)
class AnonymousTier(Tier):
    """Section ``[tiers.anonymous]``."""

    channels_per_connection: int = option(
        50, doc="subscriptions of one connection; beyond: 40003; 0: no limit", at_least=0
    )


@attrs.frozen(kw_only=True)
class MarketMakerTier(Tier):
    """Section ``[tiers.mm]``."""

    connections_per_user: int = option(
        50, doc="connections of one user; beyond: 4030, or 429 over HTTP; 0: no limit", at_least=0
    )
    channels_per_user: int = option(
        1000, doc="subscriptions of one user, all connections; beyond: 40003; 0: no limit", at_least=0
    )


@attrs.frozen(kw_only=True)
class Tiers:
    """Section ``[tiers]``. A user whose credentials name another tier has that of ``auth.default_tier``."""

    anonymous: AnonymousTier = option(factory=AnonymousTier, doc="Clients without credentials.")
    retail: Tier = option(factory=Tier, doc="Users.")
    mm: MarketMakerTier = option(factory=MarketMakerTier, doc="Market makers.")

    def find(self, name: str) -> Tier:
        """The limits of tier ``name``; those of retail for a name that is none of the three."""
        tier: Tier = getattr(self, name) if name in TIER_NAMES else self.retail
        return tier


TIER_NAMES = ("anonymous", "retail", "mm")
