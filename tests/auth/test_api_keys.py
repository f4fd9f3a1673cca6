"""API keys: made, listed and revoked by the real command line; read by the hub, also when the file changes."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import logging
import os
import stat
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import attrs
import hypothesis
import pytest
import trio.testing
from hypothesis import strategies as st

from hub.app.cli import main
from hub.auth import AuthConfigurationError, AuthSettings, HubAuthenticator
from hub.auth.api_keys import LOOK_INTERVAL, ApiKeys
from hub.auth.key_file import ApiKey, KeyFileBroken, change_keys, hash_key, make_key, parse_keys, render_keys
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import Identity
from tests.hub_process import ROOT

NOW = 1_800_000_000.0
CREATED = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@attrs.frozen
class Done:
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


def run_keys(*arguments: object) -> Done:
    """``hub keys``, in this process: starting one costs a second."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["keys", *map(str, arguments)])
    return Done(status, out.getvalue(), err.getvalue())


def run_process(*arguments: object) -> Done:
    """``hub keys``, as an operator runs it."""
    command = [sys.executable, "-m", "hub", "keys", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def add(path: Path, *arguments: str) -> str:
    done = run_keys("add", "--file", path, *arguments)
    assert done.returncode == 0, done.stderr
    (key,) = done.stdout.splitlines()
    return key


def list_keys(path: Path) -> list[dict[str, Any]]:
    done = run_keys("list", "--file", path)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def write(path: Path, key: str, **fields: Any) -> None:
    """A file of one key, replaced as ``hub keys`` does."""
    entry = ApiKey(
        **{"id": "k", "user": "bot", "tier": "mm", "created": CREATED, "hash": hash_key(key), **fields}
    )
    change_keys(path, lambda keys: [entry])


async def code_of(keys: ApiKeys, key: str) -> ErrorCode:
    with pytest.raises(RequestRefused) as caught:
        await keys.identify(key)
    assert not key or key not in caught.value.msg
    return caught.value.code


# --- the command line ---------------------------------------------------------------------------------------


async def test_from_the_shell(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    added = run_process("add", "--file", path, "--user", "bot")
    (key,) = added.stdout.splitlines()
    (entry,) = list_keys(path)
    assert added == Done(0, f"{key}\n", f"hub keys: {entry['id']} for bot; its key is shown this once:\n")
    assert (await ApiKeys(path, now=lambda: NOW).identify(key)).user == "bot"
    revoked = run_process("revoke", "--file", path, entry["id"])
    assert revoked == Done(0, "", f"hub keys: {entry['id']} revoked\n")
    assert list_keys(path) == []


async def test_a_key_that_was_added_says_who_it_is_until_it_is_revoked(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    key = add(path, "--user", "bot 1", "--tier", "mm", "--permission", "trade", "--permission", "read")
    other = add(path, "--user", "bot ğ😀\"\\'")
    first, second = list_keys(path)
    assert (first["user"], first["tier"], first["permissions"]) == ("bot 1", "mm", ["trade", "read"])
    assert (second["user"], second["tier"], second["permissions"]) == ("bot ğ😀\"\\'", "retail", [])
    assert first["expires"] is None

    keys = ApiKeys(path, now=lambda: NOW)
    assert await keys.identify(key) == Identity(user="bot 1", tier="mm", roles=frozenset({"trade", "read"}))
    assert (await keys.identify(other)).user == "bot ğ😀\"\\'"

    done = run_keys("revoke", "--file", path, first["id"])
    assert (done.returncode, done.stdout) == (0, "")
    assert [entry["id"] for entry in list_keys(path)] == [second["id"]]
    keys = ApiKeys(path, now=lambda: NOW)
    assert await code_of(keys, key) == ErrorCode.UNAUTHENTICATED
    assert (await keys.identify(other)).user == "bot ğ😀\"\\'"


def test_only_the_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    key = add(path, "--user", "bot")
    text = path.read_text()
    assert hashlib.sha256(key.encode()).hexdigest() in text
    assert key not in text and key.removeprefix("hub_") not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["keys.toml"]
    assert hash_key(key) not in run_keys("list", "--file", path).stdout


def test_the_file_keeps_its_owner(tmp_path: Path) -> None:
    """Who runs ``hub keys`` as root must not lock the hub out, which runs as somebody else."""
    path = tmp_path / "keys.toml"
    add(path, "--user", "bot")
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    before = path.stat()
    add(path, "--user", "bot")
    after = path.stat()
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (before.st_uid, before.st_gid, 0o600)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link, real = tmp_path / "keys.toml", tmp_path / "real" / "keys.toml"
    link.symlink_to(real)
    add(link, "--user", "bot")
    assert link.is_symlink()
    assert len(parse_keys(real.read_text())) == 1


def test_the_file_may_come_from_the_configuration(tmp_path: Path) -> None:
    config, path = tmp_path / "hub.toml", tmp_path / "keys.toml"
    config.write_text(f'[auth]\napi_key_file = "{path}"\n')
    assert run_keys("add", "--config", config, "--user", "bot").returncode == 0
    assert [entry["user"] for entry in list_keys(path)] == ["bot"]
    config.write_text("")
    done = run_keys("list", "--config", config)
    assert done.returncode == 2
    assert done.stderr == f'{config}: auth.api_key_file is empty; set it, as "/etc/hub/keys.toml"\n'


@pytest.mark.parametrize(
    "when, expires",
    [
        ("2199-01-31", "2199-01-31T00:00:00Z"),
        ("2199-01-31T12:00:00Z", "2199-01-31T12:00:00Z"),
        ("2199-01-31T12:00:00.5+02:00", "2199-01-31T10:00:00Z"),
    ],
)
def test_a_key_may_expire(when: str, expires: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    add(path, "--user", "bot", "--expires", when)
    (entry,) = list_keys(path)
    assert entry["expires"] == expires
    assert tomllib.loads(path.read_text())["keys"][0]["expires"] == datetime.datetime.fromisoformat(expires)


def test_a_key_may_expire_in_days(tmp_path: Path) -> None:
    add(tmp_path / "keys.toml", "--user", "bot", "--expires", "90d")
    (entry,) = list_keys(tmp_path / "keys.toml")
    lifetime = datetime.datetime.fromisoformat(entry["expires"]) - datetime.datetime.fromisoformat(
        entry["created"]
    )
    assert round(lifetime / datetime.timedelta(days=1), 3) == 90


@pytest.mark.parametrize(
    "arguments, why",
    [
        (["add", "--file", "F"], "--user"),
        (["add", "--user", "bot"], "--file"),
        (["add", "--file", "F", "--config", "F", "--user", "bot"], "not allowed with"),
        (["add", "--file", "F", "--user", ""], "a user is a text of 1 to 128 characters"),
        (["add", "--file", "F", "--user", "a\nb"], "a user has printable characters only"),
        (["add", "--file", "F", "--user", "\udcff"], "a user has printable characters only"),
        (["add", "--file", "F", "--user", "bot", "--tier", "anonymous"], "--tier"),
        (["add", "--file", "F", "--user", "bot", "--permission", "a b"], "a permission is"),
        *[
            (["add", "--file", "F", "--user", "bot", "--expires", when], "expected a time to come")
            for when in ("2020-01-01", "soon", "", "0d", "99999d", "9999-12-31T23:59:59-12:00", "²d")
        ],
    ],
)
def test_a_command_line_that_is_wrong(
    arguments: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "keys.toml")
    with pytest.raises(SystemExit) as caught:
        main(["keys", *[path if argument == "F" else argument for argument in arguments]])
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert why in err
    assert not os.listdir(tmp_path)


def test_what_the_file_refuses_is_told(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    for arguments in (["list"], ["revoke", "k_1"]):
        done = run_keys(*arguments, "--file", path)
        reason = "No such file or directory" if arguments == ["list"] else "no key k_1"
        assert (done.returncode, done.stderr) == (1, f"hub keys: {path}: {reason}\n")
    assert not path.exists()
    path.write_text("broken")
    for arguments in (["list"], ["revoke", "k_1"], ["add", "--user", "bot"]):
        done = run_keys(*arguments, "--file", path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"hub keys: {path}: not TOML: ")
    assert path.read_text() == "broken"
    assert run_keys("add", "--user", "bot", "--file", tmp_path / "no" / "keys.toml").returncode == 1


def test_keys_that_are_added_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"

    def add_one(number: int) -> None:
        key = make_key()
        fields: Any = {"user": f"bot{number}", "tier": "mm", "created": CREATED}
        change_keys(path, lambda keys: [*keys, ApiKey(id=f"k{number}", hash=hash_key(key), **fields)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add_one, range(40)))
    assert {key.id for key in parse_keys(path.read_text())} == {f"k{number}" for number in range(40)}


# --- the hub ------------------------------------------------------------------------------------------------


async def test_an_expired_key(tmp_path: Path) -> None:
    key, path = make_key(), tmp_path / "keys.toml"
    expires = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    write(path, key, expires=expires)
    assert (await ApiKeys(path, now=lambda: NOW - 1).identify(key)).expires_at == NOW
    assert await code_of(ApiKeys(path, now=lambda: NOW), key) == ErrorCode.TOKEN_EXPIRED


async def test_what_is_no_key(tmp_path: Path) -> None:
    key, path = make_key(), tmp_path / "keys.toml"
    write(path, key)
    keys = ApiKeys(path, now=lambda: NOW)
    for wrong in ("", key[:-1], key + "x", key.upper(), hash_key(key), "\ud800", "x" * 1_000_000, make_key()):
        assert await code_of(keys, wrong) == ErrorCode.UNAUTHENTICATED


async def test_the_file_is_read_again_when_it_changes(
    tmp_path: Path, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old, new, path = make_key(), make_key(), tmp_path / "keys.toml"
    write(path, old)
    keys = ApiKeys(path, now=lambda: NOW)
    assert (await keys.identify(old)).user == "bot"
    write(path, new)
    assert (await keys.identify(old)).user == "bot"  # at most one look a second
    mock_clock.jump(LOOK_INTERVAL)
    assert await code_of(keys, old) == ErrorCode.UNAUTHENTICATED
    assert (await keys.identify(new)).user == "bot"
    mock_clock.jump(LOOK_INTERVAL)
    assert (await keys.identify(new)).user == "bot"
    assert [record.message for record in caplog.records] == ["API keys loaded"]


async def test_old_keys_stay_while_the_file_is_of_no_use(
    tmp_path: Path, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    key, path = make_key(), tmp_path / "keys.toml"
    write(path, key)
    keys = ApiKeys(path, now=lambda: NOW)
    good = path.read_bytes()
    for spoil, reason in (
        (lambda: path.write_text("broken"), "not TOML: "),
        (lambda: path.write_bytes(b"\xff"), "not UTF-8"),
        (lambda: path.unlink(), "No such file or directory"),
        (lambda: path.mkdir(), "Is a directory"),
    ):
        caplog.clear()
        spoil()
        for _ in range(3):
            mock_clock.jump(LOOK_INTERVAL)
            assert (await keys.identify(key)).user == "bot"
        (record,) = caplog.records  # told once
        assert record.message == "API key file unusable"
        assert record.__dict__["error"].startswith(reason)
    path.rmdir()
    path.write_bytes(good.replace(b'"bot"', b'"new"'))
    mock_clock.jump(LOOK_INTERVAL)
    assert (await keys.identify(key)).user == "new"


def test_at_the_start_the_file_must_be_good(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    for content, reason in (
        (None, f"no such file; `hub keys add --file {path} --user USER` makes it"),
        ("[[keys]]", "entry 1: id: expected 1 to 32 of A-Z a-z 0-9 _ -"),
    ):
        if content is not None:
            path.write_text(content)
        with pytest.raises(AuthConfigurationError) as caught:
            HubAuthenticator(AuthSettings(api_key_file=str(path)))
        assert str(caught.value) == f'auth.api_key_file = "{path}": {reason}'
    with pytest.raises(AuthConfigurationError, match="Is a directory"):
        HubAuthenticator(AuthSettings(api_key_file=str(tmp_path)))


# --- the file -----------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "id": "k_1",
    "hash": "0" * 64,
    "user": "bot",
    "tier": "mm",
    "permissions": ["trade"],
    "created": CREATED,
}


def toml_of(*entries: dict[str, Any]) -> str:
    lines = []
    for entry in entries:
        lines.append("[[keys]]")
        for name, value in entry.items():
            is_time = isinstance(value, (datetime.date, datetime.datetime))
            lines.append(f"{name} = {value.isoformat() if is_time else json.dumps(value)}")
    return "\n".join(lines)


def test_a_good_file() -> None:
    (key,) = parse_keys(toml_of(GOOD))
    assert (key.id, key.user, key.tier, key.permissions, key.expires) == (
        "k_1",
        "bot",
        "mm",
        ("trade",),
        None,
    )
    assert parse_keys("") == ()
    assert "0" * 64 not in repr(key)


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"id": ""}, "entry 2: id: expected 1 to 32 of A-Z a-z 0-9 _ -"),
        ({"id": 7}, "entry 2: id: expected 1 to 32 of A-Z a-z 0-9 _ -"),
        ({"hash": "0" * 63}, "entry 2: hash: expected 64 hexadecimal digits"),
        ({"hash": "A" * 64}, "entry 2: hash: expected 64 hexadecimal digits"),
        ({"user": ""}, "entry 2: a user is a text of 1 to 128 characters"),
        ({"user": None}, "entry 2: a user is a text of 1 to 128 characters"),
        ({"tier": "anonymous"}, "entry 2: tier: expected one of retail, mm"),
        ({"tier": None}, "entry 2: tier: expected one of retail, mm"),
        ({"permissions": "trade"}, "entry 2: permissions: expected a list"),
        ({"permissions": ["a b"]}, "entry 2: a permission is 1 to 64 ASCII characters without a space"),
        (
            {"created": "now"},
            "entry 2: created: expected a time with a zone, such as 2027-01-31T12:00:00Z",
        ),
        (
            {"expires": datetime.date(2027, 1, 1)},
            "entry 2: expires: expected a time with a zone, such as 2027-01-31T12:00:00Z",
        ),
        (
            {"expires": datetime.datetime(2027, 1, 1)},
            "entry 2: expires: expected a time with a zone, such as 2027-01-31T12:00:00Z",
        ),
        ({"expire": CREATED}, "entry 2: expire is not a known key"),
        ({"id": "k_1"}, "two entries have the same id"),
        ({"hash": "0" * 64}, "two entries have the same hash"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(changes: dict[str, Any], problem: str) -> None:
    entry = {**GOOD, "id": "k_2", "hash": "1" * 64, **changes}
    with pytest.raises(KeyFileBroken) as caught:
        parse_keys(toml_of(GOOD, {name: value for name, value in entry.items() if value is not None}))
    assert str(caught.value) == problem


@pytest.mark.parametrize("text", ["x", "keys = 1", "keys = [1]", "[keys]", "[[key]]", "[auth]"])
def test_what_is_no_file_of_keys(text: str) -> None:
    with pytest.raises(KeyFileBroken):
        parse_keys(text)


printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=128)


@hypothesis.given(
    user=printable,
    tier=st.sampled_from(["retail", "mm"]),
    permissions=st.lists(st.from_regex(r"\A[!-~]{1,64}\Z")),
    created=st.datetimes(min_value=datetime.datetime(1000, 1, 1), timezones=st.just(datetime.UTC)),
    expires=st.none()
    | st.datetimes(min_value=datetime.datetime(1000, 1, 1), timezones=st.just(datetime.UTC)),
)
def test_what_is_written_is_what_is_read(**fields: Any) -> None:
    fields["permissions"] = tuple(fields["permissions"])
    keys = tuple(ApiKey(id=f"k{number}", hash=f"{number}" * 64, **fields) for number in range(2))
    assert parse_keys(render_keys(keys)) == keys
