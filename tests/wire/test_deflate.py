"""Compression over the wire (RFC 7692): `websockets`, `ws`, and a client made of bytes."""

from __future__ import annotations

import json
import random
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cbor2
import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests import needs
from tests.hub_process import HubProcess, running_hub
from tests.wire.conftest import CONFIG
from tests.wire.laggards import PRIMING, Laggard, blocked, metric, wait_until
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    RawPeer,
    frame,
    upgrade_request,
    websocket,
)

Naming = Callable[[str], str]
NODE_CLIENT = Path(__file__).with_name("deflate_client.mjs")
FIELD = "Sec-WebSocket-Extensions"
OFFER = f"{FIELD}: permessage-deflate; client_max_window_bits"
SHARED = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
CONTEXT = "permessage-deflate; client_no_context_takeover"
#: RSV1, 2 and 3 as `rawpeer.frame` takes them.
RSV1, RSV2, RSV3 = 4, 2, 1


@pytest.fixture(scope="module")
def context_hub() -> Iterator[HubProcess]:
    with running_hub(CONFIG, "transports.websocket.deflate=context") as hub:
        yield hub


@pytest.fixture(scope="module")
def plain_hub() -> Iterator[HubProcess]:
    with running_hub(CONFIG, "transports.websocket.deflate=off") as hub:
        yield hub


@pytest.fixture(params=["shared", "context", "off"])
def any_hub(request: pytest.FixtureRequest, hub: HubProcess) -> HubProcess:
    """A hub of each mode."""
    if request.param == "shared":
        return hub
    found: HubProcess = request.getfixturevalue("context_hub" if request.param == "context" else "plain_hub")
    return found


