"""The rules of ``hub tail``, without any connection: when to come back, what is news, what cannot be understood."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.app.commands.endings import STABLE, Backoff, Ending, closed, refused
from hub.app.commands.envelopes import Envelope, Head, parse_envelope
from hub.app.commands.over_websocket import MESSAGE_SIZE, subscribe_commands
from hub.app.commands.progress import Progress
from tests.app.following import Told


def test_backoff_begins_again_after_a_connection_that_was_good() -> None:
    backoff, lost = Backoff(lambda: 0.25), Ending(reason="lost")
    waits = [backoff.delay(lost, None) for _ in range(6)]
    assert waits == [1.25, 2.25, 4.25, 8.25, 16.25, 16.25]
    assert backoff.delay(lost, 0.0) == 1.25


def test_backoff_goes_on_for_a_client_that_is_closed_as_too_slow_again_and_again() -> None:
    backoff, slow = Backoff(lambda: 0.0), closed(4000, "slow consumer")
    assert [backoff.delay(slow, 10.0) for _ in range(4)] == [1, 2, 4, 8]
    assert backoff.delay(slow, STABLE) == 1


@pytest.mark.parametrize(
    "status, is_final", [(400, True), (404, True), (429, False), (503, False), (301, True)]
)
def test_an_http_refusal_says_whether_to_come_back(status: int, is_final: bool) -> None:
    ending = refused(status, {"retry-after": "7"}, b'{"code":40004,"msg":"too many","channel":"x"}')
    assert (ending.is_final, ending.retry_after) == (is_final, 7.0)
    assert ending.reason == f"x: too many (40004), HTTP {status}"
    assert refused(status, {"retry-after": "Wed, 21 Oct"}, b"<html>").retry_after == 0.0


names = st.text("abc:_@.", min_size=1, max_size=64)


@given(st.lists(names, min_size=1, max_size=200, unique=True), st.booleans(), st.booleans())
def test_subscribe_commands_are_never_too_large(
    channels: list[str], has_cursor: bool, has_counted: bool
) -> None:
    progress = Progress("c" * 2048 if has_cursor else None)
    if has_counted:
        progress.begin({channel: Head(2**50, "mws3mg86sj5") for channel in channels})
        for channel in channels:
            progress.take(Envelope(1, "tick", channel, 2**50, 0))
    commands = subscribe_commands(channels, progress)
    assert all(len(command) <= MESSAGE_SIZE for command in commands)
    parsed = [json.loads(command) for command in commands]
    assert [channel for command in parsed for channel in command["channels"]] == channels
    assert all(set(command.get("lastSeq", {})) <= set(command["channels"]) for command in parsed)


def envelope(event: str, seq: int, data: Any = None) -> Envelope:
    body = {"v": 1, "event": event, "channel": "a", "seq": seq, "ts": 0, "ok": True, "data": data}
    return parse_envelope(json.dumps(body).encode())


def test_a_notice_does_not_move_the_client_on() -> None:
    """What heals the loss comes after the notice; a connection that breaks in between must not cost it."""
    progress = Progress()
    progress.begin({"a": Head(9, "e")})
    assert progress.take(envelope("tick", 5))
    assert progress.take(envelope("backpressure_drop", 9, {"fromSeq": 6, "toSeq": 9, "dropped": 4}))
    assert progress.last_seq == {"a": {"seq": 5, "epoch": "e"}}
    assert progress.take(envelope("snapshot", 9))
    assert progress.last_seq == {"a": {"seq": 9, "epoch": "e"}}


async def test_a_cursor_that_knows_only_some_channels_is_not_taken() -> None:
    """Channels are subscribed by several commands; between two answers a cursor speaks of a part of them."""
    follower = Told().follower("a", "b")
    follower.ask(2)
    follower.take(answer({"a": 7}, "of a"))
    follower.take(system("heartbeat", {"cursor": "of a"}))
    assert follower.progress.cursor is None
    follower.take(answer({"b": 8}, "of both"))
    assert follower.progress.cursor == "of both"


def answer(heads: Mapping[str, int], cursor: str) -> bytes:
    positions = {channel: {"seq": seq, "firstSeq": 1, "epoch": "e"} for channel, seq in heads.items()}
    return system(
        "subscribed", {"channels": list(heads), "errors": [], "positions": positions, "cursor": cursor}
    )


def system(event: str, data: Any) -> bytes:
    return json.dumps({"v": 1, "event": event, "channel": "system", "seq": 0, "ts": 0, "data": data}).encode()


def test_numbers_that_begin_again_after_a_gap_are_news() -> None:
    progress = Progress()
    progress.begin({"a": Head(9, "e")})
    assert progress.take(envelope("tick", 9))
    assert not progress.take(envelope("tick", 9))
    assert progress.take(envelope("gap", 0, {"reason": "ahead", "fromSeq": 10, "toSeq": None, "epoch": "e"}))
    assert progress.take(envelope("tick", 1))


@pytest.mark.parametrize(
    "raw",
    [
        b"{", b"[]", b'"x"', b"{}", b"\xff", b'{"v":2,"event":"e","channel":"ev:1","seq":1,"ts":1}',
        b'{"v":1,"event":"e","channel":"ev:1","seq":"1","ts":1}',
        b'{"v":1,"event":"gap","channel":"ev:1","seq":1,"ts":1,"data":{}}',
        b'{"v":1,"event":"subscribed","channel":"system","seq":0,"ts":1,"data":[]}',
    ],
)  # fmt: skip
def test_an_event_that_cannot_be_understood_is_dropped_and_told(raw: bytes) -> None:
    told = Told()
    follower = told.follower("ev:1")
    assert follower.take(raw) is None
    assert not told.events
    assert told.said[0].startswith("dropped an event")
