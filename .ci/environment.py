"""Make or refresh .venv, with nothing but the standard library.

    python3 .ci/environment.py run     what `make run` needs: requirements.txt and the project, editable
    python3 .ci/environment.py test    besides what the tests and linters need: requirements-test.txt

Every package is pinned and checked against its hash. A stamp in .venv holds a digest of all that decides
its content, so a second call does nothing; requirements-test.txt contains requirements.txt, so an
environment for the tests serves for running too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKS = {"run": "requirements.txt", "test": "requirements-test.txt"}
SERVED_BY = {"run": ("run", "test"), "test": ("test",)}


def main() -> int:
    purpose = sys.argv[1] if len(sys.argv) == 2 else ""
    if purpose not in LOCKS:
        print(__doc__, file=sys.stderr)
        return 2
    if any(_is_current(made_for) for made_for in SERVED_BY[purpose]):
        return 0
    started = time.monotonic()
    if not _works() and not _create():
        return 1
    if not _install(ROOT / LOCKS[purpose]):
        return 1
    _stamp(purpose).write_text(_digest(purpose))
    print(f".venv is ready ({time.monotonic() - started:.0f} s)", flush=True)
    return 0


def _stamp(purpose: str) -> Path:
    return VENV / f".made-for-{purpose}"


def _is_current(purpose: str) -> bool:
    stamp = _stamp(purpose)
    return stamp.is_file() and stamp.read_text() == _digest(purpose) and _works()


def _digest(purpose: str) -> str:
    """Of the pinned packages, the project's metadata and its version, and where the project lies."""
    files = (LOCKS[purpose], "pyproject.toml", "hub/__init__.py")
    content = hashlib.sha256(str(ROOT).encode())
    for name in files:
        content.update((ROOT / name).read_bytes())
    return content.hexdigest()


def _works() -> bool:
    """Whether .venv has a Python that starts and is new enough; a moved or half-made one is not."""
    check = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    return PYTHON.exists() and subprocess.run([PYTHON, "-c", check], capture_output=True).returncode == 0


def _create() -> bool:
    version = ".".join(map(str, sys.version_info[:3]))
    if importlib.util.find_spec("ensurepip") is None:
        print(
            f"{sys.executable} (Python {version}) cannot make a virtual environment: its modules venv and\n"
            "ensurepip are not installed. On Debian and Ubuntu: apt-get install python3-venv\n"
            "Or name another Python, 3.11 or newer: make PYTHON=/path/to/python3 ...",
            file=sys.stderr,
        )
        return False
    print(f"making .venv with Python {version}", flush=True)
    return _succeeds([sys.executable, "-m", "venv", "--clear", VENV])


def _install(lock: Path) -> bool:
    quietly = ("--quiet", "--disable-pip-version-check", "--no-input")
    pip: list[str | Path] = [PYTHON, "-m", "pip", "install", *quietly]
    print(f"installing {lock.name}", flush=True)
    return _succeeds([*pip, "--require-hashes", "--requirement", lock]) and _succeeds(
        # The build backend is among the pinned packages: nothing unpinned is fetched for it.
        [*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT]
    )


def _succeeds(command: list[str | Path]) -> bool:
    if subprocess.run(command, cwd=ROOT, env=_environ(), stdin=subprocess.DEVNULL).returncode == 0:
        return True
    print("failed: " + " ".join(map(str, command)), file=sys.stderr)
    return False


def _environ() -> dict[str, str]:
    """Ours, less what would make pip look at another Python's packages or away from .venv."""
    unwanted = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


if __name__ == "__main__":
    sys.exit(main())
