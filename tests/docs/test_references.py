"""What the documents name is there, and what is there is in the documents' tables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.core import Metric

from hub.app.front.answers import STATUS_OF_CODE
from hub.app.front.port import PortStatistics
from hub.app.metrics import HubCollector
from hub.app.settings import Settings
from hub.app.settings.kinds import Key, keys_of
from hub.app.settings.loading import ENABLED
from hub.app.settings.plugins import find_plugins, settings_of
from hub.app.settings.sections import default_namespaces
from hub.app.settings.structure import known_keys
from hub.auth import AuthStatistics, JwksStatistics, TicketStatistics
from hub.core.contracts import SourceStatistics
from hub.core.statistics import BrokerStatistics, Counts, UserCounts
from hub.providers import ProviderStatistics
from hub.sansio.errors import CloseCode, ErrorCode
from hub.sansio.live import ERROR_NAMES
from hub.sansio.options import Seconds, Size, parse_seconds, parse_size
from hub.sansio.views import payloads
from tests.docs.documents import ROOT, WRITTEN, anchors, every_document, links, literals, read, rows
from tests.hub_process import HubProcess

PLUGINS = {"transports": find_plugins("hub.transports"), "sources": find_plugins("hub.sources")}
#: Folders that are made, not written.
MADE = {"build", "dist", "node_modules", "__pycache__"}


@pytest.mark.parametrize("document", every_document())
def test_documents_are_well_formed(document: str) -> None:
    _, complaints = read(document)
    assert not complaints


@pytest.mark.parametrize("document", every_document())
def test_links_lead_somewhere(document: str) -> None:
    for link in links(document):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.is_file(), f"{document}: {link}"
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), f"{document}: {link}"


@pytest.mark.parametrize("document", WRITTEN)
def test_paths_exist(document: str) -> None:
    for literal in literals(document):
        if re.fullmatch(r"(hub|transports|conf|docs|tests|bench|\.ci)/[\w./-]*", literal):
            assert (ROOT / literal).exists(), f"{document}: {literal}"


def test_make_knows_its_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for document in WRITTEN:
        for target in re.findall(r"(?:``|\$ )make ([a-z-]+)", (ROOT / document).read_text()):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{document}: make {target}"


# --- folders ------------------------------------------------------------------------------------------------


def folders() -> set[str]:
    """Those of the project at the top, and in hub/, where the floors are."""
    inside = {f"hub/{path.name}" for path in (ROOT / "hub").iterdir() if is_folder(path)}
    return {path.name for path in ROOT.iterdir() if is_folder(path) and path.name != "hub"} | inside


def is_folder(path: Path) -> bool:
    return path.is_dir() and path.name[0] != "." and path.name not in MADE and path.suffix != ".egg-info"


def test_the_table_of_folders_matches_the_tree() -> None:
    documented = {folder.rstrip("/") for folder, _ in rows("README.rst", "Where is what")}
    assert documented - {".ci"} == folders()
    assert all((ROOT / folder).is_dir() for folder in documented)


def test_the_table_of_folders_names_what_is_in_them() -> None:
    for folder, text in rows("README.rst", "Where is what"):
        if folder.rstrip("/") in ("hub/sources", "transports"):
            group = PLUGINS["sources" if "sources" in folder else "transports"]
            assert all(name in text for name in group), folder


# --- configuration ------------------------------------------------------------------------------------------


@cache
def configuration_keys() -> frozenset[str]:
    """In full; NAME stands for a name of the operator's."""
    return frozenset(every_key())


def every_key() -> Iterator[str]:
    yield from known_keys(Settings)
    for group, plugins in PLUGINS.items():
        for name, plugin in plugins.items():
            yield f"{group}.{name}"
            yield f"{group}.{name}.{ENABLED}"
            yield from known_keys(settings_of(plugin), f"{group}.{name}")


