"""One run: clients of every kind behind a bad network, while their states are held against the hub's."""

from __future__ import annotations

import threading
import time
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import httpx

from tests.hub_process import ROOT, HubProcess
from tests.soak.crowd import Crowd, Member, Report
from tests.soak.states import comparable, is_best_first, kind_of, load

CONFIG = ROOT / "conf" / "demo.toml"
#: Events per second of the simulated exchange (issue: "at 2,000 events/s").
RATE = 2000
#: Seconds between two comparisons of one client.
PACE = 0.25
#: Failures of one client that are told.
SHOWN = 5
#: Connections of ours that may still be open at the operators' port.
KEPT_ALIVE = 2
#: How much a run may add to a process's memory where nothing grows: the allocator's own business.
MEMORY_SLACK = 24 * 2**20


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
    return [
        f"sources.demo.rate={RATE}",
        f'server.cors_origins=["{page_origin}"]',
        "server.not_sent_low_water=16KB",
        "server.send_buffer=32KB",
        "transports.sse.retry=0.2s",
        "limits.connections_per_ip=0",
        "limits.requests_per_ip=0",
        *(f"namespaces.{name}.buffer_age={buffered}s" for name in namespaces),
    ]


@attrs.define
class Comparer:
    """Holds one client's states against the hub's, channel by channel, until told to stop."""

    hub: HubProcess
    member: Member
    #: channel -> comparisons that came out equal
    equal: Counter[str] = attrs.field(factory=Counter)
    failures: list[str] = attrs.field(factory=list)
    _stop: threading.Event = attrs.field(factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(120)

    @property
    def channels(self) -> list[str]:
        """All but those whose events come on another channel, where there is no telling what they come to."""
        covered = {
            name.partition("@")[0] for name in self.member.channels if name.startswith(("orders@", "fills@"))
        }
        return [name for name in self.member.channels if name not in covered]

    @property
    def missing(self) -> list[str]:
        return [name for name in self.channels if not self.equal[name]]

    def _run(self) -> None:
        with httpx.Client(base_url=self.hub.public_url, headers=self.member.headers, trust_env=False) as http:
            while not self._stop.is_set():
                for channel in self.channels:
                    if self._stop.wait(PACE):
                        return
                    try:
                        self._compare(http, channel)
                    except Exception as error:  # told at the end: a thread's failure is nobody's
                        self.failures.append(f"{channel}: {type(error).__name__}: {error}")

    def _compare(self, http: httpx.Client, channel: str) -> None:
        truth = fetch_truth(http, channel)
        answer = self.member.follower.ask(channel, truth["seq"])
        if answer["state"] is None:  # not there yet, or it was told that it lost this one
            return
        if answer["epoch"] not in (None, truth["epoch"]):
            self.failures.append(f"{channel}: epoch {answer['epoch']}, the hub's is {truth['epoch']}")
        kind = kind_of(channel)
        if kind == "book" and not is_best_first(truth["data"]):
            self.failures.append(f"{channel}: the hub's book {truth['seq']} is not best first")
        theirs, ours = comparable(kind, answer["state"]), comparable(kind, load(kind, truth["data"]))
        if theirs != ours:
            self.failures.append(f"{channel} at {truth['seq']}: {difference(theirs, ours)}")
        else:
            self.equal[channel] += 1


def fetch_truth(http: httpx.Client, channel: str) -> Any:
    """``{"seq", "epoch", "data"}``: the hub's state of a channel, or where it has none, its newest event."""

    def get(path: str) -> Any:
        response = http.get(path)
        assert response.status_code == 200, f"{path}: {response.status_code} {response.text}"
        return response.json()

    if kind_of(channel) != "none":
        return get(f"/snapshot/{channel}")
    head = get(f"/history/{channel}?limit=1")["seq"]
    page = get(f"/history/{channel}?limit=1&format=v2&after={head - 1}")
    return {**page["events"][0], "epoch": page["epoch"]}


def difference(theirs: Any, ours: Any) -> str:
    """In few words, where a client's state is another than the hub's."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        odd = {key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)}
        parts = {
            key: f"client {theirs.get(key)!s:.300}, hub {ours.get(key)!s:.300}"
            for key in sorted(odd, key=str)[:4]
        }
        if odd & {"bids", "asks"}:
            return "; ".join(f"{side}: {difference(theirs[side], ours[side])}" for side in sorted(odd))
        return f"{len(odd)} differ: {parts}"
    return f"client {theirs!s:.300}, hub {ours!s:.300}"


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


class Footprint:
    """What a hub holds: without clients, while they are there, and after they have left."""

    def __init__(self, hub: HubProcess) -> None:
        self._hub = hub
        self._began = time.monotonic()
        self._published = self._count_published()
        self._descriptors = hub.descriptors()
        self._most_descriptors = self._descriptors
        self._memory: list[int] = []
        self._left_descriptors = self._left_memory = self._left_connections = 0
        self.rate = 0.0

    def look(self) -> None:
        self._most_descriptors = max(self._most_descriptors, self._hub.descriptors())
        self._memory.append(self._hub.resident_bytes())

    def settle(self) -> None:
        """Waits for the hub to let go of clients that have left."""
        self.rate = (self._count_published() - self._published) / (time.monotonic() - self._began)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            self._left_descriptors = self._hub.descriptors()
            self._left_connections = len(self._get("/admin/connections")["connections"])
            if not self._left_connections and self._left_descriptors <= self._descriptors + KEPT_ALIVE:
                break
            time.sleep(0.5)
        self._left_memory = self._hub.resident_bytes()

    def failures(self) -> list[str]:
        found = []
        if self._left_connections:
            found.append(f"{self._left_connections} connections are left in the hub")
        if self._left_descriptors > self._descriptors + KEPT_ALIVE:
            found.append(f"descriptors: {self._descriptors} before, {self._left_descriptors} after")
        if self._left_memory > self._height() + MEMORY_SLACK:
            found.append(f"memory: {self._height()} in the middle, {self._left_memory} after")
        return found

    def _height(self) -> int:
        """The most memory in the first half, when all that is buffered is there."""
        return max(self._memory[: len(self._memory) // 2 + 1])

    def _count_published(self) -> int:
        return int(self._get("/readyz")["sources"]["demo"]["published"])

    def _get(self, path: str) -> Any:
        return httpx.get(self._hub.admin_url + path, timeout=30, trust_env=False).json()

    def __str__(self) -> str:
        memory = [
            round(size / 2**20)
            for size in (self._memory[0], self._height(), max(self._memory), self._left_memory)
        ]
        return (
            f"hub: {self.rate:.0f} events/s; descriptors {self._descriptors} before, up to {self._most_descriptors}, "
            f"{self._left_descriptors} after; memory {memory[0]} MB at first, {memory[1]} in the first half, "
            f"up to {memory[2]}, {memory[3]} after\n"
        )


_COLUMNS = (
    "events",
    "snapshots",
    "connections",
    "resumes",
    "unrecovered",
    "drops",
    "dropped",
    "gaps",
    "slow_consumer",
)


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
