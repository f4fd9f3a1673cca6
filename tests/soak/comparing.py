"""Holds what clients know against what the hub says of itself at the same number."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import attrs
import httpx

from tests.hub_process import HubProcess
from tests.soak.crowd import Member
from tests.soak.states import comparable, is_best_first, kind_of, load

#: Seconds between two comparisons of one client.
PACE = 0.25


@attrs.define
class Comparer:
    """Holds one client's states against the hub's, channel by channel, until told to stop."""

    hub: HubProcess
    member: Member
    #: channel -> comparisons that came out equal
    equal: Counter[str] = attrs.field(factory=Counter)
    failures: list[str] = attrs.field(factory=list)
    _stop: threading.Event = attrs.field(factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(120)

    @property
    def channels(self) -> list[str]:
        """All but those whose events come on another channel, where there is no telling what they come to."""
        covered = {
            name.partition("@")[0] for name in self.member.channels if name.startswith(("orders@", "fills@"))
        }
        return [name for name in self.member.channels if name not in covered]

    @property
    def missing(self) -> list[str]:
        return [name for name in self.channels if not self.equal[name]]

    def _run(self) -> None:
        with httpx.Client(base_url=self.hub.public_url, headers=self.member.headers, trust_env=False) as http:
            while not self._stop.is_set():
                for channel in self.channels:
                    if self._stop.wait(PACE):
                        return
                    try:
                        self._compare(http, channel)
                    except Exception as error:  # told at the end: a thread's failure is nobody's
                        self.failures.append(f"{channel}: {type(error).__name__}: {error}")

    def _compare(self, http: httpx.Client, channel: str) -> None:
        truth = fetch_truth(http, channel)
        answer = self.member.follower.ask(channel, truth["seq"])
        if answer["state"] is None:  # not there yet, or it was told that it lost this one
            return
        if answer["epoch"] not in (None, truth["epoch"]):
            self.failures.append(f"{channel}: epoch {answer['epoch']}, the hub's is {truth['epoch']}")
        kind = kind_of(channel)
        if kind == "book" and not is_best_first(truth["data"]):
            self.failures.append(f"{channel}: the hub's book {truth['seq']} is not best first")
        theirs, ours = comparable(kind, answer["state"]), comparable(kind, load(kind, truth["data"]))
        if theirs != ours:
            self.failures.append(f"{channel} at {truth['seq']}: {difference(theirs, ours)}")
        else:
            self.equal[channel] += 1


def fetch_truth(http: httpx.Client, channel: str) -> Any:
    """``{"seq", "epoch", "data"}``: the hub's state of a channel, or where it has none, its newest event."""

    def get(path: str) -> Any:
        response = http.get(path)
        assert response.status_code == 200, f"{path}: {response.status_code} {response.text}"
        return response.json()

    if kind_of(channel) != "none":
        return get(f"/snapshot/{channel}")
    head = get(f"/history/{channel}?limit=1")["seq"]
    page = get(f"/history/{channel}?limit=1&format=v2&after={head - 1}")
    return {**page["events"][0], "epoch": page["epoch"]}


def difference(theirs: Any, ours: Any) -> str:
    """In few words, where a client's state is another than the hub's."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        odd = {key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)}
        parts = {
            key: f"client {theirs.get(key)!s:.300}, hub {ours.get(key)!s:.300}"
            for key in sorted(odd, key=str)[:4]
        }
        if odd & {"bids", "asks"}:
            return "; ".join(f"{side}: {difference(theirs[side], ours[side])}" for side in sorted(odd))
        return f"{len(odd)} differ: {parts}"
    return f"client {theirs!s:.300}, hub {ours!s:.300}"
