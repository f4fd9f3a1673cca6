"""One measurement: a scenario, the load client that plays it, the figures it gives."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

import toolchain
from servers import TICKS_PER_SECOND, HubOptions, Server, Usage, open_server, pinned, usage_of

MEGABYTE = 1e6

# Figures that the load client names as we do.
COUNTS = (
    "subscribers",
    "failed",
    "stuck",
    "closed",
    "repeated",
    "notices",
    "refused",
    "malformed",
)


@attrs.frozen(kw_only=True)
class Scenario:
    """What is asked of a server. Rates are messages/s over all channels."""

    label: str = ""
    transport: str = "ws"
    subscribers: int = 200
    channels: int = 1
    channels_per_subscriber: int = 1
    rate: float = 1000.0
    batch: int = 0
    size: int = 215
    seconds: float = 4.0
    warmup: float = 1.0
    stuck: float = 0.0
    connecting: int = 64
    connect_rate: float = 0.0
    deflate: bool = False

    @property
    def offered(self) -> float:
        """Deliveries/s, if everybody who reads gets everything."""
        reading = self.subscribers * (1 - self.stuck)
        return self.rate * reading * self.channels_per_subscriber / self.channels

    def arguments(self, server: Server) -> list[str]:
        """The load client's options."""
        values = {
            "server": server.name,
            "transport": self.transport,
            "port": server.port,
            "publish-port": server.publish_port,
            "subscribers": self.subscribers,
            "channels": self.channels,
            "per-subscriber": self.channels_per_subscriber,
            "rate": self.rate,
            "batch": self.batch,
            "size": self.size,
            "seconds": self.seconds,
            "warmup": self.warmup,
            "stuck": self.stuck,
            "connecting": self.connecting,
            "connect-rate": self.connect_rate,
            "deflate": int(self.deflate),
        }
        return [f"{name}={value}" for name, value in values.items()]


@attrs.frozen(kw_only=True)
class Figures:
    """What came of it. Missing counts what readers lost, at the end included."""

    server: str
    label: str
    transport: str
    rate: float
    offered: float
    published: float
    posts: float
    delivered: float
    deflated: float
    bytes: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_percent: float
    client_percent: float
    others_percent: float
    resident_mb: float
    growth_mb: float
    bytes_per_connection: float
    connects: float
    subscribers: int
    failed: int
    stuck: int
    closed: int
    missing: int
    repeated: int
    notices: int
    refused: int
    malformed: int
    note: str


@attrs.frozen
class Cores:
    """Where the server and the load client run."""

    server: int
    client: int


@attrs.frozen
class Look:
    """Everybody's clocks at one moment; busy is what the whole machine has worked."""

    at: float
    server: Usage
    client_seconds: float
    busy_seconds: float


class LoadFailed(Exception):
    """The load client ended without figures."""


def _busy_seconds() -> float:
    """Work of all cores in user and kernel mode, and what the hypervisor took away."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, steal = (int(fields[i]) for i in (0, 1, 2, 7))
    return (user + nice + system + steal) / TICKS_PER_SECOND


def _look(server: Server, client: int) -> Look:
    busy, spent = _busy_seconds(), usage_of(client).cpu_seconds
    return Look(time.monotonic(), server.usage(), spent, busy)


def _play(command: list[str], core: int, server: Server) -> tuple[Mapping[str, Any], Mapping[str, Look]]:
    """The load client's figures, and a look at the server at each of its phases.

    It ends by itself: an alarm of its own bounds it.
    """
    looks: dict[str, Look] = {}
    with pinned(core):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout
        assert process.stderr
        looks["idle"] = _look(server, process.pid)
        try:
            for line in process.stdout:
                told = json.loads(line)
                if told["phase"] == "done":
                    return told, looks
                looks[told["phase"]] = _look(server, process.pid)
            raise LoadFailed(process.stderr.read().strip() or "the load client told no figures")
        finally:
            process.kill()


def _note(result: Mapping[str, Any]) -> str:
    return "; ".join(str(result[key]) for key in ("reason", "publish_error") if result[key])


def _figures(
    server: Server,
    scenario: Scenario,
    result: Mapping[str, Any],
    looks: Mapping[str, Look],
) -> Figures:
    first, last = looks["measuring"], looks["measured"]
    seconds = last.at - first.at
    ours = last.server.cpu_seconds - first.server.cpu_seconds
    clients = last.client_seconds - first.client_seconds
    begin, end = first.server.resident_bytes, last.server.resident_bytes
    grown = looks["connected"].server.resident_bytes - looks["idle"].server.resident_bytes
    connections = max(1, int(result["subscribers"]))
    return Figures(
        server=server.name,
        label=scenario.label,
        transport=scenario.transport,
        rate=scenario.rate,
        offered=scenario.offered,
        published=result["published_per_s"],
        posts=result["posts_per_s"],
        delivered=result["delivered_per_s"],
        deflated=result["deflated_per_s"],
        bytes=result["bytes_per_s"],
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        max_ms=result["max_ms"],
        cpu_percent=100 * ours / seconds,
        client_percent=100 * clients / seconds,
        others_percent=100 * max(0, last.busy_seconds - first.busy_seconds - ours - clients) / seconds,
        resident_mb=end / MEGABYTE,
        growth_mb=(end - begin) / MEGABYTE,
        bytes_per_connection=grown / connections,
        connects=result["connects_per_s"],
        missing=result["missing"] + result["tail"],
        note=_note(result),
        **{name: result[name] for name in COUNTS},
    )


def measure(name: str, scenario: Scenario, cores: Cores, hub: HubOptions) -> Figures:
    """Start a server, play a scenario against it, stop it.

    Raises toolchain.Unavailable or LoadFailed.
    """
    command = [str(toolchain.loadclient())]
    with open_server(name, scenario.transport, cores.server, hub, deflate=scenario.deflate) as server:
        result, looks = _play([*command, *scenario.arguments(server)], cores.client, server)
        return _figures(server, scenario, result, looks)


def saturate(name: str, scenario: Scenario, cores: Cores, hub: HubOptions) -> list[Figures]:
    """Raise the rate until deliveries/s stop growing; every step, in order.

    The rate doubles until a step brings less than a tenth more; then one step
    between the best rate and the next follows, because a server may give way beyond it.
    """
    steps = [measure(name, scenario, cores, hub)]
    while len(steps) < 2 or steps[-1].delivered > 1.1 * max(s.delivered for s in steps[:-1]):
        scenario = attrs.evolve(scenario, rate=scenario.rate * 2)
        steps.append(measure(name, scenario, cores, hub))
    best = best_of(steps)
    between = attrs.evolve(scenario, rate=round(best.rate * 2**0.5))
    steps.append(measure(name, between, cores, hub))
    return steps


def best_of(steps: list[Figures]) -> Figures:
    """The step that delivered most."""
    return max(steps, key=lambda step: step.delivered)
