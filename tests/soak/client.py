"""What the soak's clients in Python share: a thread that follows, and questions about what it has seen."""

from __future__ import annotations

import abc
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tests.soak.follower import Follower

#: How long a question about a seq may wait until the client has got there, in seconds.
PATIENCE = 15.0


@attrs.frozen(kw_only=True)
class Options:
    """``address`` is HOST:PORT of the proxy; ``headers`` are the credentials."""

    kind: str
    address: str
    channels: list[str]
    headers: Mapping[str, str] = attrs.field(factory=dict)
    seed: int = 0


class Client(abc.ABC):
    """Follows channels through one connection after the other until it is stopped."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.follower = Follower(options.channels)
        self.is_stopped = threading.Event()
        self.random = random.Random(options.seed)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @abc.abstractmethod
    def connect_once(self) -> None:
        """One connection, from its opening to its end; it may end by any error of the network."""

    @abc.abstractmethod
    def leave(self) -> None:
        """Ends the connection that is open, from another thread."""

    def note(self, change: Callable[[Follower], None]) -> None:
        """Lets the follower take something; wakes who waits for it."""
        with self._changed:
            change(self.follower)
            self._changed.notify_all()

    def count(self, *names: str) -> None:
        self.note(lambda follower: follower.counts.update(names))

    def fail(self, text: str) -> None:
        self.note(lambda follower: follower.fail(text))

    def take(self, message: Mapping[str, Any]) -> None:
        """What came of the channels, as a frame or an envelope."""
        self.note(lambda follower: follower.take(message))

    def _run(self) -> None:
        while not self.is_stopped.is_set():
            self.count("connections")
            try:
                self.connect_once()
            except Exception as error:  # a client that dies would be a client that finds nothing
                self.fail(f"{type(error).__name__}: {error}")
            self.is_stopped.wait(self.random.uniform(0.05, 0.3))

    def ask(self, channel: str, seq: int) -> dict[str, Any]:
        """The state of a channel at ``seq``, once the client is there; None where it is not known."""
        progress = self.follower.channels[channel]
        with self._changed:
            self._changed.wait_for(lambda: progress.seq is not None and progress.seq >= seq, PATIENCE)
            return {"seq": progress.seq, "epoch": progress.epoch, "state": progress.history.at(seq)}

    def stop(self) -> dict[str, Any]:
        """Ends, and says what it has seen."""
        self.is_stopped.set()
        self.leave()
        self._thread.join(10)
        return {"counts": self.follower.counts, "failures": self.follower.failures}
