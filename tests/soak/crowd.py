"""The soak's clients, as the test holds them: processes and pages that follow, answer and report."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import attrs

from tests import needs
from tests.hub_process import ROOT
from tests.web.browser import Page, running_browser

WEB = ROOT / "tests" / "web"
#: For a client to end: generous, since nothing here measures time.
PATIENCE = 30.0


@attrs.frozen(kw_only=True)
class Report:
    """What a client has seen."""

    counts: Mapping[str, int]
    failures: Sequence[str]


class Follower(Protocol):
    """A client that runs somewhere."""

    def ask(self, channel: str, seq: int) -> Mapping[str, Any]:
        """``{"seq", "epoch", "state"}``: where it is, and its state at ``seq`` (None: unknown)."""
        ...

    def stop(self) -> Report: ...


@attrs.frozen(kw_only=True)
class Member:
    """One client: what it is called, what it follows, with which credentials it asks for snapshots."""

    name: str
    channels: Sequence[str]
    headers: Mapping[str, str]
    follower: Follower


class LineFollower:
    """A process that takes JSON lines and answers each with one."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _call(self, **command: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the client's process has ended"
        return json.loads(line)

    def ask(self, channel: str, seq: int) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._call(channel=channel, seq=seq)
        return answer

    def stop(self) -> Report:
        return Report(**self._call(stop=True))

    def end(self) -> None:
        """Lets the process go, whatever it does."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@attrs.frozen
class PageFollower:
    """A page of soak_page.html. The browser's driver takes one command at a time."""

    page: Page
    lock: threading.Lock

    def evaluate(self, expression: str) -> Any:
        with self.lock:
            return self.page.evaluate(expression)

    def ask(self, channel: str, seq: int) -> Mapping[str, Any]:
        question = json.dumps({"channel": channel, "seq": seq})
        answer: Mapping[str, Any] = self.evaluate(f"client.ask({question})")
        return answer

    def stop(self) -> Report:
        return Report(**self.evaluate("client.stop()"))


class Crowd:
    """Starts clients and ends them. ``address`` is the proxy's, HOST:PORT; ``pages`` the origin of soak_page.html."""

    def __init__(self, pages: str) -> None:
        self.address = ""
        self.members: list[Member] = []
        self._pages = pages
        self._stack = ExitStack()
        self._browser: Any = None
        self._browser_lock = threading.Lock()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def add_python(self, name: str, kind: str, channels: Sequence[str], headers: Mapping[str, str]) -> None:
        """``kind``: as `tests.soak.process` has it."""
        options = {"kind": kind, "address": self.address, "channels": channels, "headers": headers}
        command = [
            sys.executable,
            "-m",
            "tests.soak.process",
            json.dumps({**options, "seed": len(self.members)}),
        ]
        self._add_process(name, command, channels, headers)

    def add_node(self, name: str, kind: str, channels: Sequence[str], headers: Mapping[str, str]) -> None:
        """``kind``: "ws" or "eventsource"."""
        options = {"kind": kind, "url": self._url(kind), "channels": channels, "headers": headers}
        script = str(WEB / "soak_node.mjs")
        self._add_process(name, [needs.program("node"), script, json.dumps(options)], channels, headers)

    def add_page(self, name: str, kind: str, channels: Sequence[str], token: str | None) -> None:
        """In Chromium, which cannot set headers: the token goes in the URL."""
        if self._browser is None:
            self._browser = self._stack.enter_context(running_browser())
        page = self._stack.enter_context(self._browser.open(f"{self._pages}/soak_page.html"))
        follower = PageFollower(page, self._browser_lock)
        url = self._url(kind, token)
        page.wait_for("'start' in window")
        page.evaluate(f"start({json.dumps({'kind': kind, 'url': url, 'channels': channels})})")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.members.append(Member(name=name, channels=channels, headers=headers, follower=follower))

    def _url(self, kind: str, token: str | None = None) -> str:
        query = "" if token is None else f"token={token}&"
        path = f"http://{self.address}/sse?" if kind == "eventsource" else f"ws://{self.address}/v2?"
        return path + query

    def _add_process(
        self, name: str, command: Sequence[str], channels: Sequence[str], headers: Mapping[str, str]
    ) -> None:
        follower = LineFollower(command)
        self._stack.callback(follower.end)
        self.members.append(Member(name=name, channels=channels, headers=headers, follower=follower))


@contextmanager
def served_pages() -> Iterator[str]:
    """Serves tests/web on another origin than the hub's; gives that origin."""

    class Handler(SimpleHTTPRequestHandler):
        extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(WEB))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(PATIENCE)


@contextmanager
def running_proxy(target: tuple[str, int], *, seed: int, lifetime: float) -> Iterator[ProxyProcess]:
    """The bad network in front of ``target``, in a process of its own."""
    arguments = [f"{target[0]}:{target[1]}", "--seed", str(seed), "--lifetime", str(lifetime)]
    command = [sys.executable, "-m", "tests.soak.proxy", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield ProxyProcess(process)
        finally:
            process.kill()


class ProxyProcess:
    """``address`` is HOST:PORT."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        self.address = f"{where['host']}:{where['port']}"

    def stop(self) -> Mapping[str, int]:
        """Ends it; what it has done."""
        output, _ = self._process.communicate(timeout=PATIENCE)
        counts: Mapping[str, int] = json.loads(output)
        return counts
