"""``hub publish`` and the operators' port: where it is, what opens it, what goes with an event."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from hub.app.commands import add_publish_command
from hub.app.settings import ConfigurationError
from tests.hub_process import HubProcess, running_hub

KEY = "correct-horse/battery+staple="
CONFIG = f"""
[server]
admin_key_hash = "{hashlib.sha256(KEY.encode()).hexdigest()}"
[namespaces.plain]
pattern = "ev:*"
[namespaces.private]
pattern = "mine"
private = true
[namespaces.trades]
pattern = "trades@{{market}}"
payload = "trades"
[namespaces.top]
pattern = "top.{{depth}}@{{market}}"
snapshot = "top"
derived_from = "book@{{market}}"
[namespaces.book]
pattern = "book@{{market}}"
snapshot = "book"
payload = "orderbook"
"""
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    config = tmp_path_factory.mktemp("hub") / "hub.toml"
    config.write_text(CONFIG)
    with running_hub(config) as hub:
        yield hub


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUB_ADMIN_KEY", raising=False)


def publish(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="hub")
    add_publish_command(parser.add_subparsers(required=True))
    options = parser.parse_args(["publish", *arguments])
    status: int = options.run(options)
    return status


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- the key ------------------------------------------------------------------------------------------------


def test_the_key_from_the_environment(
    hub: HubProcess, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_ADMIN_KEY", KEY)
    assert publish("ev:a", "1", "--admin", hub.admin_url) == 0
    assert json.loads(capsys.readouterr().out)["seq"] == 1


def test_the_key_from_a_file_comes_before_that(
    hub: HubProcess, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HUB_ADMIN_KEY", "another")
    file = write(tmp_path / "key", f"{KEY}\n")
    assert publish("ev:b", "1", "--admin", hub.admin_url, "--key-file", str(file)) == 0
    assert json.loads(capsys.readouterr().out)["seq"] == 1


def test_no_key(hub: HubProcess, capsys: Capture) -> None:
    assert publish("ev:a", "1", "--admin", hub.admin_url) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "(40100); it is read from HUB_ADMIN_KEY, or from a file with --key-file" in err


def test_another_key(hub: HubProcess, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_ADMIN_KEY", "tr0ub4dor")
    assert publish("ev:a", "1", "--admin", hub.admin_url) == 1
    err = capsys.readouterr().err
    assert "the key that was given is another" in err
    assert "tr0ub4dor" not in err


@pytest.mark.parametrize("text", ["", "\n", "two words", "one\ntwo", "schlüssel", "\x00"])
def test_a_file_without_a_key(text: str, tmp_path: Path) -> None:
    file = write(tmp_path / "key", text)
    with pytest.raises(ConfigurationError, match="expected a key") as refused:
        publish("ev:a", "1", "--key-file", str(file))
    assert text.strip() == "" or text not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--key-file .*: cannot be read: No such file"):
        publish("ev:a", "1", "--key-file", str(tmp_path / "none"))


def test_a_variable_that_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_ADMIN_KEY", "correct horse")
    with pytest.raises(ConfigurationError, match="HUB_ADMIN_KEY: expected a key") as refused:
        publish("ev:a", "1")
    assert "horse" not in str(refused.value)


# --- where the port is --------------------------------------------------------------------------------------


def test_the_configured_port(
    hub: HubProcess, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where the rest of the file is of no use here."""
    monkeypatch.setenv("HUB_ADMIN_KEY", KEY)
    address = hub.admin_url.removeprefix("http://")
    config = write(tmp_path / "hub.toml", f'[server]\nadmin_bind = "{address}"\n[sources.kafka]\n')
    assert publish("ev:c", "1", "--config", str(config)) == 0
    assert json.loads(capsys.readouterr().out)["seq"] == 1


