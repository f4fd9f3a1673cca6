"""Generic channels beside the market's, so that a demo shows them too: a job and an assistant's tokens.

Both tell their story over and over, slowly, and are not counted in the configured rate.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from hub.sources.demo.drafts import Draft, Pace

_ANSWER = (
    "A channel is a log with numbers. Your subscription is a place in it, so a slow reader costs nothing, "
    "and whoever comes back goes on exactly where they left, over any transport."
)
_STAGES = ((0, "load candles"), (20, "simulate"), (85, "evaluate"), (95, "write report"))

_encode = msgspec.json.Encoder().encode


class _Scene(NamedTuple):
    """An event, and for how long it stands before the next."""

    event: str
    data: dict[str, Any]
    stays_ms: int


class Showcase:
    """One generic channel that plays its scenes at their pace."""

    def __init__(self, channel: str, scenes: Iterator[_Scene]) -> None:
        self.channel = channel
        self._scenes = scenes
        self._pace = Pace(0)

    def publish_due(self, now_ms: int) -> Iterator[Draft]:
        """The next scene, if the last has stood for long enough. Never more than one."""
        if self._pace.is_due(now_ms):
            scene = next(self._scenes)
            self._pace = Pace(scene.stays_ms)
            self._pace.mark(now_ms)
            yield Draft(self.channel, _encode(scene.data), now_ms, scene.event)


def open_showcases() -> list[Showcase]:
    """The generic channels of the demo, each at the beginning of its story."""
    return [Showcase("job:backtest_demo", _job()), Showcase("copilot:demo", _assistant())]


def _job() -> Iterator[_Scene]:
    for run in itertools.count(1):
        for percent in range(0, 100, 2):
            stage = [name for begin, name in _STAGES if begin <= percent][-1]
            job = {
                "jobId": "backtest_demo",
                "run": run,
                "status": "running",
                "progress": percent,
                "stage": stage,
            }
            yield _Scene("job_progress", job, 500)
        done = {"jobId": "backtest_demo", "run": run, "status": "done", "progress": 100, "stage": "done"}
        yield _Scene("job_done", done, 5_000)


def _assistant() -> Iterator[_Scene]:
    for count in itertools.count(1):
        message_id = f"m{count}"
        for index, word in enumerate(_ANSWER.split(" ")):
            token = word if index == 0 else f" {word}"
            yield _Scene("copilot_token", {"messageId": message_id, "index": index, "token": token}, 150)
        yield _Scene("message_done", {"messageId": message_id, "text": _ANSWER}, 8_000)
