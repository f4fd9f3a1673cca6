"""What the registry forgets, and what must not be forgotten with it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from hub.core.broker import Broker, BrokerLimits
from hub.core.channel import Channel
from hub.core.registry import RegistryLimits
from hub.sansio.errors import ErrorCode, PublishRefused, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.names import Namespaces
from hub.sansio.policies import Policy

POLICIES = (Policy(pattern="ev:*", snapshot="last"), Policy(pattern="mine:*", private=True))
Clock = trio.testing.MockClock


def make_broker(**limits: float) -> Broker:
    registry = RegistryLimits(**limits)  # type: ignore[arg-type]
    return Broker(
        Namespaces(POLICIES, {}), limits=BrokerLimits(registry=registry), now_ms=lambda: 1_740_000_000_000
    )


async def test_a_forgotten_channel_comes_back_under_another_epoch(autojump_clock: Clock) -> None:
    broker = make_broker(idle=5.0)
    before = broker.publish("ev:1", b"1")
    other = broker.publish("ev:2", b"1")
    assert before.epoch == other.epoch
    await trio.sleep(5.5)
    broker.publish("ev:2", b"2")
    list(broker.registry.sweep(trio.current_time()))
    after = broker.publish("ev:1", b"1")
    assert after.seq == 1
    assert after.epoch != before.epoch
    assert broker.publish("ev:2", b"3") == type(other)(other.epoch, 3)


async def test_the_global_byte_limit_has_the_last_word(autojump_clock: Clock) -> None:
    broker = make_broker(buffered_bytes=20_000)
    for count in range(500):
        broker.publish(f"ev:{count % 7}", b'"%b"' % (b"x" * (count % 300)))
        assert broker.registry.buffered_bytes <= 20_000
        assert broker.registry.buffered_bytes == sum(channel.log.size for channel in broker.registry)
    assert all(channel.state is not None for channel in broker.registry)


async def test_the_channel_limit(autojump_clock: Clock) -> None:
    broker = make_broker(channels=3)
    wanted = [broker.registry.open(f"ev:{number}", ANONYMOUS) for number in range(3)]
    for channel in wanted:
        channel.waiters.add(trio.Event())
    with pytest.raises(PublishRefused) as refused:
        broker.publish("ev:9", b"1")
    assert refused.value.code == ErrorCode.UNAVAILABLE
    wanted[1].waiters.clear()
    await trio.sleep(2)  # where there was no room nobody looks again at once
    assert broker.publish("ev:9", b"1").seq == 1
    assert len(broker.registry) == 3
    assert broker.registry.find("ev:1", None) is None


async def test_a_poll_at_the_channel_limit_hears_of_all_its_channels(autojump_clock: Clock) -> None:
    broker = make_broker(channels=2)
    broker.registry.open("ev:0", ANONYMOUS).waiters.add(trio.Event())
    with pytest.raises(RequestRefused):
        # There is room for one of the two only. Neither may be forgotten in favour of the other.
        async with broker.waiting_for_news(("ev:1", "ev:2"), ANONYMOUS):
            pass
    async with broker.waiting_for_news(("ev:1",), ANONYMOUS) as news:
        broker.publish("ev:1", b"1")
        assert broker.registry.find("ev:1", None) is not None
        assert broker.registry.open("ev:1", ANONYMOUS).waiters == {news.event}


async def test_channels_named_twice_by_a_poll(autojump_clock: Clock) -> None:
    broker = make_broker()
    async with broker.waiting_for_news(("ev:1", "ev:1"), ANONYMOUS):
        pass
    assert len(broker.registry) == 0


async def test_private_channels_are_one_per_user(autojump_clock: Clock) -> None:
    broker = make_broker()
    assert broker.publish("mine:1", b"1", user="a").seq == 1
    assert broker.publish("mine:1", b"1", user="b").seq == 1
    assert broker.publish("mine:1", b"1", user="a").seq == 2
    assert broker.registry.open("mine:1", Identity("a")).log.head_seq == 2
    with pytest.raises(PublishRefused):
        broker.publish("mine:1", b"1")
    with pytest.raises(RequestRefused):
        broker.registry.open("mine:1", ANONYMOUS)


async def test_a_full_node_looks_for_room_once_a_second(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look is at all channels, so names for which there is no room must not cost one each."""
    broker = make_broker(channels=20)
    for number in range(20):
        broker.registry.open(f"ev:{number}", ANONYMOUS).waiters.add(trio.Event())
    looks = 0
    is_wanted = Channel.is_wanted.fget  # type: ignore[attr-defined]

    def count(channel: Channel) -> bool:
        nonlocal looks
        looks += 1
        return bool(is_wanted(channel))

    monkeypatch.setattr(Channel, "is_wanted", property(count))
    for number in range(100):
        with pytest.raises(RequestRefused):
            broker.registry.open(f"ev:x{number}", ANONYMOUS)
    assert looks == 20
    await trio.sleep(1.1)
    with pytest.raises(RequestRefused):
        broker.registry.open("ev:x", ANONYMOUS)
    assert looks == 40
