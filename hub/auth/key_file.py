"""The file of API keys: TOML, written by ``hub keys``, read by the hub.

It holds no key, only their hashes. A key has 256 random bits, which nobody guesses however fast the hash is, so a
plain SHA-256 is right: slow hashes are for passwords, and would make each request cost what a flood of wrong keys
should not be able to cost us.
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import re
import secrets
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from hub.auth.claims import USER_TIERS, check_user
from hub.sansio.errors import HubError

#: Shows people, and programs that look for leaked secrets, what it is.
KEY_PREFIX: Final = "hub_"
_HEAD = (
    "# API keys: written by `hub keys`. It holds hashes only; a key that is lost cannot be had from here.\n"
)
_PERMISSION = re.compile(r"[!-~]{1,64}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_HASH = re.compile(r"[0-9a-f]{64}")


class KeyFileBroken(HubError):
    """The operator's fault: a file of API keys that says something that cannot be. The text says what and where."""


@attrs.frozen(kw_only=True)
class ApiKey:
    """One entry. ``hash`` is SHA-256 in hex; times have a zone; ``expires`` None: never."""

    id: str
    hash: str = attrs.field(repr=False)
    user: str
    tier: str
    permissions: tuple[str, ...] = ()
    created: datetime.datetime
    expires: datetime.datetime | None = None


def make_key() -> str:
    """A new key. It is shown once and kept nowhere."""
    return f"{KEY_PREFIX}{secrets.token_urlsafe(32)}"


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def new_id(keys: Sequence[ApiKey]) -> str:
    """An id that none of ``keys`` has."""
    taken = {key.id for key in keys}
    while (name := f"k_{secrets.token_hex(4)}") in taken:
        pass
    return name


# --- reading ---------------------------------------------------------------------------------------------


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Raises OSError and KeyFileBroken."""
    return decode_keys(path.read_bytes())


def decode_keys(data: bytes) -> tuple[ApiKey, ...]:
    """The keys of a file that was read. Raises KeyFileBroken."""
    try:
        return parse_keys(data.decode())
    except UnicodeDecodeError:
        raise KeyFileBroken("not UTF-8") from None


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """Raises KeyFileBroken."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise KeyFileBroken(f"not TOML: {error}") from None
    if unknown := document.keys() - {"keys"}:
        raise KeyFileBroken(f"{min(unknown)} is not known here; entries are written as [[keys]]")
    entries = document.get("keys", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise KeyFileBroken("entries are written as [[keys]]")
    keys = tuple(_parse_key(entry, number) for number, entry in enumerate(entries, 1))
    for name in ("id", "hash"):
        if len({getattr(key, name) for key in keys}) < len(keys):
            raise KeyFileBroken(f"two entries have the same {name}")
    return keys


def _parse_key(entry: Mapping[str, Any], number: int) -> ApiKey:
    try:
        if unknown := entry.keys() - attrs.fields_dict(ApiKey).keys():
            raise ValueError(f"{min(unknown)} is not a known key")
        return ApiKey(
            id=_match(entry, "id", _ID, "1 to 32 of A-Z a-z 0-9 _ -"),
            hash=_match(entry, "hash", _HASH, "64 hexadecimal digits"),
            user=check_user(entry.get("user")),
            tier=_check_tier(entry.get("tier")),
            permissions=_check_permissions(entry.get("permissions", [])),
            created=_check_time(entry, "created"),
            expires=_check_time(entry, "expires") if "expires" in entry else None,
        )
    except ValueError as error:
        raise KeyFileBroken(f"entry {number}: {error}") from None


def _match(entry: Mapping[str, Any], name: str, pattern: re.Pattern[str], right: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{name}: expected {right}")
    return value


def _check_tier(value: object) -> str:
    if not isinstance(value, str) or value not in USER_TIERS:
        raise ValueError(f"tier: expected one of {', '.join(USER_TIERS)}")
    return value


def check_permission(value: object) -> str:
    """``value`` as a permission. Raises ValueError."""
    if not isinstance(value, str) or not _PERMISSION.fullmatch(value):
        raise ValueError("a permission is 1 to 64 ASCII characters without a space")
    return value


def _check_permissions(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(check_permission(item) for item in value)
    raise ValueError("permissions: expected a list")


def _check_time(entry: Mapping[str, Any], name: str) -> datetime.datetime:
    value = entry.get(name)
    if not isinstance(value, datetime.datetime) or value.tzinfo is None:
        raise ValueError(f"{name}: expected a time with a zone, such as 2027-01-31T12:00:00Z")
    return value


# --- writing ---------------------------------------------------------------------------------------------


def render_keys(keys: Sequence[ApiKey]) -> str:
    """What `parse_keys` reads the same keys from."""
    return "\n".join([_HEAD, *(_render_key(key) for key in keys)])


def _render_key(key: ApiKey) -> str:
    times = {"created": key.created, "expires": key.expires}
    # JSON's strings are TOML's, but for DEL, which no field may have.
    texts = {
        "id": key.id,
        "hash": key.hash,
        "user": key.user,
        "tier": key.tier,
        "permissions": key.permissions,
    }
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in texts.items()]
    lines += [f"{name} = {value.isoformat()}" for name, value in times.items() if value is not None]
    return "\n".join(["[[keys]]", *lines, ""])


def change_keys(path: Path, change: Callable[[tuple[ApiKey, ...]], Sequence[ApiKey]]) -> None:
    """Replaces the keys in a file by what ``change`` makes of them; a file that is not there yet has none.

    The file is replaced as a whole, so that no reader sees half of it, and one at a time, so that no change is lost.
    Raises OSError, KeyFileBroken, and whatever ``change`` raises.
    """
    path = path.resolve()  # a link stays one
    with _locked(path.parent):
        try:
            keys = read_keys(path)
        except FileNotFoundError:
            keys = ()
        _replace(path, render_keys(change(keys)))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if (
                os.geteuid() == 0 and path.exists()
            ):  # the hub, which runs as somebody else, must still read it
                os.fchown(descriptor, path.stat().st_uid, path.stat().st_gid)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
