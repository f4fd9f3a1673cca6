"""A client that keeps one book, and writes book and position to a file with each change, so that it may be killed
at any moment and go on from there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.soak.client import Options
from tests.soak.follower import NEXT, Follower, Progress
from tests.soak.socket_client import SocketClient
from tests.soak.states import History, comparable, copied


class Journal:
    """Book and position in one file, which is either the old one or the new one, never half of each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_suffix(".draft")

    def write(self, seq: int, epoch: str, book: Any) -> None:
        self._draft.write_text(json.dumps({"seq": seq, "epoch": epoch, "book": book}))
        os.replace(self._draft, self._path)

    def read(self) -> Mapping[str, Any] | None:
        """What was written last; None where there is nothing."""
        if not self._path.exists():
            return None
        entry: Mapping[str, Any] = json.loads(self._path.read_text())
        return entry

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


class BookKeeper(SocketClient):
    """Follows one book over ``/v2``, from where the journal says."""

    def __init__(self, address: str, channel: str, journal: Journal) -> None:
        super().__init__(Options(kind="v2", address=address, channels=[channel]))
        self._journal = journal
        self._book = History("book")  # as it is written: only the newest
        self._written = 0
        self._progress: Progress = self.follower.channels[channel]
        if (entry := journal.read()) is not None:
            self._progress.seq, self._progress.epoch = entry["seq"], entry["epoch"]
            self._progress.expects, self._written = NEXT, entry["seq"]
            self._progress.history.restore(entry["seq"], copied("book", entry["book"]))
            self._book.restore(entry["seq"], entry["book"])

    def note(self, change: Callable[[Follower], None]) -> None:
        super().note(change)
        progress = self._progress
        if not progress.can_resume or progress.seq == self._written:
            return
        assert progress.seq is not None and progress.epoch is not None
        for frame in progress.history.since(self._written):
            self._book.add(*frame)
        self._journal.write(progress.seq, progress.epoch, self._book.newest())
        self._written = progress.seq


def live(address: str, channel: str, path: str, questions: Connection) -> None:
    """The life of one such client, in a process of its own: answers with its state at the seq that it is asked for,
    until it is killed."""
    keeper = BookKeeper(address, channel, Journal(Path(path)))
    keeper.start()
    while True:
        seq = questions.recv()
        answer = keeper.ask(channel, seq)
        book = None if answer["state"] is None else comparable("book", answer["state"])
        counts, failures = dict(keeper.follower.counts), list(keeper.follower.failures)
        questions.send({"seq": answer["seq"], "book": book, "counts": counts, "failures": failures})