@pytest.mark.parametrize("document", WRITTEN)
def test_configuration_keys_exist(document: str) -> None:
    sections = "|".join(key for key in configuration_keys() if "." not in key)
    for literal in literals(document):
        key = literal.strip("[]").partition(" = ")[0].partition("=")[0]
        if re.fullmatch(rf"({sections})\.[\w.]+", key):
            assert key in configuration_keys(), f"{document}: {literal}"


@pytest.mark.parametrize("document", WRITTEN)
def test_bare_names_occur_in_the_code(document: str) -> None:
    """A word with an underscore in double backquotes is a name of ours: it has not been renamed."""
    metrics = {name for name, *_ in rows("docs/operations.rst", "Metrics")}  # have tests of their own
    for literal in literals(document):
        if re.fullmatch(r"[a-z]+(_[a-z]+)+", literal) and literal not in metrics:
            assert literal in code(), f"{document}: {literal}"


@cache
def code() -> str:
    files = [*ROOT.glob("hub/**/*.py"), *ROOT.glob("transports/**/*.py"), *ROOT.glob("conf/*.toml")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_limits_have_the_defaults_that_the_table_says() -> None:
    for name, default, _ in rows("docs/protocol.rst", "Limits"):
        key = find_key(name)
        assert key.default is not None
        assert as_written(key.kind, default) == key.default(), name


def find_key(name: str) -> Key:
    path = name.split(".")
    kind: Any = Settings
    if path[0] in PLUGINS:
        kind, path = settings_of(PLUGINS[path[0]][path[1]]), path[2:]
    *sections, last = path
    for section in sections:
        kind = keys_of(kind)[section].kind
    return keys_of(kind)[last]


def as_written(kind: Any, text: str) -> Any:
    readers = {Size: parse_size, Seconds: parse_seconds}
    return readers[kind](text) if kind in readers else kind(text)


# --- channels -----------------------------------------------------------------------------------------------

#: What the tables say of a namespace's ``on_lag``.
LAG_WORDS = {"latest": "newest", "snapshot": "snapshot", "drop": "drop", "close": "closed with 4000"}


def test_the_tables_of_channels_are_the_shipped_namespaces() -> None:
    documented = {
        row[0]: row[3:]
        for title in ("Market channels", "Private channels")
        for row in rows("docs/protocol.rst", title)
    }
    policies = {policy.pattern: policy for policy in default_namespaces().values()}
    assert documented.keys() == policies.keys()
    for pattern, (slow, buffer, event) in documented.items():
        policy = policies[pattern]
        expected = [LAG_WORDS[policy.on_lag], f"{policy.buffer_count:,}", policy.event]
        assert [slow, buffer, event] == (expected if policy.available else ["", "", ""]), pattern


def test_the_tables_of_payloads_have_their_fields() -> None:
    documented: dict[str, list[str]] = {}
    channel = ""
    for title in ("Payloads", "What they carry"):
        for name, fields, _ in rows("docs/protocol.rst", title):
            channel = name or channel
            documented.setdefault(channel, []).extend(fields.split())
    kinds = {"orders": "order", "fills": "fill", "balances": "balance"}
    actual = {kind: sorted(fields) for kind, fields in payloads._FIELDS.items()}
    assert {kinds.get(name, name): sorted(fields) for name, fields in documented.items()} == actual


# --- codes --------------------------------------------------------------------------------------------------


def test_error_codes_are_those_of_the_code() -> None:
    table = {row[0]: row[1:3] for row in rows("docs/protocol.rst", "Errors")}
    assert table.pop("0") == ["", ""]
    assert {int(number) for number in table} == set(ErrorCode)
    for number, (name, status) in table.items():
        code = ErrorCode(int(number))
        expected = 405 if code is ErrorCode.INVALID_METHOD else STATUS_OF_CODE.get(code, 400)
        assert (name, int(status)) == (ERROR_NAMES[code], expected)


def test_close_codes_are_those_of_the_code() -> None:
    documented = {int(code) for code, *_ in rows("docs/protocol.rst", "Leaving")}
    assert documented | {CloseCode.ABNORMAL} == set(CloseCode)  # which is never sent


# --- metrics ------------------------------------------------------------------------------------------------


def test_the_table_of_metrics_is_what_is_exposed(demo_hub: HubProcess) -> None:
    documented = {name: kind for name, kind, *_ in rows("docs/operations.rst", "Metrics")}
    text = httpx.get(f"{demo_hub.admin_url}/metrics", trust_env=False).text
    assert documented == dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def test_the_table_of_metrics_has_their_labels() -> None:
    documented = {name: set(labels.split()) for name, _, labels, _ in rows("docs/operations.rst", "Metrics")}
    for family in full_collector().collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert documented[name] == labels_of(family) - {"node", "le"}, name


def labels_of(family: Metric) -> set[str]:
    assert family.samples, f"{family.name}: the test gives it no value"
    return {label for sample in family.samples for label in sample.labels}


def full_collector() -> HubCollector:
    """One with a value in each metric."""
    counts = Counts()
    counts.delivered("trades", "event", "sse", 1, 100)
    counts.took("trades", "sse", 0.001, 1)
    counts.closed("anonymous", "sse", CloseCode.NORMAL, 1.0)
    counts.received["ping"] += 1
    counts.dropped["slow_consumer"] += 1
    counts.subscribe_requests["ok"] += 1
    counts.rate_limited["pings"] += 1
    counts.gave_snapshot("trades", 0.001)
    broker = BrokerStatistics(
        sessions={("anonymous", "sse"): 1},
        subscriptions={"trades": 1},
        channels=1,
        buffered_bytes=1,
        buffered_publications=1,
        polls=0,
        market_makers={"u": UserCounts()},
        book_bytes=1,
        books_evicted=0,
        book_levels_cut=0,
        counts=counts,
    )
    tickets = TicketStatistics(issued=0, outstanding=0, failed={"used": 0})
    jwks = JwksStatistics(keys=1, fetches=1, is_failing=False)
    auth = AuthStatistics(tickets=tickets, jwks=jwks, api_keys=1)
    provider = ProviderStatistics(answered=1, failed={"away": 1}, retried=0, waiting=0)
    port = PortStatistics(refused={})
    source = SourceStatistics(status="ok", consumed={"t": 1}, refused={"t": 1}, lag={("t", 0): 1})
    return HubCollector(
        "n1",
        lambda: broker,
        lambda: {"kafka": source},
        lambda: port,
        lambda: auth,
        lambda: provider,
        ["sse"],
    )


# --- logs ---------------------------------------------------------------------------------------------------

LOG_TABLES = (("docs/operations.rst", "Logs"), ("docs/sources.rst", "What it tells"))
_LOUD = {"debug", "info", "warning", "error", "exception", "_audit"}


def documented_events() -> set[str]:
    cells = [row[0] for document, title in LOG_TABLES for row in rows(document, title)]
    return {event.strip() for cell in cells for event in cell.split("\n")}


def test_everything_that_is_logged_is_documented() -> None:
    said = {text for tree in syntax_trees() for text in log_texts(tree)}
    assert said - documented_events() == set()


def test_everything_documented_is_logged() -> None:
    strings = {
        node.value for tree in syntax_trees() for node in ast.walk(tree) if isinstance(node, ast.Constant)
    }
    assert documented_events() - {text for text in strings if isinstance(text, str)} == set()


def log_texts(tree: ast.AST) -> Iterator[str]:
    """The constant texts that are given to loggers."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _LOUD
            and node.args
        ):
            text = node.args[0]
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.value


def syntax_trees() -> Iterator[ast.AST]:
    for path in (*ROOT.glob("hub/**/*.py"), *ROOT.glob("transports/**/*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))
