"""While hostile clients do their worst for a while, a well-behaved one misses nothing; afterwards all is as before."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.hub_process import HubProcess, running_hub
from tests.wire.conftest import CONFIG
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import CONTINUATION, TEXT, RawPeer, frame, request, upgrade_request, websocket

#: How long each attack goes on, in seconds. It bounds the work; nothing is measured against it.
ATTACK = 2.5
CHANNEL = "switch:bystander"

Attack = Callable[[HubProcess, random.Random], None]


def garbage(hub: HubProcess, choose: random.Random) -> None:
    with RawPeer(hub.address) as peer:
        peer.send(choose.randbytes(choose.randint(1, 60_000)))
        peer.receive()


def garbage_frames(hub: HubProcess, choose: random.Random) -> None:
    with websocket(hub.address, choose.choice(["/v2", "/live"])) as peer:
        peer.send(choose.randbytes(choose.randint(1, 5000)))
        peer.receive()


def command_flood(hub: HubProcess, choose: random.Random) -> None:
    """Commands as fast as they go, whose answers nobody reads."""
    with websocket(hub.address, receive_buffer=2048) as peer:
        peer.socket.settimeout(0.5)
        names = ",".join(f'"{CHANNEL}{choose.randrange(100)}"' for _ in range(40))
        one = frame(TEXT, f'{{"method":"subscribe","params":[{names}],"id":1}}'.encode())
        peer.send(one * 200)


def empty_fragments(hub: HubProcess, choose: random.Random) -> None:
    with websocket(hub.address) as peer:
        peer.send(frame(TEXT, b"{", is_last=False) + frame(CONTINUATION, is_last=False) * 20_000)
        peer.receive()


def half_open(hub: HubProcess, choose: random.Random) -> None:
    peers = [RawPeer(hub.address) for _ in range(20)]
    for peer in peers:
        peer.send(
            choose.choice(
                [
                    b"",
                    b"G",
                    b"GET /v2 HTTP/1.1\r\n",
                    upgrade_request("/v2")[:-2],
                    request("GET", "/poll")[:-1],
                ]
            )
        )
    time.sleep(choose.random() * 0.5)
    for peer in peers:
        choose.choice([peer.close, peer.reset])()


def never_reading(hub: HubProcess, choose: random.Random) -> None:
    """Takes all there is of a long replay, and reads none of it."""
    replay = "channels=replay:big&lastSeq=%7B%22replay:big%22:0%7D"
    with RawPeer(hub.address, receive_buffer=2048) as peer:
        kind = choose.randrange(3)
        if kind == 0:
            peer.upgrade("/v2")
            peer.send_json(
                {
                    "method": "subscribe",
                    "params": ["replay:big", CHANNEL],
                    "id": 1,
                    "lastSeq": {"replay:big": 0},
                }
            )
        elif kind == 1:
            peer.send(request("GET", f"/sse?{replay}"))
        else:
            peer.send(request("GET", "/history/replay:big?limit=1000") * 20)
        time.sleep(choose.random())
        if choose.random() < 0.5:
            peer.reset()


def storm(hub: HubProcess, choose: random.Random) -> None:
    """Connects and goes, at each stage of a connection's life."""
    for _ in range(20):
        with RawPeer(hub.address) as peer:
            stage = choose.randrange(5)
            if stage == 1:
                peer.send(upgrade_request("/v2"))
            elif stage == 2:
                peer.upgrade("/live")
            elif stage == 3:
                peer.upgrade("/v2")
                peer.send_json({"method": "subscribe", "params": [CHANNEL], "id": 1})
            elif stage == 4:
                peer.send(
                    request(
                        "GET",
                        choose.choice([f"/sse?channels={CHANNEL}", f"/poll?channels={CHANNEL}", "/nowhere"]),
                    )
                )
            if choose.random() < 0.5:
                peer.reset()


def bad_publishing(hub: HubProcess, choose: random.Random) -> None:
    with RawPeer(hub.admin_address) as peer:
        peer.send(request("POST", "/publish", body=choose.randbytes(choose.randint(1, 100_000))))
        if choose.random() < 0.5:
            peer.receive()


