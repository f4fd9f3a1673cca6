"""``hub publish`` and ``hub tail`` as a shell's user has them: arguments, output, exit status."""

from __future__ import annotations

import argparse
import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from hub.app.cli import main
from hub.app.commands import base_url, positive, publish
from tests.hub_process import ROOT, HubProcess, running_hub

CONFIG = """
[limits]
connections_per_ip = 0
[namespaces.plain]
pattern = "ev:*"
buffer_count = 100000
[namespaces.private]
pattern = "mine"
private = true
"""
transports = pytest.mark.parametrize("transport", ["ws", "sse", "poll"])
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    config = tmp_path_factory.mktemp("hub") / "hub.toml"
    config.write_text(CONFIG)
    with running_hub(config) as hub:
        yield hub


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Sets what comes on stdin."""
    files: list[io.IOBase] = []

    def set_stdin(data: bytes) -> None:
        path = tmp_path / "stdin"
        path.write_bytes(data)
        files.append(path.open())
        monkeypatch.setattr(sys, "stdin", files[-1])

    yield set_stdin
    for file in files:
        file.close()


# --- publish ------------------------------------------------------------------------------------------------


def test_publish_prints_where_the_event_went(hub: HubProcess, capsys: Capture) -> None:
    for seq in (1, 2):
        assert main(["publish", "ev:p1", '{"a": 1.10}', "--admin", hub.admin_url]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer.keys() == {"seq", "epoch"}
        assert answer["seq"] == seq


@pytest.mark.parametrize("data", ["{", "", "nul", "NaN", "1 2", "\udcff", "[" * 100])
def test_publish_checks_json_before_it_asks_anybody(data: str, capsys: Capture) -> None:
    assert main(["publish", "ev:x", data, "--admin", "http://127.0.0.1:1"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hub publish: ")
    assert "no hub" not in err


@pytest.mark.parametrize(
    "arguments, why",
    [
        (["nope", "1"], "no such channel (40001)"),
        (["mine", "1"], "a private channel needs its user (40005)"),
        (["ev:x", "1", "--event", "no such name"], "an event name is 1 to 64 of A-Z a-z 0-9 _ . - (40005)"),
        (["ev:\udcff", "1"], "(40001)"),
    ],
)
def test_publish_tells_why_it_was_refused(
    arguments: list[str], why: str, hub: HubProcess, capsys: Capture
) -> None:
    assert main(["publish", *arguments, "--admin", hub.admin_url]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err


def test_publish_tells_that_nobody_is_there(capsys: Capture) -> None:
    assert main(["publish", "ev:x", "1", "--admin", "http://127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.startswith("hub publish: no hub at http://127.0.0.1:1/publish: ")


def test_publish_tells_that_it_is_the_wrong_port(hub: HubProcess, capsys: Capture) -> None:
    assert main(["publish", "ev:x", "1", "--admin", hub.public_url]) == 1
    assert "no such path" in capsys.readouterr().err


def test_publish_is_not_fooled_by_another_server(capsys: Capture) -> None:
    with serving(b"<html>hello</html>") as url:
        assert main(["publish", "ev:x", "1", "--admin", url]) == 1
    assert "no operators' port" in capsys.readouterr().err


@pytest.mark.parametrize("size", [3, 64 * 1024])
def test_publish_takes_lines_from_stdin(
    size: int, hub: HubProcess, lines: Any, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad line does not stop the others; the last line may lack its end; however the pipe cuts them."""
    monkeypatch.setattr(publish, "READ_SIZE", size)
    lines(b'{"n":1}\n\n[2]\r\n{"n"\n  \n"3"')
    assert main(["publish", f"ev:stdin{size}", "-", "--event", "hello", "--admin", hub.admin_url]) == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [1, 2, 3]
    assert err.startswith("hub publish: line 4: invalid JSON")
    assert len(err.splitlines()) == 1


def test_publish_takes_more_lines_than_fit_in_a_request(hub: HubProcess, lines: Any, capsys: Capture) -> None:
    lines(b"".join(b"%d\n" % number for number in range(50_000)))  # 3 MB as items
    assert main(["publish", "ev:many", "-", "--admin", hub.admin_url]) == 0
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == list(
        range(1, 50_001)
    )


@contextmanager
def serving(body: bytes) -> Iterator[str]:
    """Some HTTP server, which is no hub."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# --- tail ---------------------------------------------------------------------------------------------------


@contextmanager
def tailing(hub: HubProcess, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """``hub tail``, connected."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hub", "tail", hub.public_url, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A child of a job in the background ignores Ctrl-C, if nobody changes that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == b"hub tail: connected\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@transports
def test_tail_prints_an_envelope_a_line_as_it_comes(hub: HubProcess, transport: str, capsys: Capture) -> None:
    channel = f"ev:tail.{transport}"
    with tailing(hub, channel, "--transport", transport, "--count", "2") as process:
        assert process.stdout is not None
        for number in (1, 2):
            main(["publish", channel, json.dumps({"n": number, "text": "ğ😀"}), "--admin", hub.admin_url])
            envelope = json.loads(process.stdout.readline())
            assert (envelope["v"], envelope["seq"], envelope["channel"]) == (1, number, channel)
            assert envelope["data"] == {"n": number, "text": "ğ😀"}
        assert process.wait(30) == 0
    capsys.readouterr()


@transports
def test_tail_ends_cleanly_by_ctrl_c(hub: HubProcess, transport: str) -> None:
    with tailing(hub, "ev:quiet", "--transport", transport) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.communicate() == (b"", b"")


@transports
def test_tail_ends_quietly_when_nobody_reads_it_any_more(
    hub: HubProcess, transport: str, capsys: Capture
) -> None:
    channel = f"ev:pipe.{transport}"
    with tailing(hub, channel, "--transport", transport) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdout = None
        main(["publish", channel, "1", "--admin", hub.admin_url])
        assert process.wait(30) == 0
        assert process.stderr.read() == b""
    capsys.readouterr()


@transports
def test_tail_says_which_channel_there_is_not(hub: HubProcess, transport: str, capsys: Capture) -> None:
    assert main(["tail", hub.public_url, "ev:x", "nope", "--transport", transport]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hub tail: nope: no such channel (40001)")


@transports
def test_tail_says_what_cursor_is_none(hub: HubProcess, transport: str, capsys: Capture) -> None:
    assert main(["tail", hub.public_url, "ev:x", "--transport", transport, "--cursor", "?"]) == 1
    assert "bad cursor" in capsys.readouterr().err


# --- arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, url",
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("wss://hub.test/live-data//", "https://hub.test/live-data"),
        ("ws://hub.test", "http://hub.test"),
        ("https://hub.test", "https://hub.test"),
    ],
)
def test_urls(text: str, url: str) -> None:
    assert base_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "", "127.0.0.1:8080", "localhost", "ftp://hub.test", "http://", "http://h:x", "http://h:0", "http://[::1",
        "http://h:99999", "http://h/?a=b", "http://h/#a", "http://h h", "http://h\n",
    ],
)  # fmt: skip
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a URL"):
        base_url(text)


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1.5", "²"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number"):
        positive(text)