def deflate(message: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


class DeflatePeer(RawPeer):
    """Offers compression, and counts what comes compressed."""

    def __init__(self, address: tuple[str, int], *, receive_buffer: int = 0, offer: str = OFFER) -> None:
        super().__init__(address, receive_buffer=receive_buffer)
        self.offer = offer
        self.inflater: Any = None
        self.deflated = self.plain = 0
        self.raw: list[bytes] = []

    def __enter__(self) -> DeflatePeer:
        return self

    def upgrade(self, path: str, *headers: str) -> dict[str, str]:
        answer = super().upgrade(path, self.offer, *headers)
        if "server_no_context_takeover" not in answer.get(FIELD.lower(), ""):
            self.inflater = zlib.decompressobj(-15)
        return answer

    def read_frame(self) -> tuple[int, bytes]:
        first, size = self.read(2)
        assert first & 0x80 and not first & 0x30 and size < 127, (first, size)
        payload = self.read(int.from_bytes(self.read(2), "big") if size == 126 else size)
        self.raw.append(payload)
        if not first & 0x40:
            self.plain += 1
            return first & 0x0F, payload
        self.deflated += 1
        inflater = self.inflater or zlib.decompressobj(-15)
        return first & 0x0F, inflater.decompress(payload + b"\x00\x00\xff\xff")

    def say(self, opcode: int, message: bytes) -> None:
        self.send(frame(opcode, deflate(message), reserved=RSV1))

    def read_code(self) -> int:
        """Reads to the close frame."""
        while (message := self.read_frame())[0] != CLOSE:
            pass
        return int.from_bytes(message[1][:2], "big")


# --- the handshake ----------------------------------------------------------------------------------------


def agreed(hub: HubProcess, *offers: str, path: str = "/v2") -> str | None:
    with RawPeer(hub.address) as peer:
        return peer.upgrade(path, *(f"{FIELD}: {offer}" for offer in offers)).get(FIELD.lower())


def test_what_is_agreed_on(hub: HubProcess, context_hub: HubProcess, plain_hub: HubProcess) -> None:
    for path in ("/v2", "/live"):
        assert agreed(hub, "permessage-deflate", path=path) == SHARED
        assert agreed(context_hub, "permessage-deflate", path=path) == CONTEXT
        assert agreed(plain_hub, "permessage-deflate", path=path) is None
        assert agreed(hub, path=path) is None
    assert agreed(context_hub, "permessage-deflate; server_no_context_takeover") == SHARED
    narrow = "permessage-deflate; server_max_window_bits=9"
    assert agreed(hub, "x-other", "permessage-deflate; x=1", narrow) == f"{SHARED}; server_max_window_bits=9"


@pytest.mark.parametrize("offer", ["permessage-deflate;", "=", 'permessage-deflate; a="'])
def test_a_malformed_offer_is_refused(any_hub: HubProcess, offer: str) -> None:
    with RawPeer(any_hub.address) as peer:
        response = peer.ask(upgrade_request("/v2", f"{FIELD}: {offer}"))
        assert (response.status, response.json()["code"]) == (400, 40005)
        assert peer.read_to_end() == b""


# --- clients ------------------------------------------------------------------------------------------------


class Reader:
    """A connection of `websockets` to one channel; ``stack`` closes it."""

    def __init__(self, stack: ExitStack, hub: HubProcess, channel: str, path: str, **options: Any) -> None:
        self.is_binary = "cbor" in path
        if self.is_binary:
            options["subprotocols"] = [Subprotocol("hub.v2.cbor")]
        url = f"{hub.websocket_url}/{path.partition('.')[0]}"
        self.connection: ClientConnection = stack.enter_context(
            connect(url, proxy=None, max_size=None, **options)
        )
        self.channel = channel
        if path == "live":
            self.connection.send(json.dumps({"type": "subscribe", "channels": [channel]}))
        else:
            command = {"method": "subscribe", "params": [channel], "id": 1, "pad": " " * 500}
            self.connection.send(cbor2.dumps(command) if self.is_binary else json.dumps(command))
        while (message := self.receive()).get("id") != 1 and message.get("event") != "subscribed":
            pass

    def receive(self) -> dict[str, Any]:
        message = self.connection.recv(PATIENCE)
        value: dict[str, Any] = cbor2.loads(message) if self.is_binary else json.loads(message)  # type: ignore[arg-type]
        return value

    def events(self, count: int) -> list[tuple[int, Any]]:
        found: list[tuple[int, Any]] = []
        while len(found) < count:
            message = self.receive()
            if self.channel in (message.get("ch"), message.get("channel")):
                found.append((message["seq"], message["data"]))
        return found


def factories() -> list[dict[str, Any]]:
    """Ways in which `websockets` may offer, or not."""
    factory = ClientPerMessageDeflateFactory
    return [
        {"compression": None},
        {},
        {"extensions": [factory()], "compression": None},
        {"extensions": [factory(server_max_window_bits=9)], "compression": None},
        {"extensions": [factory(server_max_window_bits=11, client_max_window_bits=9)], "compression": None},
        {"extensions": [factory(client_max_window_bits=True)], "compression": None},
        {
            "extensions": [factory(server_no_context_takeover=True, client_no_context_takeover=True)],
            "compression": None,
        },
    ]


def sizes() -> list[int]:
    return [0, 1, 20, 60, 90, 120, 128, 200, 3_000, 70_000]


def payloads(seed: int) -> list[Any]:
    """Some that compress, some that do not, of many sizes."""
    chance = random.Random(seed)
    alike = [{"n": size, "pad": "ab" * (size // 2)} for size in sizes()]
    noise = [{"n": size, "pad": chance.randbytes(size // 2).hex()} for size in sizes()]
    values = [*alike, *noise, *({"price": f"{n}.50"} for n in range(30))]
    chance.shuffle(values)
    return values


@pytest.mark.parametrize("path", ["v2", "v2.cbor", "live"])
def test_all_get_the_same_events(any_hub: HubProcess, name: Naming, path: str) -> None:
    channel, publisher = name("ev"), Publisher(any_hub)
    with ExitStack() as stack:
        stack.callback(publisher.close)
        readers = [Reader(stack, any_hub, channel, path, **options) for options in factories()]
        values: list[Any] = []
        for seed in range(3):
            publisher.publish(channel, *(part := payloads(seed)))
            values += part
        expected = list(enumerate(values, 1))
        for reader in readers:
            assert reader.events(len(values)) == expected
        late = Reader(stack, any_hub, channel, path)
        publisher.publish(channel, {"late": True})
        for reader in (late, *readers):
            assert reader.events(1) == [(len(values) + 1, {"late": True})]
    assert not any_hub.take_errors()


@pytest.mark.needs("node", "node packages")
@pytest.mark.parametrize(
    "options, expected",
    [
        ("false", [None, None, None]),
        ("true", [SHARED, CONTEXT, None]),
        ('{"serverMaxWindowBits": 10}', [f"{end}; server_max_window_bits=10" for end in (SHARED, CONTEXT)]),
        ('{"serverNoContextTakeover": true}', [SHARED, SHARED, None]),
        ('{"clientNoContextTakeover": true, "threshold": 0}', [SHARED, CONTEXT, None]),
    ],
)
def test_ws_of_node(
    any_hub: HubProcess,
    name: Naming,
    request: pytest.FixtureRequest,
    options: str,
    expected: list[str | None],
) -> None:
    channel, publisher, values = name("ev"), Publisher(any_hub), payloads(9)
    command = [needs.program("node"), str(NODE_CLIENT), f"{any_hub.websocket_url}/v2", channel]
    arguments = [str(len(values)), options]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as node:
        assert node.stdout is not None
        said = map(json.loads, node.stdout)
        try:
            agreed = next(said)["agreed"]
            assert next(said)["event"] == "connected"
            assert next(said)["msg"] == "ok"
            publisher.publish(channel, *values)
            *events, end = said
        finally:
            node.kill()
            publisher.close()
    mode = ["shared", "context", "off"].index(request.node.callspec.params["any_hub"])
    assert agreed == [*expected, None][mode]
    assert [event["data"] for event in events] == values
    assert [event["seq"] for event in events] == list(range(1, len(values) + 1))
    assert end == {"closed": 1000}


def test_one_compressed_frame_serves_all(hub: HubProcess, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    with DeflatePeer(hub.address) as first, DeflatePeer(hub.address) as second:
        laggards = [Laggard(peer, "/v2", channel) for peer in (first, second)]
        publisher.publish(channel, *payloads(1))
        for laggard in laggards:
            laggard.read_up_to(len(payloads(1)))
        assert first.raw[-30:] == second.raw[-30:]
        assert first.deflated > 10 and first.plain > 10


# --- what clients say -----------------------------------------------------------------------------------------


def command_of(size: int) -> bytes:
    text = json.dumps({"method": "ping", "id": 5}).encode()
    return text.ljust(size)


@pytest.mark.parametrize("path", ["/v2", "/live"])
def test_compressed_commands(any_hub: HubProcess, path: str) -> None:
    with DeflatePeer(any_hub.address) as peer:
        is_agreed = FIELD.lower() in peer.upgrade(path)
        if not is_agreed:
            peer.say(TEXT, command_of(200))
            assert peer.read_code() == 1002
            return
        ping = command_of(4096) if path == "/v2" else b'{"type":"ping"}'.ljust(4096)
        for _ in range(3):
            peer.say(TEXT, ping)
            peer.send_frame(TEXT, ping[:100])
            for _ in range(2):
                while (answer := peer.read_json()).get("method", answer.get("event")) != "pong":
                    pass


def test_compressed_fragments_with_a_ping_in_between(any_hub: HubProcess) -> None:
    with DeflatePeer(any_hub.address) as peer:
        if FIELD.lower() not in peer.upgrade("/v2"):
            return
        peer.read_json()
        data = deflate(command_of(3000))
        peer.send(frame(TEXT, data[:1], is_last=False, reserved=RSV1))
        peer.send(frame(PING, b"between"))
        peer.send(frame(CONTINUATION, b"", is_last=False))
        peer.send(frame(CONTINUATION, data[1:]))
        assert peer.read_frame() == (PONG, b"between")
        assert peer.read_json()["id"] == 5


BOMB = deflate(bytes(3_500_000))
assert len(BOMB) < 4096


@pytest.mark.parametrize(
    "frames, code",
    [
        pytest.param([frame(TEXT, BOMB, reserved=RSV1)], 1009, id="bomb"),
        pytest.param([frame(BINARY, BOMB, reserved=RSV1)], 1009, id="binary bomb"),
        pytest.param([frame(TEXT, deflate(command_of(4097)), reserved=RSV1)], 1009, id="a byte too many"),
        pytest.param(
            [frame(TEXT, BOMB[:2000], is_last=False, reserved=RSV1), frame(CONTINUATION, BOMB[2000:])],
            1009,
            id="bomb in fragments",
        ),
        pytest.param([frame(TEXT, bytes(4097), reserved=RSV1)], 1009, id="too large as it is"),
        pytest.param([frame(TEXT, b"\xff" * 20, reserved=RSV1)], 1007, id="not deflated"),
        pytest.param([frame(TEXT, deflate(b'"\xff"'), reserved=RSV1)], 1007, id="not UTF-8"),
        pytest.param(
            [frame(TEXT, b"", is_last=False), frame(CONTINUATION, b"\x00", reserved=RSV1)],
            1002,
            id="RSV1 on a continuation",
        ),
        pytest.param([frame(PING, b"", reserved=RSV1)], 1002, id="RSV1 on a ping"),
        pytest.param([frame(CLOSE, b"\x03\xe8", reserved=RSV1)], 1002, id="RSV1 on a close"),
        pytest.param([frame(TEXT, b"\x00", reserved=RSV1 | RSV2)], 1002, id="RSV1 and RSV2"),
        pytest.param([frame(TEXT, b"{}", reserved=RSV3)], 1002, id="RSV3"),
        pytest.param([frame(TEXT, deflate(b"{"), reserved=RSV1)], 4001, id="no JSON"),
    ],
)
def test_what_is_not_taken(any_hub: HubProcess, frames: list[bytes], code: int) -> None:
    with DeflatePeer(any_hub.address) as peer:
        is_agreed = FIELD.lower() in peer.upgrade("/v2")
        for data in frames:
            peer.send(data)
        found = peer.read_code()
        assert found == code or (not is_agreed and found == 1002)
        assert not peer.read_to_end()


def test_rsv1_without_an_agreement(hub: HubProcess) -> None:
    with websocket(hub.address) as peer:
        peer.send(frame(TEXT, deflate(command_of(200)), reserved=RSV1))
        assert peer.read_to_close()[1] == 1002


def test_bombs_take_no_memory(hub: HubProcess) -> None:
    def explode() -> None:
        with DeflatePeer(hub.address) as peer:
            peer.upgrade("/v2")
            peer.send(frame(TEXT, BOMB, reserved=RSV1))
            assert peer.read_code() == 1009

    explode()
    before = hub.resident_bytes()
    with ExitStack() as stack:
        for _ in range(50):  # all but the last byte of each is held
            peer = stack.enter_context(DeflatePeer(hub.address))
            peer.upgrade("/v2")
            peer.send(frame(TEXT, BOMB, reserved=RSV1)[:-1])
        for _ in range(50):
            explode()
        assert hub.resident_bytes() - before < 8 * 1024 * 1024


# --- slow clients -------------------------------------------------------------------------------------------

LITTLE = ["server.send_buffer=8KB", "server.not_sent_low_water=4KB", "server.user_timeout=0"]


@pytest.fixture(scope="module", params=["shared", "context"])
def strict_hub(request: pytest.FixtureRequest) -> Iterator[HubProcess]:
    with running_hub(CONFIG, *LITTLE, f"transports.websocket.deflate={request.param}") as hub:
        yield hub


@pytest.mark.parametrize("path", ["/v2", "/live"])
def test_what_a_slow_client_loses_is_told_exactly(strict_hub: HubProcess, name: Naming, path: str) -> None:
    def dropped() -> float:
        return metric(strict_hub, "ws_messages_dropped_total", reason="slow_consumer")

    def publish(count: int) -> None:
        values = [chance.randbytes(2000).hex() for _ in range(count)]
        for begin in range(0, count, 100):
            publisher.publish(channel, *values[begin : begin + 100])

    channel, before, head = name("ev"), dropped(), PRIMING + 256 + 500
    chance, publisher = random.Random(2), Publisher(strict_hub)
    with (
        DeflatePeer(strict_hub.address, receive_buffer=2048) as peer,
        DeflatePeer(strict_hub.address) as reader,
    ):
        laggard, other = Laggard(peer, path, channel), Laggard(reader, path, channel)
        publish(PRIMING)
        other.read_up_to(PRIMING)
        wait_until(lambda: blocked(strict_hub) == 1, "the client to be stuck")
        for seq in range(PRIMING + 189, head + 1, 189):
            publish(189)
            other.read_up_to(seq)
        wait_until(lambda: dropped() - before >= 500, "what is beyond the limit to be dropped")
        laggard.wake()
        laggard.read_up_to(head)
    publisher.close()
    first, told, last = laggard.runs
    assert (first[:2], last) == (("events", 1), ("events", head - 255, head))
    assert told == ("drop", first[2] + 1, head - 256) and first[2] <= PRIMING
    assert dropped() - before == told[2] - told[1] + 1
    assert other.runs == [("events", 1, head)]
    assert peer.deflated > PRIMING
