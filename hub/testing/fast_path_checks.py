"""What a link with a fast path promises besides (``hub.core.contracts.FastPath``).

The checks write as the hub's own writer does: ``try_send`` until it takes less than it was given, then
``send`` with the rest of the message that was cut, or ``wait_writable`` where none was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

import trio

from hub.core.contracts import FastPath, Link
from hub.testing.expectations import LINK_ERRORS, in_time, never_blocking, raises, settle, without_error
from hub.testing.far_end import LinkMaker
from hub.testing.link_checks import TOO_MUCH, expect_cancellable_aclose, expect_messages
from hub.testing.messages import Speech

#: How often there may be room, as ``wait_writable`` says, while nobody reads.
FALSE_ALARMS = 50
#: How often the link must have been full, either way, before we believe that cutting does no harm.
CUTS = 4


def try_send(link: Link, data: bytes) -> int:
    """Calls it and checks what holds for every call."""
    assert isinstance(link, FastPath)
    with never_blocking("try_send"):
        taken = link.try_send(data)
    assert type(taken) is int, f"try_send: returned {taken!r}, not a number of bytes"
    assert 0 <= taken <= len(data), f"try_send: says it took {taken} of {len(data)} bytes"
    return taken


async def check_idle_link_takes_all(maker: LinkMaker, speech: Speech) -> None:
    """One message at a time, read at once, needs no waiting."""
    messages = speech.messages((8, 125, 126, 1000, 4096))
    async with maker() as (link, far):
        for index, message in enumerate(messages):
            frame = speech.frame(message, is_first=not index)
            taken = try_send(link, frame)
            assert taken == len(frame), f"try_send: an idle link took {taken} of {len(frame)} bytes"
            await expect_messages("try_send", far, [message])


async def check_cut_messages(clogged_maker: LinkMaker, speech: Speech) -> None:
    """However the link cuts, nothing is lost, doubled or mixed up."""
    async with clogged_maker() as (link, far):
        single, joined = _batches(speech, (1,)), _batches(speech, (1, 3, 2, 1, 5))
        for batches in (single, joined) * CUTS:
            sent: list[bytes] = []
            async with trio.open_nursery() as nursery:
                rest = _write_until_full(link, speech, batches, sent)
                nursery.start_soon(_finish, link, rest)
                await settle()
                await expect_messages("try_send until full, then send of the rest", far, sent)


def _write_until_full(
    link: Link, speech: Speech, batches: Iterator[Sequence[bytes]], sent: list[bytes]
) -> bytes:
    """Adds to ``sent`` what is on its way then; returns what is left of the last of it."""
    size = 0
    for batch in batches:
        frames = [speech.frame(message) for message in batch]
        data = b"".join(frames)
        taken = try_send(link, data)
        rest = _account(batch, frames, taken, sent)
        if taken < len(data):
            return rest
        size += taken
        assert size < TOO_MUCH, f"try_send: took {size} bytes though the peer does not read"
    raise AssertionError


def _batches(speech: Speech, counts: Sequence[int] = (1,)) -> Iterator[Sequence[bytes]]:
    messages = speech.endless()
    for count in cycle(counts):
        yield [next(messages) for _ in range(count)]


def _account(batch: Sequence[bytes], frames: Sequence[bytes], taken: int, sent: list[bytes]) -> bytes:
    for message, frame in zip(batch, frames, strict=True):
        if taken <= 0:
            break
        sent.append(message)
        if taken < len(frame):
            return frame[taken:]
        taken -= len(frame)
    return b""


async def _finish(link: Link, rest: bytes) -> None:
    assert isinstance(link, FastPath)
    if rest:
        with in_time("send of a message's rest"):
            await link.send(rest)
    else:
        with in_time("wait_writable, whose peer reads"):
            await link.wait_writable()


async def check_wait_writable(clogged_maker: LinkMaker, speech: Speech) -> None:
    """It waits while there is no room, and ends when there is."""
    sent: list[bytes] = []
    async with clogged_maker() as (link, far), trio.open_nursery() as nursery:
        rest, waiting = await _wait_while_full(link, speech, sent, nursery)
        await expect_messages("try_send until full", far, sent[: len(sent) - bool(rest)])
        with in_time("wait_writable, whose peer has read all"):
            await waiting.wait()
        if rest:
            nursery.start_soon(_finish, link, rest)
            await expect_messages("send of a message's rest", far, sent[-1:])


async def check_wait_writable_breaks(clogged_maker: LinkMaker, speech: Speech) -> None:
    """A peer that vanishes ends it, by an error or without."""
    async with clogged_maker() as (link, far), trio.open_nursery() as nursery:
        _, waiting = await _wait_while_full(link, speech, [], nursery)
        with in_time("the far end's abort"):
            await far.abort()
        with in_time("wait_writable when the peer vanishes"):
            await waiting.wait()


async def _wait_while_full(
    link: Link, speech: Speech, sent: list[bytes], nursery: trio.Nursery
) -> tuple[bytes, trio.Event]:
    """Fills the link until ``wait_writable`` waits; returns what is left of the last message, and an event for
    when it waits no more."""
    assert isinstance(link, FastPath)
    rest = _write_until_full(link, speech, _batches(speech), sent)
    for _ in range(FALSE_ALARMS):
        await settle()
        is_over = trio.Event()
        nursery.start_soon(_wait_writable, link, is_over)
        await settle()
        if not is_over.is_set():
            return rest, is_over
        if rest:
            rest = rest[try_send(link, rest) :]
        if not rest:
            rest = _write_until_full(link, speech, _batches(speech), sent)
    raise AssertionError(
        f"wait_writable: returned {FALSE_ALARMS} times in a row while the peer reads nothing; the hub would spin"
    )


async def _wait_writable(link: FastPath, is_over: trio.Event) -> None:
    with without_error("wait_writable"):
        try:
            await link.wait_writable()
        except LINK_ERRORS:
            pass
    is_over.set()


async def check_aclose_when_full(clogged_maker: LinkMaker, speech: Speech) -> None:
    """``aclose`` whose last words find no room can be cancelled."""
    last_words = speech.frame(speech.message(0, 20))
    async with clogged_maker() as (link, far):
        taken = 1
        while taken:
            # A message may well end where the link cut: it cannot know. Then the hub waits, and may close next.
            async with trio.open_nursery() as nursery:
                await _wait_while_full(link, speech, [], nursery)
                nursery.cancel_scope.cancel()
            taken = try_send(link, last_words)
        await expect_cancellable_aclose(link, far)


async def check_peer_vanishes(maker: LinkMaker, speech: Speech) -> None:
    """The fast path tells, too, that the peer is gone."""
    async with maker() as (link, far):
        assert isinstance(link, FastPath)
        with in_time("the far end's abort"):
            await far.abort()
        with raises("try_send when the peer is gone", *LINK_ERRORS):
            for message in speech.endless():
                frame = speech.frame(message)
                if try_send(link, frame) < len(frame):
                    await link.wait_writable()
                await trio.lowlevel.checkpoint()
