"""What the WebSocket link promises beside the kit's checks: answers to pings and closes, whatever else goes on."""

from __future__ import annotations

import pytest
import trio

from hub.core.contracts import Answering, FastPath, Link
from hub.sansio.encodings import WebSocketFrames
from hub.sansio.errors import ProtocolViolated
from hub.testing.expectations import settle
from tests.testing.links import WebSocketFarEnd, open_websocket_over_loopback

MESSAGE = b"x" * 30_000
FRAME = WebSocketFrames(text=True).frame(MESSAGE, "")


def fill(link: Link) -> tuple[int, bytes]:
    """Writes until the link takes no more; how many messages that began, and the rest of the last."""
    assert isinstance(link, FastPath)
    count = 0
    while (taken := link.try_send(FRAME)) == len(FRAME):
        count += 1
    return (count + 1, FRAME[taken:]) if taken else (count, b"")


async def test_pings_are_answered_while_a_message_is_waited_for(nursery: trio.Nursery) -> None:
    async with open_websocket_over_loopback() as (link, far):
        with trio.fail_after(60):
            async with trio.open_nursery() as asking:
                asking.start_soon(expect, link, "later")
                for number in range(20):
                    await far.connection.ping(b"%d" % number)
                await far.send("later")


async def expect(link: Link, message: str) -> None:
    assert await link.receive() == message


async def test_whoever_stops_waiting_for_a_message_tears_no_frame() -> None:
    async with open_websocket_over_loopback() as (link, far):
        count, rest = fill(link)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(far.connection.ping, b"are you there?")
                await receive_for_a_while(link)
                # The answer waits for room; what was cut before goes first, what comes now goes after.
                nursery.start_soon(finish, link, rest)
                for _ in range(count + 1):
                    assert await far.receive() == MESSAGE


async def receive_for_a_while(link: Link) -> None:
    waiting = trio.CancelScope()

    async def receive() -> None:
        with waiting:
            await link.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await settle()
        waiting.cancel()
    assert waiting.cancelled_caught


async def finish(link: Link, rest: bytes) -> None:
    if rest:
        await link.send(rest)
    await link.send(FRAME)


@pytest.mark.parametrize("code", [1000, 1001, 4000])
async def test_a_close_is_answered_alike(code: int) -> None:
    async with open_websocket_over_loopback() as (link, far):
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect_end, link)
                await far.connection.aclose(code, "enough")
        reason = far.connection.closed
        assert reason is not None and (reason.code, reason.reason) == (code, "enough")


async def expect_end(link: Link) -> None:
    assert isinstance(link, Answering)
    with pytest.raises(trio.EndOfChannel):
        await link.receive()
    await link.answer_close()
    assert isinstance(link, Answering)
    await link.answer_close()


async def test_a_peer_that_broke_the_protocol_is_not_waited_for() -> None:
    async with open_websocket_over_loopback() as (link, far):
        with trio.fail_after(60):
            await far.stream.send_all(b"\x81\x01x")  # not masked
            with pytest.raises(ProtocolViolated) as caught:
                await link.receive()
            await link.aclose(caught.value.code, caught.value.msg)
            await expect_close(far, 1002)


async def expect_close(far: WebSocketFarEnd, code: int) -> None:
    with pytest.raises(trio.EndOfChannel):
        await far.receive()
    reason = far.connection.closed
    assert reason is not None and reason.code == code