ATTACKS: list[Attack] = [
    garbage,
    garbage_frames,
    command_flood,
    empty_fragments,
    half_open,
    never_reading,
    storm,
    bad_publishing,
]


@pytest.fixture(scope="module")
def attacked() -> Iterator[HubProcess]:
    with running_hub(CONFIG, "server.keep_alive_timeout=3s", "logging.level=warning") as hub:
        yield hub


class Bystander(threading.Thread):
    """Reads its channel over a WebSocket, from the first event to the last."""

    def __init__(self, hub: HubProcess) -> None:
        super().__init__()
        self.seqs: list[int] = []
        self.stranger: object = None
        self.peer = RawPeer(hub.address)
        self.peer.upgrade("/v2")
        self.peer.read_json()
        self.peer.send_json({"method": "subscribe", "params": [CHANNEL], "id": 1})
        self.last_seq = self.peer.read_json()["data"]["positions"][CHANNEL]["seq"]

    def run(self) -> None:
        while True:
            event = self.peer.read_json()
            if event.get("data") == "end":
                return
            if "seq" not in event:
                self.stranger = event
                return
            self.seqs.append(event["seq"])


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_bystander_misses_nothing(attacked: HubProcess, attack: Attack) -> None:
    run_attack(attacked, attack, threads=4)


@pytest.mark.needs("slowhttptest")
@pytest.mark.parametrize("mode", [["-H"], ["-B"], ["-X"]], ids=["slow heads", "slow bodies", "slow reading"])
def test_slowhttptest(attacked: HubProcess, mode: list[str]) -> None:
    url = (
        f"{attacked.public_url}/history/replay:big?limit=1000"
        if mode == ["-X"]
        else f"{attacked.public_url}/poll"
    )
    command = ["slowhttptest", *mode, "-c", "300", "-r", "150", "-i", "1", "-l", str(int(ATTACK)), "-u", url]

    def attack(hub: HubProcess, choose: random.Random) -> None:
        subprocess.run(command, capture_output=True, timeout=120)

    run_attack(attacked, attack, threads=1)


def run_attack(hub: HubProcess, attack: Attack, *, threads: int) -> None:
    publisher = Publisher(hub)
    fill(publisher)
    settle(hub, attack)
    descriptors, resident = hub.descriptors(), hub.resident_bytes()
    bystander = Bystander(hub)
    bystander.start()
    stop = time.monotonic() + ATTACK
    failures: list[Exception] = []

    def keep_attacking(seed: int) -> None:
        choose = random.Random(seed)
        while time.monotonic() < stop:
            try:
                attack(hub, choose)
            except (OSError, EOFError, AssertionError):  # whatever the hub thinks of it
                pass
            except Exception as failure:
                failures.append(failure)
                return

    attackers = [threading.Thread(target=keep_attacking, args=(seed,)) for seed in range(threads)]
    for attacker in attackers:
        attacker.start()
    published = 0
    while any(attacker.is_alive() for attacker in attackers):
        publisher.publish(CHANNEL, *range(5))
        published += 5
        time.sleep(0.005)
    publisher.publish(CHANNEL, "end")
    bystander.join(60)
    assert not bystander.is_alive() and bystander.stranger is None, bystander.stranger
    assert bystander.seqs == list(range(bystander.last_seq + 1, bystander.last_seq + published + 1))
    bystander.peer.close()
    publisher.close()
    assert not failures
    assert hub.process.poll() is None
    left = settle(hub, attack, descriptors + 5)
    assert left <= descriptors + 5, f"{left - descriptors} descriptors are left over"
    assert hub.resident_bytes() < resident + 150 * 1024 * 1024
    errors = hub.take_errors()
    assert not errors, "\n".join(errors[:3])


def fill(publisher: Publisher) -> None:
    for _ in range(4):
        publisher.publish("replay:big", *(["x" * 1000] * 500))


def settle(hub: HubProcess, attack: Attack, goal: int = 30) -> int:
    """Waits, within bounds, until the hub has let go of those who left."""
    with httpx.Client(trust_env=False) as client:
        for _ in range(150):
            if hub.descriptors() <= goal:
                break
            time.sleep(0.1)
            client.get(f"{hub.admin_url}/healthz")
    return hub.descriptors()
