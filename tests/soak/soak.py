"""One run: clients of every kind behind a bad network, while their states are held against the hub's."""

from __future__ import annotations

import time
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence

import attrs

from tests.hub_process import ROOT, HubProcess
from tests.soak.comparing import Comparer
from tests.soak.crowd import Crowd, Member, Report
from tests.soak.footprint import Footprint

CONFIG = ROOT / "conf" / "demo.toml"
#: Events per second of the simulated exchange: 2,000 are wanted, and what a stall keeps from happening is not made up for.
RATE = 2400
#: Events that a user's channel holds here: each of the demo's few users has hundreds in a second, not some in an hour.
BUSY_USER = 50_000
#: Failures of one client that are told.
SHOWN = 5
#: What everybody may see of a market, and what users see of their own.
PUBLIC = ("ticker", "orderbook", "orderbook.5", "orderbook.10", "orderbook.20", "trades", "kline.1m", "bbo")
PRIVATE = ("orders", "fills", "balances")


def channels_of(market: str, *, parts: bool = False) -> list[str]:
    """Channels of every type. With ``parts`` also the market's own orders and fills, which cover the user's."""
    public = [f"{name}@{market}" for name in PUBLIC]
    return [*public, *PRIVATE, *([f"orders@{market}", f"fills@{market}"] if parts else [])]


def hub_settings(page_origin: str, *, buffered: int) -> list[str]:
    """For ``conf/demo.toml``: full rate, no limits on who comes how often, small buffers in the kernel, and channels
    buffered for ``buffered`` seconds, so that memory is at its height early in a run."""
    namespaces = tomllib.loads(CONFIG.read_text())["namespaces"]
    private = [
        name for name, fields in namespaces.items() if fields.get("private") and fields.get("available", True)
    ]
    return [
        f"sources.demo.rate={RATE}",
        f'server.cors_origins=["{page_origin}"]',
        "server.not_sent_low_water=16KB",
        "server.send_buffer=32KB",
        "transports.sse.retry=0.2s",
        "limits.connections_per_ip=0",
        "limits.requests_per_ip=0",
        "tiers.retail.connections_per_user=0",  # what was cut may linger for a while
        "tiers.mm.connections_per_user=0",
        *(f"namespaces.{name}.buffer_age={buffered}s" for name in namespaces),
        *(f"namespaces.{name}.buffer_count={BUSY_USER}" for name in private),
    ]


@attrs.frozen
class Result:
    """What one client came to."""

    member: Member
    report: Report
    comparer: Comparer

    def failures(self) -> list[str]:
        found = [*self.report.failures, *self.comparer.failures]
        found += [f"{channel}: its state was never compared" for channel in self.comparer.missing]
        if self.report.counts.get("connections", 0) < 2:
            found.append("it was never cut")
        shown = found[:SHOWN] + ([f"{len(found) - SHOWN} more"] if len(found) > SHOWN else [])
        return [f"{self.member.name}: {failure}" for failure in shown]


def follow(hub: HubProcess, crowd: Crowd, seconds: float, footprint: Footprint) -> list[Result]:
    """Lets the clients run; then stops them. Runs on, for a while, until each state was compared at least once."""
    comparers = [Comparer(hub, member) for member in crowd.members]
    for comparer in comparers:
        comparer.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.5)
        footprint.look()
    while any(comparer.missing for comparer in comparers) and time.monotonic() < end + 60:
        time.sleep(0.5)
    for comparer in comparers:
        comparer.stop()
    results = [Result(comparer.member, comparer.member.follower.stop(), comparer) for comparer in comparers]
    footprint.settle()
    return results


_COLUMNS = (
    "events", "snapshots", "connections", "resumes", "unrecovered", "drops", "dropped", "gaps", "slow_consumer",
)  # fmt: skip


def table(results: Sequence[Result], proxy: Mapping[str, int], seconds: float) -> str:
    """The summary for people."""
    head = ["client", *_COLUMNS, "compared", "failures"]
    rows = [
        [
            result.member.name,
            *(str(result.report.counts.get(column, 0)) for column in _COLUMNS),
            str(result.comparer.equal.total()),
            str(len(result.failures())),
        ]
        for result in results
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    others = Counter[str]()
    for result in results:
        others.update({name: count for name, count in result.report.counts.items() if name not in _COLUMNS})
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    ]
    network = ", ".join(f"{what} {count}" for what, count in sorted(proxy.items()))
    rest = ", ".join(f"{what} {count}" for what, count in sorted(others.items()))
    return "\n".join(["", *lines, f"clients: {rest}", f"network, {seconds:.0f} s: {network}", ""])
