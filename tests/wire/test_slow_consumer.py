"""stream-v2.md, "Slow consumers", over the wire: clients that stop reading, and those beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.hub_process import HubProcess, running_hub
from tests.wire.conftest import CONFIG
from tests.wire.laggards import (
    KINDS,
    PRIMING,
    Laggard,
    fill,
    metric,
    publish,
    wait_until,
)
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import PATIENCE, RawPeer

Naming = Callable[[str], str]
#: The kernel holds little, so that a client that stops reading is behind at once.
LITTLE = ["server.send_buffer=8KB", "server.not_sent_low_water=4KB", "server.user_timeout=0"]
CLOSING = [  # `closing` has what is missed still in its buffer, `whole` has not
    'namespaces.closing.pattern="closing:*"',
    'namespaces.closing.on_lag="close"',
    "namespaces.closing.lag_limit=50",
    "namespaces.closing.buffer_count=5000",
    'namespaces.whole.pattern="whole:*"',
    'namespaces.whole.on_lag="close"',
    "namespaces.whole.lag_limit=0",
    "namespaces.whole.buffer_count=100",
]
WARNINGS = "ws_slow_consumer_warnings_total"
DISCONNECTS = "ws_slow_consumer_disconnects_total"


@pytest.fixture(scope="module")
def strict_hub() -> Iterator[HubProcess]:
    """The default rules for slow consumers."""
    with running_hub(CONFIG, *LITTLE, *CLOSING) as hub:
        yield hub


@pytest.fixture(scope="module")
def publisher(strict_hub: HubProcess) -> Iterator[Publisher]:
    publisher = Publisher(strict_hub)
    yield publisher
    publisher.close()


def dropped(hub: HubProcess) -> float:
    return metric(hub, "ws_messages_dropped_total", reason="slow_consumer")


@pytest.mark.parametrize(
    "kind, namespace, lag_limit", [*((kind, "ev", 256) for kind in KINDS), ("/v2", "lag.drop", 20)]
)
def test_what_is_dropped_is_told_exactly(
    strict_hub: HubProcess, publisher: Publisher, name: Naming, kind: str, namespace: str, lag_limit: int
) -> None:
    channel, before = name(namespace), [dropped(strict_hub), metric(strict_hub, WARNINGS)]
    with RawPeer(strict_hub.address, receive_buffer=2048) as peer:
        laggard = Laggard(peer, kind, channel)
        fill(strict_hub, publisher, channel)
        publish(publisher, channel, lag_limit + 500)
        head = PRIMING + lag_limit + 500
        wait_until(lambda: dropped(strict_hub) - before[0] >= 500, "what is beyond the limit to be dropped")
        laggard.wake()
        laggard.read_up_to(head)
        # Only what was published while it was stuck is lost, the oldest of it, and it is told in its place.
        assert laggard.runs == [
            ("events", 1, PRIMING),
            ("drop", PRIMING + 1, head - lag_limit),
            ("events", head - lag_limit + 1, head),
        ]
        (warning,) = laggard.system_data("slow_consumer")
        assert 100 < warning["dropped"] <= 500 and warning["window"] == "10s"
        publish(publisher, channel, 3)
        laggard.read_up_to(head + 3)
        assert laggard.runs[-1] == ("events", head - lag_limit + 1, head + 3) and len(laggard.system) == 1
    assert [dropped(strict_hub), metric(strict_hub, WARNINGS)] == [before[0] + 500, before[1] + 1]


@pytest.mark.parametrize("kind", ["/v2", "sse live"])
def test_a_hundred_may_be_dropped_without_a_warning(
    strict_hub: HubProcess, publisher: Publisher, name: Naming, kind: str
) -> None:
    channel, before = name("lag.drop"), [dropped(strict_hub), metric(strict_hub, WARNINGS)]
    with RawPeer(strict_hub.address, receive_buffer=2048) as peer:
        laggard = Laggard(peer, kind, channel)
        fill(strict_hub, publisher, channel)
        publish(publisher, channel, 120, batch=40)
        wait_until(lambda: dropped(strict_hub) - before[0] >= 100, "100 events to be dropped")
        laggard.wake()
        laggard.read_up_to(PRIMING + 120)
    assert laggard.runs[1] == ("drop", PRIMING + 1, PRIMING + 100) and not laggard.system
    assert [dropped(strict_hub), metric(strict_hub, WARNINGS)] == [before[0] + 100, before[1]]


@pytest.mark.parametrize("kind", ["/v2", "sse live"])
@pytest.mark.parametrize("namespace", ["lag.latest", "lag.snapshot"])
def test_the_newest_heals_a_laggard(
    strict_hub: HubProcess, publisher: Publisher, name: Naming, kind: str, namespace: str
) -> None:
    channel, before, head = name(namespace), dropped(strict_hub), PRIMING + 500
    with RawPeer(strict_hub.address, receive_buffer=2048) as peer:
        laggard = Laggard(peer, kind, channel)
        fill(strict_hub, publisher, channel)
        publish(publisher, channel, 500)
        wait_until(lambda: dropped(strict_hub) - before >= 400, "what is beyond the limit to be dropped")
        laggard.wake()
        laggard.read_up_to(head)
    # The state stands for all of it; without one the newest event does.
    healed: list[tuple[str, int, int]]
    if namespace == "lag.snapshot":
        healed = [("drop", PRIMING + 1, head), ("snapshot", head, head)]
    else:
        healed = [("drop", PRIMING + 1, head - 1), ("events", head, head)]
    assert laggard.runs == [("events", 1, PRIMING), *healed]


@pytest.mark.parametrize("kind", KINDS)
def test_a_hopeless_client_learns_why_and_resumes(
    strict_hub: HubProcess, publisher: Publisher, name: Naming, kind: str
) -> None:
    channel, before, head = name("replay"), metric(strict_hub, DISCONNECTS), PRIMING + 1500
    with RawPeer(strict_hub.address, receive_buffer=2048) as peer:
        laggard = Laggard(peer, kind, channel)
        fill(strict_hub, publisher, channel)
        publish(publisher, channel, 1500)
        wait_until(lambda: metric(strict_hub, DISCONNECTS) == before + 1, "the client to be given up")
        laggard.wake()
        laggard.read_to_end()
    last = read_farewell(laggard, kind)
    with RawPeer(strict_hub.address) as peer:
        again = Laggard(peer, kind, channel, **resumption(laggard, kind, last))
        again.read_up_to(head)
    assert again.runs == [("events", last + 1, head)]


def read_farewell(laggard: Laggard, kind: str) -> int:
    """Checks how it ended with 4000; returns the last seq that came, before which nothing is missing."""
    (farewell,) = laggard.system_data("disconnecting")
    assert laggard.system[-1]["event"] == "disconnecting" and farewell["code"] == 4000 and farewell["msg"]
    assert laggard.close_code == (4000 if kind.startswith("/") else None)
    ((run, first, last),) = laggard.runs
    assert (run, first) == ("events", 1)
    return last


def resumption(laggard: Laggard, kind: str, last: int) -> dict[str, Any]:
    """By the cursor that came with the farewell, where there is one, else by the seq."""
    return {"last_seq": last} if kind.startswith("/") else {"last_event_id": laggard.last_event_id}


@pytest.mark.parametrize("kind", ["/v2", "sse live"])
@pytest.mark.parametrize("namespace, kept", [("closing", 5000), ("whole", 100)])
def test_where_nothing_may_be_dropped_the_client_is_closed(
    strict_hub: HubProcess, publisher: Publisher, name: Naming, kind: str, namespace: str, kept: int
) -> None:
    channel, before, head = name(namespace), metric(strict_hub, DISCONNECTS), PRIMING + 200
    with RawPeer(strict_hub.address, receive_buffer=2048) as peer:
        laggard = Laggard(peer, kind, channel)
        fill(strict_hub, publisher, channel)
        publish(publisher, channel, 200, batch=50)
        wait_until(lambda: metric(strict_hub, DISCONNECTS) == before + 1, "the client to be given up")
        laggard.wake()
        laggard.read_to_end()
    last = read_farewell(laggard, kind)
    with RawPeer(strict_hub.address) as peer:
        again = Laggard(peer, kind, channel, **resumption(laggard, kind, last))
        again.read_up_to(head)
    first = max(last, head - kept) + 1
    gap = [("gap", last + 1, first - 1)] if first > last + 1 else []
    assert again.runs == [*gap, ("events", first, head)]


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(["/v2", "/live"], id="WebSocket"),
        pytest.param(["sse live", "sse v2"], id="SSE"),
    ],
)
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(["limits.slow_close_deadline=1s"], id="too much dropped"),
        pytest.param(["limits.slow_close_dropped=0", "limits.write_deadline=1s"], id="nothing taken"),
    ],
)
def test_who_never_reads_is_cut(settings: list[str], kinds: list[str]) -> None:
    with running_hub(CONFIG, *LITTLE, *settings) as hub, ExitStack() as stack:
        publisher = Publisher(hub)
        stack.callback(publisher.close)
        publisher.publish("replay:cut", 1)
        descriptors, before = hub.descriptors(), dropped(hub)
        for kind in kinds * 4:
            peer = stack.enter_context(RawPeer(hub.address, receive_buffer=2048))
            Laggard(peer, kind, "replay:cut")
        assert hub.descriptors() >= descriptors + 8
        fill(hub, publisher, "replay:cut", stuck=8)
        publish(publisher, "replay:cut", 1500)
        wait_until(lambda: metric(hub, "ws_connections_active") == 0, "the sessions to end")
        assert metric(hub, DISCONNECTS) == 8
        assert dropped(hub) > before
        # The clients keep their sockets open, and still read nothing.
        wait_until(lambda: hub.descriptors() <= descriptors, "the sockets to be closed", PATIENCE / 4)


def test_two_hundred_stuck_clients_cost_nothing_but_themselves() -> None:
    with running_hub(CONFIG, *LITTLE, "limits.slow_close_dropped=0") as hub, ExitStack() as stack:
        publisher = Publisher(hub)
        stack.callback(publisher.close)
        healthy = [Laggard(stack.enter_context(RawPeer(hub.address)), kind, "ev:busy") for kind in KINDS]
        stuck = [stack.enter_context(RawPeer(hub.address, receive_buffer=2048)) for _ in range(200)]
        for index, peer in enumerate(stuck):
            Laggard(peer, KINDS[index % len(KINDS)], "ev:busy")
        head = 0

        def publish_and_read(batches: int) -> None:
            nonlocal head
            for _ in range(batches):  # below the lag limit, so that nobody who reads is ever slow
                publish(publisher, "ev:busy", 100, size=1000)
                head += 100
                for reader in healthy:
                    reader.read_up_to(head)

        publish_and_read(12)  # the buffer is full
        resident = hub.resident_bytes()
        publish_and_read(60)
        # In queues of their own 200 clients would hold more than a gigabyte.
        assert hub.resident_bytes() - resident < 64 << 20
        for reader in healthy:
            assert reader.runs == [("events", 1, head)] and not reader.system
        wait_until(lambda: dropped(hub) > 0, "something to be dropped")
        assert metric(hub, WARNINGS) >= 200
        assert metric(hub, DISCONNECTS) == 0
