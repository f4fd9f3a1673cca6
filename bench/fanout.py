"""Fan-out benchmark: the hub beside its peers, in one run, under one load client.

    .venv/bin/python bench/fanout.py --preset p99
    .venv/bin/python bench/fanout.py --subscribers 500 --rate 1000 --transport sse --runs 3

It reports figures and ratios and asserts nothing; bench/README.rst says what is
measured and how fairness is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

import report
import servers
import toolchain
from load import Cores, Figures, LoadFailed, Scenario, best_of, measure, saturate

DESCRIPTORS = 65536

# Each preset is one or more scenarios; options on the command line win over it.
PRESETS: Mapping[str, tuple[Mapping[str, object], ...]] = {
    "hot": ({"subscribers": 1000, "rate": 500.0},),
    "p99": ({"subscribers": 200, "rate": 1000.0},),
    "million": ({"subscribers": 1000, "rate": 1000.0},),
    "many": ({"subscribers": 1000, "channels": 500, "channels_per_subscriber": 20, "rate": 5000.0},),
    "connections": ({"subscribers": 5000, "rate": 1.0, "seconds": 5.0},),
    "stuck": (
        {"label": "all read", "subscribers": 1000, "rate": 200.0, "seconds": 6.0},
        {"label": "10 % stuck", "subscribers": 1000, "rate": 200.0, "seconds": 6.0, "stuck": 0.1},
    ),
}
SATURATING = ("hot",)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="fan-out of the hub and its peers")
    parser.add_argument("--preset", choices=PRESETS)
    parser.add_argument("--servers", default=",".join(servers.NAMES), help="names, comma separated")
    parser.add_argument("--transport", choices=("ws", "ws-live", "sse", "sse-live"))
    parser.add_argument("--subscribers", type=int)
    parser.add_argument("--channels", type=int)
    parser.add_argument("--channels-per-subscriber", type=int)
    parser.add_argument("--rate", type=float, help="messages/s over all channels; 0: none")
    parser.add_argument("--batch", type=int, help="messages a POST; 0: by rate, about 250 POSTs/s")
    parser.add_argument("--size", type=int, help="bytes of a message's payload")
    parser.add_argument("--seconds", type=float, help="measured, after the warm-up")
    parser.add_argument("--warmup", type=float)
    parser.add_argument("--stuck-fraction", type=float, dest="stuck")
    parser.add_argument("--connecting", type=int, help="handshakes under way at once")
    parser.add_argument("--connect-rate", type=float, help="connections/s; 0: as fast as it goes")
    parser.add_argument(
        "--deflate", action="store_true", help="each scenario twice: without and with permessage-deflate"
    )
    parser.add_argument("--saturate", action="store_true", help="raise the rate to the limit")
    parser.add_argument("--runs", type=int, default=1, help="rounds over all servers; medians")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--hub-config", type=Path, default=servers.HubOptions().config)
    parser.add_argument("--hub-directory", type=Path, default=toolchain.REPOSITORY)
    parser.add_argument("--hub-arg", action="append", default=[], help="handed to hub serve")
    return parser


def _scenarios(options: argparse.Namespace) -> list[Scenario]:
    names = {field.name for field in attrs.fields(Scenario)} - {"deflate"}
    given = {k: v for k, v in vars(options).items() if k in names and v is not None}
    presets = PRESETS[options.preset] if options.preset else ({},)
    scenarios = [Scenario(**{**preset, **given}) for preset in presets]
    if any(s.channels_per_subscriber > s.channels for s in scenarios):
        raise SystemExit("--channels-per-subscriber is more than --channels")
    if options.deflate and any(s.transport.startswith("sse") for s in scenarios):
        raise SystemExit("--deflate is for WebSockets")
    if options.deflate:
        scenarios = [
            attrs.evolve(scenario, deflate=deflate, label=f"{scenario.label} {how}".strip())
            for scenario in scenarios
            for deflate, how in ((False, "plain"), (True, "deflated"))
        ]
    return scenarios


def _cores() -> Cores:
    """The first and the last core we may use: neighbours may share one's cache."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        print("only one core: server and load client share it, figures mean little")
    # The driver itself stays out of the server's way.
    os.sched_setaffinity(0, {allowed[-1]})
    return Cores(server=allowed[0], client=allowed[-1])


