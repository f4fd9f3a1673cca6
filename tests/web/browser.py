"""A real browser for tests: Chromium, driven through ``page_driver.mjs``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests import needs

_DRIVER = Path(__file__).with_name("page_driver.mjs")


class Browser:
    """A running Chromium. ``open`` gives pages that know nothing of each other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, **command: Any) -> Any:
        """One command of the driver. Raises AssertionError with the browser's words where it fails."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the browser's driver has ended"
        reply = json.loads(line)
        assert "error" not in reply, reply["error"]
        return reply["result"]

    @contextmanager
    def open(self, url: str, *, script: str = "", **options: Any) -> Iterator[Page]:
        """A page of its own; ``options`` are those of a browser context. At the end nothing may have gone
        wrong on it."""
        page = Page(self, self.call(call="open", args=[url, options, script]))
        try:
            yield page
            errors = page.call("errors")
            assert not errors, "\n".join(errors)
        finally:
            page.call("close")


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Chromium, ended at the end. Needs "node", "node packages" and "chromium"."""
    command = [needs.program("node"), str(_DRIVER), needs.program("chromium")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Browser(process)  # at the end its input ends, and with that the driver and the browser


@attrs.frozen
class Page:
    """One page. ``call`` takes any method of playwright's Page; the others are what the tests often need."""

    browser: Browser
    number: int

    def call(self, method: str, *args: Any) -> Any:
        return self.browser.call(page=self.number, call=method, args=args)

    def evaluate(self, expression: str) -> Any:
        return self.call("evaluate", expression)

    def wait_for(self, condition: str) -> Any:
        """Waits until a JavaScript expression is true; gives its value."""
        return self.call("waitFor", condition)

    def click(self, selector: str) -> None:
        self.call("click", selector)

    def text(self, selector: str) -> str:
        return str(self.call("textContent", selector))

    def attributes(self, selector: str) -> Mapping[str, str]:
        """The ``data-*`` attributes of an element."""
        dataset: Mapping[str, str] = self.evaluate(
            f"({{...document.querySelector({json.dumps(selector)}).dataset}})"
        )
        return dataset
