"""Fetches Kafka's jars once, and keeps them in ``.cache/kafka`` at the top of the repository."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from tests import needs

_POM = Path(__file__).with_name("pom.xml")
_CACHE = Path(__file__).parents[2] / ".cache" / "kafka"


def fetch_jars(cache: Path = _CACHE) -> Path:
    """The folder with the jars that ``pom.xml`` names. Raises CalledProcessError when Maven fails.

    The folder is named after the pom, so a changed version is fetched anew. A lock keeps two test runs from
    fetching into each other, and the rename at the end makes sure that a folder that is there is whole.
    """
    libs = cache / hashlib.sha256(_POM.read_bytes()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not libs.is_dir():
            partial = libs.with_suffix(".partial")
            _copy_dependencies(partial)
            partial.rename(libs)
    return libs


def _copy_dependencies(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    subprocess.run([needs.program("maven"), "-q", "-B", "-f", str(_POM), *goal], check=True)
