"""The example of ``docs/writing-a-transport.rst``: it passes the kit, it runs in a hub, and it is what is shown."""

from __future__ import annotations

import json
import socket
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.app.cli import main
from hub.testing import check_transport
from tests.hub_process import ROOT, HubProcess, running_hub
from tests.testing import links
from tests.wire.rawpeer import RawPeer

DOCUMENT = ROOT / "docs" / "writing-a-transport.rst"
CONFIG = """
[transports.lines]
port = {port}
line_size = 500
[namespaces.plain]
pattern = "ev:*"
"""


async def test_it_passes_the_kit() -> None:
    await links.load_example("test_line_transport").test_line_transport()


async def test_its_fast_path_passes_the_kit() -> None:
    link = links.load_example("fast_line_link").FastLineLink
    await check_transport(partial(links.open_lines, link), framing=links.lines.Lines())


def test_it_is_small() -> None:
    text = (links.EXAMPLES / "line_transport.py").read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 60


@pytest.mark.parametrize("name", ["line_transport", "fast_line_link", "test_line_transport"])
def test_the_document_shows_what_runs(name: str) -> None:
    code = (links.EXAMPLES / f"{name}.py").read_text()
    shown = "".join(f"    {line}" if line.strip() else line for line in code.splitlines(keepends=True))
    assert f".. code-block:: python\n\n{shown}" in DOCUMENT.read_text()


# --- in a hub -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What it takes to have the example installed beside the hub."""
    site = tmp_path_factory.mktemp("site")
    info = site / "line_transport-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: line-transport\nVersion: 1\n")
    (info / "entry_points.txt").write_text(documented_entry_point())
    return {"PYTHONPATH": f"{site}:{links.EXAMPLES}"}


def documented_entry_point() -> str:
    """As an installer writes it, from what the document says of ``pyproject.toml``."""
    text = DOCUMENT.read_text()
    begin = text.index('[project.entry-points."hub.transports"]')
    block = "\n".join(line.strip() for line in text[begin:].split("\n\n")[0].splitlines())
    entry_points: dict[str, dict[str, str]] = tomllib.loads(block)["project"]["entry-points"]
    return "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in entry_points.items()
    )


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


def free_port() -> int:
    """The hub cannot tell which port a transport's own listener got, so the test chooses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


@pytest.fixture(scope="module")
def hub(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], port: int
) -> Iterator[HubProcess]:
    config = tmp_path_factory.mktemp("hub") / "hub.toml"
    config.write_text(CONFIG.format(port=port))
    with running_hub(config, environment=environment) as hub:
        yield hub


@pytest.fixture
def client(hub: HubProcess, port: int) -> Iterator[RawPeer]:
    with RawPeer(("127.0.0.1", port)) as peer:
        assert read(peer)["event"] == "connected"
        yield peer


def read(peer: RawPeer) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(peer.read_until(b"\n"))
    return message


def ask(peer: RawPeer, **request: Any) -> None:
    peer.send(json.dumps(request).encode() + b"\n")


def publish(hub: HubProcess, channel: str, data: Any) -> None:
    item = {"channel": channel, "data": data}
    httpx.post(f"{hub.admin_url}/publish", json=item, trust_env=False).raise_for_status()


def test_a_client_of_lines_is_served(hub: HubProcess, client: RawPeer) -> None:
    ask(client, method="subscribe", params=["ev:1", "nope"], id=1)
    assert read(client)["data"]["subscribed"] == ["ev:1"]
    publish(hub, "ev:1", {"text": "two\nlines"})
    event = read(client)
    assert (event["ch"], event["seq"], event["data"]) == ("ev:1", 1, {"text": "two\nlines"})
    client.send(b'{"method":"ping","id":2}\n{"method":"pi')
    assert read(client)["id"] == 2
    client.send(b'ng","id":3}\n')
    assert read(client)["id"] == 3


@pytest.mark.parametrize(
    "line, code",
    [
        (b"x" * 500 + b"\n", 4001),
        (b"x" * 501 + b"\n", 1009),
        (b"x" * 100_000, 1009),
        (b"{\n", 4001),
        (b"\xff\n", 4001),
    ],
)
def test_a_bad_line_is_answered_and_ends_the_connection(client: RawPeer, line: bytes, code: int) -> None:
    client.send(line)
    farewell = read(client)
    assert (farewell["event"], farewell["code"]) == ("disconnecting", code)
    assert client.read_to_end() == b""


def test_a_client_that_is_gone_leaves_nothing_behind(hub: HubProcess, port: int) -> None:
    with RawPeer(("127.0.0.1", port)) as peer:
        connection = read(peer)["connId"]
        ask(peer, method="subscribe", params=["ev:2"], id=1)
        assert read(peer)["code"] == 0
        peer.reset()
    while connection in (page := httpx.get(f"{hub.admin_url}/admin/connections", trust_env=False).text):
        publish(hub, "ev:2", 0)
    assert connection not in page


def test_a_drain_tells_clients_of_lines(environment: dict[str, str], tmp_path: Path) -> None:
    config, port = tmp_path / "hub.toml", free_port()
    config.write_text(CONFIG.format(port=port))
    with running_hub(config, environment=environment) as leaving, RawPeer(("127.0.0.1", port)) as peer:
        read(peer)
        leaving.terminate()
        assert read(peer)["code"] == 1001
        assert peer.read_to_end() == b""
        peer.close()
        assert leaving.wait_exit() == 0


def test_its_settings_are_checked(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in environment["PYTHONPATH"].split(":"):
        monkeypatch.syspath_prepend(path)
    config = tmp_path / "hub.toml"
    config.write_text("[transports.lines]\nline_siz = 5\nport = 70000\n")
    assert main(["check-config", str(config)]) == 2
    complaint = capsys.readouterr().err
    assert "line_size" in complaint
    assert "65535" in complaint
