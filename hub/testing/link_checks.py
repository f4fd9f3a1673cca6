"""What every link promises (``hub.core.contracts.Link``)."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from hub.core.contracts import Answering, Link
from hub.testing.expectations import LINK_ERRORS, PATIENCE, in_time, raises, settle, shorten, without_error
from hub.testing.far_end import FarEnd, LinkMaker, Talking
from hub.testing.messages import Speech

#: More than any path holds: whoever takes as much while nobody reads keeps it in a queue.
TOO_MUCH = 64 * 1024 * 1024


async def check_attributes(maker: LinkMaker, speech: Speech) -> None:
    async with maker() as (link, _):
        frame, interval = link.keepalive
        assert isinstance(frame, bytes), f"keepalive: {frame!r} is not bytes"
        assert not frame or interval > 0, f"keepalive: every {interval!r} seconds"
        assert isinstance(link.keepalive_is_enough, bool), "keepalive_is_enough is not a bool"


async def check_messages_arrive(maker: LinkMaker, speech: Speech) -> None:
    """Whole, in order, byte for byte, each in a write of its own."""
    messages = speech.messages()
    frames = [speech.frame(message, is_first=not index) for index, message in enumerate(messages)]
    async with maker() as (link, far):
        await _check_exchange("send", link, frames, far, messages)


async def check_joined_messages_arrive(maker: LinkMaker, speech: Speech) -> None:
    """Many in one write, as the writer joins them; the keepalive in between is none of them."""
    messages = speech.messages() * 2
    keepalive_at = len(messages) // 2
    async with maker() as (link, far):
        frames = [speech.frame(message, is_first=not index) for index, message in enumerate(messages)]
        frames.insert(keepalive_at, link.keepalive[0])
        await _check_exchange("send of joined messages", link, [b"".join(frames)], far, messages)


async def _check_exchange(
    promise: str, link: Link, writes: Sequence[bytes], far: FarEnd, messages: Sequence[bytes]
) -> None:
    async def send() -> None:
        for data in writes:
            with in_time(promise):
                await link.send(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await expect_messages(promise, far, messages)


async def expect_messages(promise: str, far: FarEnd, messages: Sequence[bytes]) -> None:
    """The far end gets these next."""
    for index, message in enumerate(messages):
        with in_time(f"{promise}: message {index} of {len(messages)}"):
            got = await far.receive()
        assert got == message, f"{promise}: message {index}: sent {shorten(message)}, arrived {shorten(got)}"


async def check_send_waits(clogged_maker: LinkMaker, speech: Speech) -> None:
    """A peer that does not read stops ``send``; it goes on, where it stopped, when the peer reads."""
    sent: list[bytes] = []

    async def send() -> None:
        with without_error("send to a peer that does not read"):
            await send_much(link, speech, sent)

    async with clogged_maker() as (link, far), trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await _wait_stuck(sent)
        await expect_messages("send to a peer that reads again", far, list(sent))
        nursery.cancel_scope.cancel()


async def _wait_stuck(sent: Sequence[bytes]) -> None:
    """Returns when no more is sent, though there is more to send."""
    before = -1
    while len(sent) != before:
        before = len(sent)
        await settle()


async def check_receive(maker: LinkMaker, speech: Speech) -> None:
    """The peer's messages, each once, in order; then EndOfChannel."""
    messages = [speech.message(number, size) for number, size in enumerate((8, 20, 125, 126, 1000, 9, 3000))]
    async with maker() as (link, far):
        assert isinstance(far, Talking)
        with in_time("the far end's send"):
            for message in messages:
                await far.send(speech.received(message))
        for index, message in enumerate(messages):
            with in_time(f"receive: message {index}"):
                got = await link.receive()
            expected = speech.received(message)
            assert got == expected, f"receive: message {index}: sent {shorten(expected)}, got {shorten(got)}"
            assert type(got) is type(expected), f"receive: gave {type(got).__name__}"
        await _check_end(link, far)


async def check_only_end_is_received(maker: LinkMaker, speech: Speech) -> None:
    """A link that only sends waits in ``receive`` for as long as the peer is there."""
    async with maker() as (link, far), trio.open_nursery() as nursery:
        receiving = trio.CancelScope()

        async def receive() -> None:
            with receiving, without_error("receive while the peer is there"):
                await _expect_nothing(link, "the link only sends")

        nursery.start_soon(receive)
        await settle()
        receiving.cancel()
        await settle()
        await _check_end(link, far)


