"""Tables, medians and ratios of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import attrs

from load import Figures

COLUMNS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("server", lambda f: f.server),
    ("msg/s", lambda f: f"{f.rate:,.0f}"),
    ("published/s", lambda f: f"{f.published:,.0f}"),
    ("offered/s", lambda f: f"{f.offered:,.0f}"),
    ("delivered/s", lambda f: f"{f.delivered:,.0f}"),
    ("deflated/s", lambda f: f"{f.deflated:,.0f}"),
    ("B/message", lambda f: f"{_bytes_of_one(f):,.0f}"),
    ("p50 ms", lambda f: f"{f.p50_ms:,.1f}"),
    ("p99 ms", lambda f: f"{f.p99_ms:,.1f}"),
    ("max ms", lambda f: f"{f.max_ms:,.1f}"),
    ("CPU %", lambda f: f"{f.cpu_percent:.0f}"),
    ("client %", lambda f: f"{f.client_percent:.0f}"),
    ("others %", lambda f: f"{f.others_percent:.0f}"),
    ("RSS MB", lambda f: f"{f.resident_mb:,.0f}"),
    ("growth MB", lambda f: f"{f.growth_mb:,.1f}"),
    ("kB/conn", lambda f: f"{f.bytes_per_connection / 1000:,.1f}"),
    ("connects/s", lambda f: f"{f.connects:,.0f}"),
    ("missing", lambda f: f"{f.missing:,}"),
    ("trouble", lambda f: _trouble(f)),
)

TROUBLE = ("failed", "closed", "repeated", "notices", "refused", "malformed")


def _trouble(figures: Figures) -> str:
    """What should be nought and is not, in words."""
    counts = [f"{getattr(figures, name)} {name}" for name in TROUBLE if getattr(figures, name)]
    return ", ".join([*counts, figures.note]) if counts or figures.note else "-"


def table(rows: Sequence[Figures]) -> str:
    """Aligned columns; text to the left, numbers to the right."""
    cells = [[title for title, _ in COLUMNS]]
    cells += [[show(row) for _, show in COLUMNS] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    edges = (0, len(COLUMNS) - 1)
    lines = [
        "  ".join(
            cell.ljust(width) if i in edges else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines)


def median(runs: Sequence[Figures]) -> Figures:
    """The median of each figure on its own; counts of trouble are the worst of all runs."""
    values: dict[str, object] = {}
    for field in attrs.fields(Figures):
        column = [getattr(run, field.name) for run in runs]
        if isinstance(column[0], str):
            values[field.name] = next((text for text in column if text), "")
        elif isinstance(column[0], int):
            values[field.name] = max(column)
        else:
            values[field.name] = statistics.median(column)
    return Figures(**values)  # type: ignore[arg-type]


def _bytes_of_one(figures: Figures) -> float:
    """What a delivery took on the wire, framing included."""
    return figures.bytes / figures.delivered if figures.delivered else 0.0


def _ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}x" if theirs else "-"


def _compared(hub: Figures, peer: Figures) -> list[str]:
    # Latencies of a server at its own limit say nothing about another's at another rate.
    names = {"delivered": "delivered", "connects": "connects/s", "bytes_per_connection": "kB/conn"}
    if hub.rate == peer.rate:
        names |= {"p50_ms": "p50", "p99_ms": "p99", "cpu_percent": "CPU"}
    return [f"{title} {_ratio(getattr(hub, n), getattr(peer, n))}" for n, title in names.items()]


def ratios(rows: Sequence[Figures]) -> list[str]:
    """The hub against each peer of the same scenario, a line each."""
    hub = next((row for row in rows if row.server == "hub"), None)
    if hub is None:
        return []
    peers = [row for row in rows if row is not hub]
    return [f"hub/{peer.server}: {', '.join(_compared(hub, peer))}" for peer in peers]


def against_first(first: Sequence[Figures], later: Sequence[Figures]) -> list[str]:
    """What another scenario of the same call does to each server, a line each."""
    before = {row.server: row for row in first}
    return [_changed(before[row.server], row) for row in later if row.server in before]


def _changed(first: Figures, later: Figures) -> str:
    what = (
        ("p99", first.p99_ms, later.p99_ms),
        ("CPU", first.cpu_percent, later.cpu_percent),
        ("bytes of a message", _bytes_of_one(first), _bytes_of_one(later)),
        ("kB/conn", first.bytes_per_connection, later.bytes_per_connection),
    )
    figures = ", ".join(f"{title} {_ratio(after, before)}" for title, before, after in what)
    return f"{later.server}, {later.label} / {first.label}: {figures}"
