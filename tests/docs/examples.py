"""Runs the examples of one section against one hub, in their order."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cbor2
import httpx
import msgspec
import trio
import trio.testing
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from hub.app.settings import load
from hub.app.settings.plugins import find_plugins
from hub.core.contracts import Source
from hub.sansio.live import LiveEnvelope
from hub.sansio.protocol import Protocol
from hub.sansio.publication import Position
from hub.sansio.stream_v2 import StreamV2Json
from hub.sources.kafka.payload import read_payload
from tests.docs.documents import ROOT, Block, Section
from tests.docs.frames import make_frame
from tests.docs.people import People
from tests.docs.programs import PATIENCE, environment, run
from tests.docs.shapes import Bindings, difference, parse
from tests.docs.transcripts import Mismatch, Transcript, join_lines
from tests.hub_process import HubProcess

#: The addresses that conf/demo.toml listens on, which is where readers find the hub.
PUBLIC, ADMIN = "127.0.0.1:8080", "127.0.0.1:8081"
WEB = ROOT / "tests" / "web"


class SectionRun:
    """The examples of a section. What one of them brings about is there for those after it."""

    def __init__(self, section: Section, hub: HubProcess, people: People) -> None:
        self._section = section
        self._hub = hub
        self._bindings = Bindings(
            {
                **people.bindings(),
                PUBLIC: "{}:{}".format(*hub.address),
                ADMIN: "{}:{}".format(*hub.admin_address),
                ".venv/bin/": f"{Path(sys.executable).parent}/",
            }
        )

    def run(self) -> None:
        """Raises Mismatch, at the first example that is not as documented."""
        blocks = [block for block in self._section.blocks if block.is_example and not needs_kafka(block)]
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            if block.kind == "output":
                continue
            output = following if following is not None and following.kind == "output" else None
            self._runner(block)(block, output)

    def _runner(self, block: Block) -> Callable[[Block, Block | None], None]:
        runners: Mapping[str, Callable[[Block, Block | None], None]] = {
            "console": self._console,
            "python": self._python,
            "js": self._js,
            "toml": self._toml,
            "ini": self._unit,
            "websocket": self._websocket,
            "log": self._log,
            "frames": self._frames,
            "source": self._source,
            "wrapper": self._wrapper,
        }
        return runners[block.kind.split()[0]]

    def _transcript(self, block: Block | None, where: str) -> Transcript:
        return Transcript([] if block is None else join_lines(block.text), self._bindings, where)

    # --- programs -----------------------------------------------------------------------------------------

    def _console(self, block: Block, _output: Block | None) -> None:
        """``$ command`` and its output, as often as there is one. A backslash at a line's end continues it."""
        text = re.sub(r"\\\n\s*", "", block.text)
        first, *commands = re.split(r"^\$ ", text, flags=re.MULTILINE)
        if first.strip():
            raise Mismatch(f"{block.where}: begins with no $ command")
        for command in commands:
            line, _, output = command.partition("\n")
            transcript = Transcript(join_lines(output), self._bindings, f"{block.where}: $ {line}")
            failing = re.search(r"# exit code (\d+)$", line)
            run(
                ["sh", "-c", self._bindings.apply(line)],
                transcript,
                exit_code=int(failing[1]) if failing is not None else 0,
            )

    def _python(self, block: Block, output: Block | None) -> None:
        run(
            [sys.executable, "-"],
            self._transcript(output, block.where),
            script=self._bindings.apply(block.text),
        )

    def _js(self, block: Block, output: Block | None) -> None:
        script = 'import { EventSource } from "eventsource";\n' + self._bindings.apply(block.text)
        command = ["node", "--input-type=module", "-"]
        run(command, self._transcript(output, block.where), script=script, cwd=WEB)

    # --- frames -------------------------------------------------------------------------------------------

    def _websocket(self, block: Block, _output: Block | None) -> None:
        """``@`` is a header of the handshake, ``>`` is sent, ``<`` comes, ``$`` happens meanwhile, ``x CODE`` is how
        the hub closes the connection."""
        _, path, *subprotocols = block.kind.split()
        lines = join_lines(block.text)
        headers = [self._bindings.apply(line[2:]).split(": ", 1) for line in lines if line[:2] == "@ "]
        with connect(
            f"{self._hub.websocket_url}{self._bindings.apply(path)}",
            subprotocols=[Subprotocol(name) for name in subprotocols],
            additional_headers=[(name, value) for name, value in headers],
            proxy=None,
        ) as connection:
            for line in lines[len(headers) :]:
                self._talk(connection, line, block.where)

    def _talk(self, connection: ClientConnection, line: str, where: str) -> None:
        match line[:2]:
            case "> ":
                text = self._bindings.apply(line[2:])
                is_binary = connection.subprotocol is not None and connection.subprotocol.endswith("cbor")
                connection.send(cbor2.dumps(json.loads(text)) if is_binary else text)
            case "< ":
                Transcript([line[2:]], self._bindings, where).feed(_receive(connection, where))
            case "$ ":
                command = ["sh", "-c", self._bindings.apply(line[2:])]
                subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, check=True)
            case "x ":
                _check_close(connection, int(line[2:].split()[0]), where)
            case _:
                raise Mismatch(f"{where}: what is {line!r}?")

    def _frames(self, block: Block, _output: Block | None) -> None:
        """Frames that a hub does not send on demand are compared with what the protocol makes of them."""
        for line in join_lines(block.text):
            documented = parse(line)
            protocol: Protocol = LiveEnvelope() if "v" in documented else StreamV2Json()
            actual = msgspec.json.decode(make_frame(protocol, documented))
            if problem := difference(documented, actual, Bindings({})):
                raise Mismatch(f"{block.where}: {problem}")

    def _log(self, block: Block, _output: Block | None) -> None:
        """Lines of the log. What they tell of is a WebSocket that comes and goes."""
        with connect(f"{self._hub.websocket_url}/v2", proxy=None) as connection:
            _receive(connection, block.where)
        for line in join_lines(block.text):
            documented = parse(line)
            deadline = time.monotonic() + PATIENCE
            while problems := self._search_log(documented):
                if time.monotonic() > deadline:
                    raise Mismatch(f"{block.where}: no such line in the log: {line}\n{problems[:3]}")
                httpx.get(f"{self._hub.admin_url}/healthz", trust_env=False)  # passes some time

    def _search_log(self, documented: dict[str, Any]) -> list[str]:
        """Why none of the lines about the same event is as documented; nothing where one is."""
        lines = [entry for entry in list(self._hub.log) if entry.get("event") == documented["event"]]
        problems = [difference(documented, entry, Bindings({})) for entry in lines]
        return [] if None in problems else [problem or "" for problem in problems] or ["it is not there"]

    # --- what is not run but read -------------------------------------------------------------------------

    def _toml(self, block: Block, _output: Block | None) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(block.text)
            file.flush()
            load(file.name, {}, [], find_plugins("hub.transports"), find_plugins("hub.sources"))

    def _unit(self, block: Block, _output: Block | None) -> None:
        """A systemd unit: well formed, and its command one that the hub takes."""
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(block.text)
        _, command, *arguments = shlex.split(unit["Service"]["ExecStart"])
        help_ = subprocess.run(
            [sys.executable, "-m", "hub", command, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        unknown = {name for name in arguments if name.startswith("--")} - set(help_.stdout.split())
        if unknown:
            raise Mismatch(f"{block.where}: hub {command} knows no {unknown}")

    def _wrapper(self, block: Block, _output: Block | None) -> None:
        """A record's value that is a payload in a wrapper."""
        value = block.text.encode()
        payload = read_payload(value)
        assert msgspec.json.decode(payload.data) == msgspec.json.decode(value)["data"], block.where

    def _source(self, block: Block, _output: Block | None) -> None:
        """A source's class: it publishes on a clock that jumps."""
        space: dict[str, Any] = {"__name__": "documented"}
        exec(compile(block.text, block.where, "exec"), space)
        (plugin,) = (
            thing
            for thing in space.values()
            if isinstance(thing, type) and hasattr(thing, "Settings") and hasattr(thing, "run")
        )
        source: Source = plugin(plugin.Settings())
        published = trio.run(_first_publications, source, clock=trio.testing.MockClock(autojump_threshold=0))
        assert published and source.statistics().status == "ok", block.where


def needs_kafka(block: Block) -> bool:
    """Whether it takes a Kafka broker (`test_kafka_example`)."""
    return block.kind.startswith("kafka ")


async def _first_publications(source: Source) -> list[tuple[str, bytes]]:
    published: list[tuple[str, bytes]] = []

    def publish(channel: str, data: bytes, **_about: Any) -> Position:
        published.append((channel, data))
        return Position("documented", len(published))

    async with trio.open_nursery() as nursery:
        await nursery.start(source.run, publish)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    for _, data in published:
        json.loads(data)
    return published


def _receive(connection: ClientConnection, where: str) -> str:
    try:
        message = connection.recv(PATIENCE)
    except (TimeoutError, ConnectionClosed) as error:
        raise Mismatch(f"{where}: no frame came: {error}") from None
    return message if isinstance(message, str) else json.dumps(cbor2.loads(message))


def _check_close(connection: ClientConnection, code: int, where: str) -> None:
    try:
        message = connection.recv(PATIENCE)
    except ConnectionClosed as closed:
        received = closed.rcvd.code if closed.rcvd is not None else None
        if received != code:
            raise Mismatch(f"{where}: closed with {received}, documented is {code}") from None
    else:
        raise Mismatch(f"{where}: not closed, but said {message!r}")
