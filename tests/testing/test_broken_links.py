"""Links that break one promise each: the kit must find it and say which."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from hub.testing import check_transport, expectations
from tests.testing.links import lines
from tests.testing.memory_link import DeafFarEnd, FastLink, SlowLink, TalkingFarEnd, open_pair

BROKEN: list[tuple[type[SlowLink], str]] = []


def breaks(promise: str) -> Any:
    """The link below breaks ``promise``."""

    def collect(link: type[SlowLink]) -> type[SlowLink]:
        BROKEN.append((link, promise))
        return link

    return collect


@pytest.mark.parametrize("link", [SlowLink, FastLink])
@pytest.mark.parametrize("far", [TalkingFarEnd, DeafFarEnd])
async def test_a_good_link_passes(
    link: type[SlowLink], far: type[DeafFarEnd], autojump_clock: trio.testing.MockClock
) -> None:
    await check_transport(partial(open_pair, link, far), framing=lines.Lines())


# --- sending ------------------------------------------------------------------------------------------------


@breaks(r"^send: message \d+: sent .*, arrived")
class LosesAByte(SlowLink):
    async def send(self, data: bytes) -> None:
        await super().send(data.replace(b"xx\n", b"x\n") if len(data) > 60_000 else data)


@breaks(r"^send of joined messages: message 10: ")
class KeepaliveIsAMessage(SlowLink):
    keepalive = (b"ping\n", 30.0)


@breaks("^keepalive: ")
class KeepaliveWithoutAnInterval(SlowLink):
    keepalive = (b"\n", 0.0)


@breaks("^keepalive_is_enough is not a bool")
class KeepaliveIsEnoughIsMissing(SlowLink):
    keepalive_is_enough = None  # type: ignore[assignment]


@breaks("^send: took .* that nobody will ever read")
class QueuesForEver(SlowLink):
    async def send(self, data: bytes) -> None:
        self.out.capacity = 1 << 40
        await super().send(data)


@breaks("^send.*: still waiting")
class NeverGoesOn(SlowLink):
    async def send(self, data: bytes) -> None:
        if self.out.push(data) < len(data):
            await trio.sleep_forever()


@breaks("^send when the peer is gone: must raise .* raised BrokenPipeError")
class SendRaisesOsErrors(SlowLink):
    async def send(self, data: bytes) -> None:
        try:
            await super().send(data)
        except trio.BrokenResourceError:
            raise BrokenPipeError from None


@breaks("^send: took .* that nobody will ever read")
class SendSwallowsErrors(SlowLink):
    async def send(self, data: bytes) -> None:
        try:
            await super().send(data)
        except trio.BrokenResourceError:
            pass


# --- receiving ----------------------------------------------------------------------------------------------


@breaks("^receive when the peer has left: must raise EndOfChannel, raised nothing")
class TheEndIsAMessage(SlowLink):
    async def receive(self) -> str | bytes:
        try:
            return await super().receive()
        except trio.EndOfChannel:
            return ""


@breaks("^receive when the peer has left: must raise EndOfChannel, raised ConnectionResetError")
class TheEndIsAnOsError(SlowLink):
    async def receive(self) -> str | bytes:
        try:
            return await super().receive()
        except trio.EndOfChannel:
            raise ConnectionResetError from None


@breaks("^receive: message 0: sent '0 .*, got b'0 ")
class TextIsBytes(SlowLink):
    async def receive(self) -> str | bytes:
        message = await super().receive()
        assert isinstance(message, str)
        return message.encode()


@breaks("^receive: message 0: ")
class AReadIsAMessage(SlowLink):
    async def receive(self) -> str | bytes:
        return (await self.read()).decode().rstrip()


@breaks("^receive: message 1: still waiting")
class LosesWhatCameTogether(SlowLink):
    async def receive(self) -> str | bytes:
        message = await super().receive()
        self.input = b""
        return message


@breaks("^receive when the peer is gone: must raise .* still waiting")
class DoesNotHearThatThePeerIsGone(SlowLink):
    async def receive(self) -> str | bytes:
        try:
            return await super().receive()
        except trio.BrokenResourceError:
            self.into.is_broken = self.into.has_ended = False
        return await super().receive()


# --- closing ------------------------------------------------------------------------------------------------


@breaks("^the far end's receive after aclose: must raise EndOfChannel, still waiting")
class StaysOpen(SlowLink):
    async def aclose(self, code: int, reason: str) -> None:
        pass


@breaks(r"^aclose: message \d of 3: raised EndOfChannel")
class ClosesOverItsOwnWords(SlowLink):
    async def aclose(self, code: int, reason: str) -> None:
        self.out.buffer.clear()
        await super().aclose(code, reason)


@breaks("^aclose: cannot be cancelled")
class CannotBeCancelled(SlowLink):
    async def aclose(self, code: int, reason: str) -> None:
        with trio.CancelScope(shield=True):
            await super().aclose(code, reason)


@breaks("^aclose.*: raised ValueError")
class FailsToClose(SlowLink):
    async def aclose(self, code: int, reason: str) -> None:
        self.out.end()
        if not self.into.has_ended:
            raise ValueError("unfinished")


# --- the fast path ------------------------------------------------------------------------------------------


@breaks("^try_send: returned None, not a number of bytes")
class DoesNotSayHowMuch(FastLink):
    def try_send(self, data: bytes) -> int:
        super().try_send(data)
        return None  # type: ignore[return-value]


@breaks("^try_send: says it took")
class CountsMoreThanItWasGiven(FastLink):
    def try_send(self, data: bytes) -> int:
        return super().try_send(data) + 1


@breaks("^try_send: an idle link took 0 of")
class NeverTakesAnything(FastLink):
    def try_send(self, data: bytes) -> int:
        return 0


@breaks(
    "^try_send until full, then send of the rest: message|^try_send: took .* though the peer does not read"
)
class ClaimsToHaveTakenAll(FastLink):
    def try_send(self, data: bytes) -> int:
        super().try_send(data)
        return len(data)


@breaks("^try_send until full, then send of the rest: message")
class BeginsAgainWhenCut(FastLink):
    cut = b""

    def try_send(self, data: bytes) -> int:
        taken = super().try_send(data)
        self.cut = data if taken < len(data) else b""
        return taken

    async def send(self, data: bytes) -> None:
        if self.cut.endswith(data):
            data, self.cut = self.cut, b""
        await super().send(data)


@breaks("^try_send until full, then send of the rest: message")
class ForgetsTheRest(FastLink):
    async def send(self, data: bytes) -> None:
        await super().send(data if data.count(b"\n") != 1 or data[:1].isdigit() else b"\n")


@breaks("^wait_writable: returned 50 times in a row")
class AlwaysSaysThereIsRoom(FastLink):
    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()


@breaks("^wait_writable, whose peer .*: still waiting")
class NeverSaysThereIsRoom(FastLink):
    async def wait_writable(self) -> None:
        await trio.sleep_forever()


@breaks("^wait_writable when the peer vanishes: still waiting")
class WaitsForRoomThatWillNeverBe(FastLink):
    async def wait_writable(self) -> None:
        while len(self.out.buffer) >= self.out.capacity or self.out.is_broken:
            await self.out.wait_changed()


@breaks("^try_send when the peer is gone: must raise")
class TrySendRaisesOsErrors(FastLink):
    def try_send(self, data: bytes) -> int:
        if self.out.is_broken:
            raise BrokenPipeError
        return super().try_send(data)


@pytest.mark.parametrize("link, promise", BROKEN, ids=lambda value: getattr(value, "__name__", ""))
async def test_the_kit_names_the_broken_promise(
    link: type[SlowLink], promise: str, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(AssertionError, match=promise):
        await check_transport(partial(open_pair, link), framing=lines.Lines())


async def test_the_kit_ends_a_try_send_that_blocks(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blocks(FastLink):
        def try_send(self, data: bytes) -> int:
            while not super().try_send(data):
                time.sleep(0.001)
            return len(data)

    monkeypatch.setattr(expectations, "PATIENCE", 0.1)
    with pytest.raises(AssertionError, match=r"^try_send: blocked the whole process"):
        await check_transport(partial(open_pair, Blocks), framing=lines.Lines())


async def test_the_kit_knows_a_link_that_only_sends_and_ends_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class EndsAtOnce(SlowLink):
        async def receive(self) -> str | bytes:
            await trio.lowlevel.checkpoint()
            raise trio.EndOfChannel

    with pytest.raises(AssertionError, match=r"^receive while the peer is there: raised EndOfChannel"):
        await check_transport(partial(open_pair, EndsAtOnce, DeafFarEnd), framing=lines.Lines())