def _raise_descriptor_limit() -> None:
    """Inherited by all servers; only root may lift the hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for wanted in (max(hard, DESCRIPTORS), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, OSError):
            continue
        return


def _available(wanted: Sequence[str], hub: servers.HubOptions) -> list[str]:
    names = []
    for name in wanted:
        if name not in servers.NAMES:
            raise SystemExit(f"unknown server {name!r}; known: {', '.join(servers.NAMES)}")
        try:
            servers.check_available(name, hub)
        except toolchain.Unavailable as reason:
            print(f"{name} is left out: {reason}")
        else:
            names.append(name)
    return names


def _fits(name: str, scenario: Scenario) -> bool:
    """The C loop knows no channels, so everybody would get everything, and no compression."""
    return name != "cloop" or (scenario.channels == 1 and not scenario.deflate)


@attrs.define
class Bench:
    """All measurements of one call, kept for medians and for the JSON file."""

    cores: Cores
    hub: servers.HubOptions
    saturating: bool
    steps: list[Figures] = attrs.field(factory=list)
    results: dict[tuple[str, str], list[Figures]] = attrs.field(factory=dict)

    def run(self, name: str, scenario: Scenario) -> None:
        """Measure one server once; a failure is told and leaves a hole."""
        try:
            if self.saturating:
                steps = saturate(name, scenario, self.cores, self.hub)
            else:
                steps = [measure(name, scenario, self.cores, self.hub)]
        except (toolchain.Unavailable, LoadFailed) as reason:
            print(f"{name}: {reason}", flush=True)
            return
        self.steps += steps
        self.results.setdefault((scenario.label, name), []).append(best_of(steps))
        print(report.table(steps), flush=True)

    def medians(self, label: str) -> list[Figures]:
        """A row for each server that was measured in a scenario."""
        return [report.median(runs) for (of, _), runs in self.results.items() if of == label]


def _machine() -> dict[str, object]:
    models = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    return {
        "cpu": ", ".join(sorted(models)),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _write_json(path: Path, bench: Bench, medians: Sequence[Figures]) -> None:
    content = {
        "machine": _machine(),
        "medians": [attrs.asdict(row) for row in medians],
        "steps": [attrs.asdict(row) for row in bench.steps],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def _summarize(bench: Bench, scenarios: Sequence[Scenario]) -> list[Figures]:
    everything: list[Figures] = []
    for scenario in scenarios:
        rows = bench.medians(scenario.label)
        print(f"\n== {scenario.label or scenario.transport}: medians ==")
        lines = [report.table(rows), *report.ratios(rows)]
        if everything:
            lines += report.against_first(bench.medians(scenarios[0].label), rows)
        print("\n".join(lines), flush=True)
        everything += rows
    return everything


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0 when anything could be measured."""
    # So that the servers are stopped by their context managers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _parser().parse_args(arguments)
    scenarios = _scenarios(options)
    hub = servers.HubOptions(
        config=options.hub_config.resolve(),
        directory=options.hub_directory.resolve(),
        arguments=tuple(options.hub_arg),
    )
    toolchain.loadclient()
    names = _available(options.servers.split(","), hub)
    _raise_descriptor_limit()
    bench = Bench(_cores(), hub, options.saturate or options.preset in SATURATING)
    for _ in range(options.runs):
        for scenario in scenarios:
            for name in names:
                if _fits(name, scenario):
                    bench.run(name, scenario)
    medians = _summarize(bench, scenarios)
    if options.json:
        _write_json(options.json, bench, medians)
    return 0 if medians else 1


if __name__ == "__main__":
    sys.exit(main())