async def _expect_nothing(link: Link, why: str) -> None:
    got = await link.receive()
    raise AssertionError(f"receive: gave {shorten(got)} though {why}")


async def _check_end(link: Link, far: FarEnd) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_leave, far)
        with raises("receive when the peer has left", trio.EndOfChannel):
            await link.receive()
        if isinstance(link, Answering):
            with in_time("answer_close"):
                await link.answer_close()


async def _leave(far: FarEnd) -> None:
    with in_time("the far end's aclose"):
        await far.aclose()


async def check_peer_vanishes(maker: LinkMaker, speech: Speech) -> None:
    """A peer that is gone without a word ends both directions, with Trio's errors."""
    async with maker() as (link, far):
        with in_time("the far end's abort"):
            await far.abort()
        with raises("receive when the peer is gone", trio.EndOfChannel, *LINK_ERRORS):
            await _expect_nothing(link, "the peer is gone")
        with raises("send when the peer is gone", *LINK_ERRORS):
            await send_much(link, speech, [])


async def send_much(link: Link, speech: Speech, sent: list[bytes]) -> None:
    """Sends until something stops it. Adds to ``sent`` what it begins to send."""
    size = 0
    for message in speech.endless():
        sent.append(message)
        await link.send(speech.frame(message, is_first=len(sent) == 1))
        await trio.lowlevel.checkpoint()
        size += len(message)
        assert size < TOO_MUCH, f"send: took {size} bytes that nobody will ever read"


async def check_send_breaks(clogged_maker: LinkMaker, speech: Speech) -> None:
    """A peer that vanishes while ``send`` waits for it ends the waiting."""
    sent: list[bytes] = []

    async def send() -> None:
        with raises("send when the peer vanishes meanwhile", *LINK_ERRORS):
            await send_much(link, speech, sent)

    async with clogged_maker() as (link, far), trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await _wait_stuck(sent)
        with in_time("the far end's abort"):
            await far.abort()


async def check_aclose(maker: LinkMaker, speech: Speech) -> None:
    """The far end gets what was sent before, and then the end. A link that is closed may refuse to send."""
    messages = speech.messages((8, 1000, 126))
    async with maker() as (link, far):
        async with trio.open_nursery() as nursery:

            async def close() -> None:
                for message in messages:
                    await link.send(speech.frame(message))
                with in_time("aclose, whose peer reads"):
                    await link.aclose(1000, "done")

            nursery.start_soon(close)
            await expect_messages("aclose", far, messages)
            with raises("the far end's receive after aclose", trio.EndOfChannel):
                await far.receive()
            await _leave(far)
        with in_time("send after aclose"):
            try:
                await link.send(speech.frame(messages[0]))
            except LINK_ERRORS:
                pass


async def check_aclose_cancelled(maker: LinkMaker, speech: Speech) -> None:
    """``aclose`` under a scope that is cancelled already may do little, but it neither stays nor fails."""
    async with maker() as (link, far):
        await expect_cancellable_aclose(link, far, is_cancelled_before=True)


async def check_aclose_unanswered(clogged_maker: LinkMaker, speech: Speech) -> None:
    """``aclose`` may wait for a peer that reads nothing, but the caller can end that."""
    async with clogged_maker() as (link, far):
        await expect_cancellable_aclose(link, far)


async def expect_cancellable_aclose(link: Link, far: FarEnd, *, is_cancelled_before: bool = False) -> None:
    closing, is_over = trio.CancelScope(), trio.Event()

    async def close() -> None:
        with closing, without_error("aclose when the peer does not read"):
            try:
                await link.aclose(1001, "going away")
            except LINK_ERRORS:
                pass
        is_over.set()

    async with trio.open_nursery() as nursery:
        if is_cancelled_before:
            closing.cancel()
        nursery.start_soon(close)
        await settle()
        closing.cancel()
        with trio.move_on_after(PATIENCE):
            await is_over.wait()
        if not is_over.is_set():
            await far.abort()  # else what cannot be cancelled would hold us, too
            raise AssertionError("aclose: cannot be cancelled while the peer does not read")
