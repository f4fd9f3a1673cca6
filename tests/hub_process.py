"""The real hub as a process: started as an operator would, watched by its log, stopped by SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
#: Generous: a noisy machine starts slowly, and a drain may wait for its deadline.
START_SECONDS = 60.0
STOP_SECONDS = 60.0

Address = tuple[str, int]


class HubProcess:
    """A running hub. ``log`` grows as it speaks; ``expected_errors`` are event texts that may be at level error."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.raw_log: list[str] = []
        self.log: list[dict[str, Any]] = []
        self.stray: list[str] = []  # what is not a JSON object: tracebacks, prints
        self.expected_errors: set[str] = set()
        self._judged = 0  # log lines whose errors were taken
        self._changed = threading.Condition()
        self._has_ended = False
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    # --- where it is --------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def public_url(self) -> str:
        return str(self.wait_for_event("ready")["public"])

    @property
    def admin_url(self) -> str:
        return str(self.wait_for_event("ready")["admin"])

    @property
    def websocket_url(self) -> str:
        return self.public_url.replace("http", "ws", 1)

    @property
    def address(self) -> Address:
        return _address(self.public_url)

    @property
    def admin_address(self) -> Address:
        return _address(self.admin_url)

    # --- what it says -------------------------------------------------------------------------------------

    def wait_for_event(self, event: str, seconds: float = START_SECONDS) -> dict[str, Any]:
        """The first log line with this ``event``. Raises AssertionError if it does not come."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or self._find(event), seconds)
            found = self._find(event)
        assert found is not None, f"no log line {event!r}:\n{self.tail()}"
        return found

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.raw_log[-lines:])

    def take_errors(self) -> list[str]:
        """Log lines at level error or above that nobody expected, and output that is no log line; each once."""
        with self._changed:
            lines, self._judged = self.log[self._judged :], len(self.log)
            stray, self.stray = self.stray, []
        return stray + [
            json.dumps(line)
            for line in lines
            if line.get("level") in ("error", "critical") and line.get("event") not in self.expected_errors
        ]

    def _find(self, event: str) -> dict[str, Any] | None:
        return next((line for line in self.log if line.get("event") == event), None)

    def _collect(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            text = raw.decode("utf-8", "backslashreplace").rstrip("\n")
            with self._changed:
                self.raw_log.append(text)
                self._take(text)
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _take(self, text: str) -> None:
        try:
            line = json.loads(text)
        except ValueError:
            self.stray.append(text)
        else:
            self.log.append(line) if isinstance(line, dict) else self.stray.append(text)

    # --- what it holds ------------------------------------------------------------------------------------

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    # --- its end ------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait_exit(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    def kill(self) -> None:
        """For a hub that did not leave by itself; the test has failed already."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_hub(
    config: Path | None = None,
    *settings: str,
    environment: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> HubProcess:
    """Starts a hub on free ports; ``settings`` are ``key=value``. The caller ends it."""
    command = [sys.executable, "-m", "hub", "serve", "--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0"]
    command += ["--config", str(config)] if config is not None else []
    for setting in settings:
        command += ["--set", setting]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env={**inherited, "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return HubProcess(process)


@contextmanager
def running_hub(
    config: Path | None = None, *settings: str, environment: Mapping[str, str] | None = None
) -> Iterator[HubProcess]:
    """A hub that is ready. At the end it is told to leave, and must do so with exit code 0 and without an
    unexpected error in its log."""
    hub = start_hub(config, *settings, environment=environment)
    try:
        hub.wait_for_event("ready")
        yield hub
        if hub.process.poll() is None:
            hub.terminate()
        code = hub.wait_exit()
        assert code == 0, f"exit code {code}:\n{hub.tail()}"
        errors = hub.take_errors()
        assert not errors, "\n".join(errors)
    finally:
        hub.kill()


def _address(url: str) -> Address:
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    return parts.hostname, parts.port
