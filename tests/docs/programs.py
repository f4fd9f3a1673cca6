"""Runs a program of a document as a reader would, and stops it when it has said what is documented."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.docs.documents import ROOT
from tests.docs.transcripts import Mismatch, Transcript

#: Seconds for whatever is to come next: generous, on a busy machine.
PATIENCE = 60.0


def environment() -> dict[str, str]:
    """A reader's: our programs on the path, nothing configured, no proxy in between."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**inherited, "PATH": path, "PYTHONUNBUFFERED": "1", "NO_PROXY": "*", "no_proxy": "*"}


def run(
    command: Sequence[str],
    transcript: Transcript,
    *,
    exit_code: int = 0,
    cwd: Path = ROOT,
    script: str | None = None,
) -> None:
    """Raises Mismatch. ``script`` is what the program reads from stdin. A program whose transcript is open is
    stopped when it has said what is documented."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,  # a shell's children end with it
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(script or "")
        process.stdin.close()
        lines = _lines_of(process)
        while not transcript.is_open and (line := _next(lines, transcript)) is not None:
            transcript.feed(line)
        transcript.close()
        if not transcript.is_open and (code := process.wait(PATIENCE)) != exit_code:
            raise Mismatch(f"{transcript.where}: exit code {code}, not {exit_code}")
    finally:
        _stop(process)


def _lines_of(process: subprocess.Popen[str]) -> queue.SimpleQueue[str | None]:
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _next(lines: queue.SimpleQueue[str | None], transcript: Transcript) -> str | None:
    try:
        return lines.get(timeout=PATIENCE)
    except queue.Empty:
        awaited = transcript.lines[0] if transcript.lines else "the end"
        raise Mismatch(f"{transcript.where}: silent for {PATIENCE:g} s; documented: {awaited}") from None


def _stop(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, 15)
    except ProcessLookupError:
        pass
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait(10)
