"""Starting, watching and stopping the hub and its peers, each alone on its core."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

import toolchain

NAMES = ("hub", "nchan", "centrifuge", "cloop")
LOGS = toolchain.CACHE / "logs"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Usage:
    """What a server's process and its children have used so far."""

    cpu_seconds: float
    resident_bytes: int


@attrs.frozen
class Server:
    """A running server: where to subscribe, where to publish, whom to watch."""

    name: str
    pid: int
    port: int
    publish_port: int

    def usage(self) -> Usage:
        """CPU time and resident memory, children included (nginx has a worker)."""
        return usage_of(self.pid)


@attrs.frozen
class HubOptions:
    """How the hub is started, for comparing settings and revisions."""

    config: Path = toolchain.REPOSITORY / "conf" / "bench.toml"
    python: str = sys.executable
    directory: Path = toolchain.REPOSITORY
    arguments: tuple[str, ...] = ()


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    direct = [int(child) for child in text.split()]
    return direct + [grandchild for child in direct for grandchild in _children(child)]


def _cpu_seconds(pid: int) -> float:
    # The second field is the program's name in brackets, which may hold blanks.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def usage_of(pid: int) -> Usage:
    """What a process and all below it have used."""
    pids = [pid, *_children(pid)]
    return Usage(
        cpu_seconds=sum(_cpu_seconds(pid) for pid in pids),
        resident_bytes=sum(_resident_bytes(pid) for pid in pids),
    )


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes started inside run on this core: affinity is inherited."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def check_available(name: str, hub: HubOptions) -> None:
    """Raise toolchain.Unavailable when a server cannot be started here."""
    if name == "hub" and not hub.config.exists():
        raise toolchain.Unavailable(f"no {hub.config}")
    if name == "nchan":
        toolchain.nchan()
    elif name == "centrifuge":
        toolchain.centrifuge()
    elif name == "cloop":
        toolchain.cloop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _nchan_command(prefix: Path, port: int, *, deflate: bool) -> list[str]:
    nginx, module = toolchain.nchan()
    # nginx as root drops to another user, who must get into the folder.
    prefix.chmod(0o755)
    values = {"@MODULE@": str(module), "@BIND@": f"127.0.0.1:{port}", "@PREFIX@": str(prefix)}
    values["@DEFLATE@"] = "on" if deflate else "off"
    text = (toolchain.BENCH / "peers" / "nchan.conf.in").read_text()
    for mark, value in values.items():
        text = text.replace(mark, value)
    (prefix / "nginx.conf").write_text(text)
    return [str(nginx), "-p", str(prefix), "-c", str(prefix / "nginx.conf")]


def _command(name: str, transport: str, hub: HubOptions, *, deflate: bool) -> list[str]:
    if name == "centrifuge":
        return [str(toolchain.centrifuge()), *(["--compression-level", "1"] if deflate else [])]
    if name == "cloop":
        return [str(toolchain.cloop()), "ws" if transport.startswith("ws") else "sse"]
    anywhere = "127.0.0.1:0"
    serve = [hub.python, "-m", "hub", "serve", "--config", str(hub.config)]
    return [*serve, "--bind", anywhere, "--admin-bind", anywhere, *hub.arguments]


def _port(url: object) -> int:
    port = urllib.parse.urlsplit(str(url)).port
    if port is None:
        raise ValueError(f"no port in {url!r}")
    return port


def _ready_line(log: Path) -> Mapping[str, object] | None:
    for line in log.read_text(errors="replace").splitlines():
        if not line.startswith("{"):
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("event") == "ready":
            return entry
    return None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_ports(process: subprocess.Popen[bytes], log: Path, port: int | None) -> tuple[int, int]:
    """The public and the publishing port, once the server says (or shows) it is ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if port is not None and _listens(port):
            return port, port
        if port is None and (ready := _ready_line(log)):
            return _port(ready["public"]), _port(ready["admin"])
        time.sleep(0.02)
    raise toolchain.Unavailable(f"did not start, see {log}:\n{log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _process(
    command: Sequence[str], core: int, log: Path, hub: HubOptions
) -> Iterator[subprocess.Popen[bytes]]:
    # A file, not a pipe: a server that logs every connection would block on one.
    with log.open("wb") as output, pinned(core):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=hub.directory,
            env={**os.environ, "GOMAXPROCS": "1"},
        )
    try:
        yield process
    finally:
        _stop(process)


@contextmanager
def open_server(
    name: str, transport: str, core: int, hub: HubOptions, *, deflate: bool = False
) -> Iterator[Server]:
    """Start a server pinned to a core; stop it in the end.

    Raises toolchain.Unavailable when it does not come up; its output is kept in
    ``.cache/bench/logs``.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        port = _free_port() if name == "nchan" else None
        if port:
            command = _nchan_command(Path(folder), port, deflate=deflate)
        else:
            command = _command(name, transport, hub, deflate=deflate)
        with _process(command, core, log, hub) as process:
            public, publish = _wait_ports(process, log, port)
            yield Server(name, process.pid, public, publish)