def test_the_environment_has_the_last_word(
    hub: HubProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    monkeypatch.setenv("HUB_ADMIN_KEY", KEY)
    monkeypatch.setenv("HUB_SERVER__ADMIN_BIND", hub.admin_url.removeprefix("http://"))
    config = write(tmp_path / "hub.toml", '[server]\nadmin_bind = "127.0.0.1:1"\n')
    assert publish("ev:d", "1", "--config", str(config)) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    "address, url",
    [
        ("0.0.0.0:1", "http://127.0.0.1:1"),
        ("[::]:1", "http://[::1]:1"),
        ("localhost:1", "http://localhost:1"),
    ],
)
def test_an_address_to_listen_on_is_not_always_one_to_connect_to(
    address: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    asked: list[str] = []

    def refuse(self: httpx.Client, url: str, **_: object) -> None:
        asked.append(url)
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(httpx.Client, "post", refuse)
    config = write(
        tmp_path / "hub.toml", f'[server]\nadmin_bind = "{address}"\nadmin_key_hash = "{"0" * 64}"\n'
    )
    assert publish("ev:a", "1", "--config", str(config)) == 1
    assert asked == [f"{url}/publish"]
    assert f"no hub at {url}/publish" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, why",
    [
        ('[server]\nadmin_bind = ""\n', "the operators' port is off; say --admin URL"),
        ('[server]\nadmin_bind = "127.0.0.1:0"\n', "is any free one; say --admin URL"),
        ('[server]\nadmin_bind = "8081"\n', "expected host:port"),
        ('[server]\nadmin_bnd = "127.0.0.1:1"\n', "admin_bind"),
        ("server = 1\n", r"expected a section, \[server\]"),
        ("[server\n", "not valid TOML"),
    ],
)
def test_a_configuration_that_does_not_say(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=why):
        publish("ev:a", "1", "--config", str(write(tmp_path / "hub.toml", text)))


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        publish("ev:a", "1", "--config", str(tmp_path / "none.toml"))


# --- what goes with an event --------------------------------------------------------------------------------


def test_all_that_goes_with_an_event(
    hub: HubProcess, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_ADMIN_KEY", KEY)
    more = ["--type", "snapshot", "--event", "book", "--last-update-id", "0"]
    assert publish("ev:e", "[]", "--admin", hub.admin_url, *more) == 0
    capsys.readouterr()
    with httpx.Client(base_url=hub.public_url, trust_env=False) as client:
        (v2,) = client.get("/history/ev:e", params={"format": "v2"}).json()["events"]
        (live,) = client.get("/history/ev:e").json()["events"]
    assert (v2["type"], v2["lastUpdateId"], v2["data"], live["event"]) == ("snapshot", 0, [], "book")


def test_a_user_has_channels_of_their_own(
    hub: HubProcess, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_ADMIN_KEY", KEY)
    for user in ("u1", "ü2"):
        assert publish("mine", "1", "--user", user, "--admin", hub.admin_url) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 1]


@pytest.mark.parametrize(
    "channel, data, why",
    [
        ("trades@btc_tl", '[{"price":"1"},{"price":1.5}]', "price"),
        ("trades@btc_tl", '[{"side":"both"}]', "side"),
        ("trades@btc_tl", "{}", "array"),
        ("book@btc_tl", '{"bids":[["1","x"]]}', "bids"),
        ("book@btc_tl", "{}", "neither `bids` nor `asks`"),
        ("top.5@btc_tl", "{}", "derived from book@btc_tl: publish there"),
    ],
)
def test_a_payload_that_the_channel_does_not_take(
    channel: str, data: str, why: str, hub: HubProcess, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong is told, and where; good ones around it are published."""
    monkeypatch.setenv("HUB_ADMIN_KEY", KEY)
    assert publish(channel, data, "--admin", hub.admin_url) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err and "(40005)" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--type", "whole"],
        ["--last-update-id", "-1"],
        ["--last-update-id", "x"],
        ["--admin", "http://h", "--config", "x.toml"],
        ["--key", "x"],
    ],
)
def test_arguments_that_make_no_sense(arguments: Sequence[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        publish("ev:a", "1", *arguments)
    assert ended.value.code == 2
    capsys.readouterr()
