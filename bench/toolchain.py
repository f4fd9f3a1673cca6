"""Builds the load client and the peers; installs nchan where it may.

Standard library only, because it has to run before anything is installed. What is
built goes to ``.cache/bench``; what cannot be had is named with the reason, and the
benchmark then leaves it out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

BENCH = Path(__file__).resolve().parent
REPOSITORY = BENCH.parent
CACHE = REPOSITORY / ".cache" / "bench"

NGINX_MODULE_FOLDERS = (
    "/usr/lib/nginx/modules",
    "/usr/lib64/nginx/modules",
    "/usr/local/lib/nginx/modules",
    "/etc/nginx/modules",
)
NCHAN_PACKAGES = ("nginx-light", "libnginx-mod-nchan")


class Unavailable(Exception):
    """Something is not there and cannot be made here; the text says why."""


def _run(command: Sequence[str], **options: object) -> None:
    """Run a build step; its output is shown only when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}\n{done.stdout}{done.stderr}".strip())


def _is_fresh(target: Path, sources: Sequence[Path]) -> bool:
    return target.exists() and all(source.stat().st_mtime <= target.stat().st_mtime for source in sources)


def _compile(
    name: str, sources: Sequence[Path], headers: Sequence[Path] = (), libraries: Sequence[str] = ()
) -> Path:
    target = CACHE / name
    if _is_fresh(target, [*sources, *headers]):
        return target
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise Unavailable("no C compiler (cc)")
    CACHE.mkdir(parents=True, exist_ok=True)
    files = [str(source) for source in sources]
    _run([compiler, "-std=c11", "-O2", "-o", str(target), *files, "-pthread", "-lm", *libraries])
    return target


def loadclient() -> Path:
    """The load client's program, compiled if need be."""
    parts = BENCH / "load"
    sources = [BENCH / "loadclient.c", *sorted(parts.glob("*.c"))]
    return _compile("loadclient", sources, sorted(parts.glob("*.h")), ["-lz"])


def cloop() -> Path:
    """The bare C loop, compiled if need be."""
    return _compile("cloop", [BENCH / "peers" / "cloop.c"])


def centrifuge() -> Path:
    """The Go peer, if it was built; it is not built on the fly, as that downloads."""
    target = CACHE / "centrifuge"
    if not target.exists():
        raise Unavailable("not built (make bench-peers)")
    return target


def build_centrifuge() -> Path:
    """Build the Go peer; its modules come from wherever Go is configured to get them."""
    folder, target = BENCH / "peers" / "centrifuge", CACHE / "centrifuge"
    if _is_fresh(target, [folder / "main.go", folder / "go.mod"]):
        return target
    go = shutil.which("go", path=os.environ.get("PATH", "") + ":/usr/local/go/bin")
    if go is None:
        raise Unavailable("no Go toolchain (go)")
    CACHE.mkdir(parents=True, exist_ok=True)
    _run([go, "build", "-trimpath", "-o", str(target), "."], cwd=folder)
    return target


def nchan() -> tuple[Path, Path]:
    """nginx and its nchan module.

    nginx sits in sbin, which is not on everybody's path.
    """
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    modules = [Path(folder) / "ngx_nchan_module.so" for folder in NGINX_MODULE_FOLDERS]
    module = next((path for path in modules if path.exists()), None)
    if nginx is None or module is None:
        raise Unavailable("nginx with the nchan module is not installed (make bench-peers)")
    return Path(nginx), module


def install_nchan() -> Path:
    """Install nchan from the system's packages, unless it is there."""
    try:
        return nchan()[1]
    except Unavailable:
        pass
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Unavailable(f"install {' and '.join(NCHAN_PACKAGES)} (apt-get needs root)")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "-q", "update"], env=quiet)
    _run(["apt-get", "-q", "-y", "--no-install-recommends", "install", *NCHAN_PACKAGES], env=quiet)
    return nchan()[1]


def main() -> int:
    """Make everything; succeed when at least the load client is there."""
    steps: dict[str, Callable[[], Path]] = {
        "load client": loadclient,
        "cloop": cloop,
        "nchan": install_nchan,
        "centrifuge": build_centrifuge,
    }
    missing = []
    for name, step in steps.items():
        try:
            print(f"{name}: {step()}", flush=True)
        except Unavailable as reason:
            missing.append(name)
            print(f"{name}: NOT AVAILABLE: {reason}", flush=True)
    return 1 if "load client" in missing else 0


if __name__ == "__main__":
    sys.exit(main())
