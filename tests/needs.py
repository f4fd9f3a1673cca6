"""What the tests need from the machine besides Python's packages, and how it is got.

    python -m tests.needs              say what is missing; exit code 1 when something is
    python -m tests.needs --install    get it first, from the system's packages and the npm registry

A test names its needs with ``@pytest.mark.needs("chromium", "node packages")``, or asks `missing` itself;
conftest.py skips it with the reason, shows all such reasons at the end, and in CI makes them failures.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import attrs

WEB = Path(__file__).with_name("web")
_MADE_FROM = WEB / "node_modules" / ".made-from"


@attrs.frozen
class Program:
    """A program on PATH, and the Debian packages that bring it."""

    commands: tuple[str, ...]  # any one of them will do
    packages: tuple[str, ...]
    serves: str
    version: tuple[int, ...] = ()  # at least
    version_option: str = "--version"

    def lacks(self) -> str | None:
        """Why this is not usable here, or None when it is."""
        path = self.path()
        if path is None:
            return f"no {' or '.join(self.commands)} on PATH"
        if self.version and (found := _version_of(path, self.version_option)) < self.version:
            return f"{path} is version {_dotted(found)}, not {_dotted(self.version)} or newer"
        return None

    def path(self) -> str | None:
        return next((path for command in self.commands if (path := shutil.which(command))), None)

    def remedy(self) -> str:
        least = f" (version {_dotted(self.version)} or newer)" if self.version else ""
        return f"apt-get install {' '.join(self.packages)}{least}"


@attrs.frozen
class NodePackages:
    """What tests/web/package-lock.json pins."""

    serves: str
    packages: tuple[str, ...] = ()

    def lacks(self) -> str | None:
        if _MADE_FROM.is_file() and _MADE_FROM.read_text() == _lock_digest():
            return None
        return "tests/web/node_modules was not made from tests/web/package-lock.json"

    def remedy(self) -> str:
        return "make test, where npm reaches its registry"


NEEDS: dict[str, Program | NodePackages] = {
    "java": Program(("java",), ("default-jre-headless",), "the Kafka broker", (17,), "-version"),
    "maven": Program(("mvn",), ("maven",), "the Kafka broker's jars"),
    "node": Program(("node",), ("nodejs",), "JavaScript clients", (20, 18, 1)),
    "npm": Program(("npm",), ("npm",), "JavaScript clients' packages"),
    "node packages": NodePackages("JavaScript clients"),
    "chromium": Program(("chromium", "chromium-browser", "google-chrome"), ("chromium",), "a real browser"),
    "chromedriver": Program(("chromedriver",), ("chromium-driver",), "driving the browser from Python"),
    "slowhttptest": Program(("slowhttptest",), ("slowhttptest",), "slow clients", (), "-h"),
}


@cache
def missing(name: str) -> str | None:
    """Why the need ``name`` is not met on this machine, with what would meet it; None when it is met."""
    need = NEEDS[name]
    reason = need.lacks()
    return None if reason is None else f"{name} (for {need.serves}): {reason}; get it with: {need.remedy()}"


def program(name: str) -> str:
    """The path of a program that `missing` found nothing against."""
    need = NEEDS[name]
    path = need.path() if isinstance(need, Program) else None
    if path is None:
        raise LookupError(missing(name) or f"{name} is not a program")
    return path


def all_missing() -> list[str]:
    """The reason of each need that is not met."""
    return [reason for name in NEEDS if (reason := missing(name))]


def main(arguments: Sequence[str]) -> int:
    if "--install" in arguments:
        _install_programs()
        _install_node_packages()
    reasons = all_missing()
    for reason in reasons:
        print(f"missing: {reason}", file=sys.stderr, flush=True)
    return 1 if reasons else 0


def _install_programs() -> None:
    packages = [package for need in NEEDS.values() if need.lacks() for package in need.packages]
    if not packages:
        return
    root = _as_root()
    if root is None or shutil.which("apt-get") is None:
        print("missing programs cannot be installed: that takes apt-get, and root or sudo without a password")
        return
    print(f"installing {' '.join(packages)}", flush=True)
    _update_lists(root)
    install = ["apt-get", "install", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    one_by_one = [[package] for package in packages]  # should one of them not be to be had
    for group in (packages, *one_by_one):
        if _run([*root, "env", "DEBIAN_FRONTEND=noninteractive", *install, *group]) and group is packages:
            return


def _as_root() -> list[str] | None:
    """What to put before a command so that root runs it; None when this user may not."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    return [sudo, "-n"] if sudo and _run([sudo, "-n", "true"]) else None


def _update_lists(root: list[str]) -> None:
    """Tries for a while: another apt-get may hold the lists' lock, for which there is no waiting option."""
    for _ in range(6):
        if _run([*root, "apt-get", "update", "-qq"]):
            return
        time.sleep(10)


def _install_node_packages() -> None:
    if not NEEDS["node packages"].lacks() or NEEDS["node"].lacks() or NEEDS["npm"].lacks():
        return
    print("installing Node packages in tests/web", flush=True)
    # No package here needs its install script, so none runs.
    if _run(["npm", "ci", "--ignore-scripts", "--loglevel=error"], cwd=WEB):
        _MADE_FROM.write_text(_lock_digest())


def _lock_digest() -> str:
    return hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()


def _run(command: list[str], *, cwd: Path | None = None) -> bool:
    """Runs a command without input; whether it succeeded. Its last lines are shown when it did not."""
    null, pipe, stdout = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT
    answer = subprocess.run(command, cwd=cwd, stdin=null, stdout=pipe, stderr=stdout, text=True)
    if answer.returncode:
        print(f"failed: {' '.join(command)}", *answer.stdout.splitlines()[-20:], sep="\n    ", flush=True)
    return answer.returncode == 0


def _version_of(path: str, option: str) -> tuple[int, ...]:
    answer = subprocess.run([path, option], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = re.search(r"\d+(\.\d+)*", answer.stdout + answer.stderr)
    return tuple(map(int, found[0].split("."))) if found else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version)) or "unknown"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
