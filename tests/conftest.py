"""What holds for every test: needs of the machine, nothing skipped in CI, Hypothesis' profiles."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator

import hypothesis
import pytest

from tests import needs

pytest_plugins = ["tests.kafka_broker.plugin"]

IN_CI = os.environ.get("CI", "").lower() in ("true", "1")

# In CI the same examples each time, so that a red run can be had again.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(*names): what the test needs from the machine, by tests.needs' names"
    )


@pytest.hookimpl(tryfirst=True)  # before any fixture tries to start what is missing
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if reason := needs.missing(name):
                pytest.skip(reason)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        _refuse_skip_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip_in_ci(report)
    return report


def _refuse_skip_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    if IN_CI and report.skipped:
        report.longrepr = f"skipped, and in CI nothing may be skipped: {_reason(report)}"
        report.outcome = "failed"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    words = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return words.removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names what was missing, and with it the tests that did not run because of it."""
    not_run: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", ()):
        not_run[_reason(report)].append(report.nodeid)
    if not_run:
        terminalreporter.section("not run")
    for reason, tests in sorted(not_run.items()):
        terminalreporter.line(reason)
        for test in tests:
            terminalreporter.line(f"    {test}")
