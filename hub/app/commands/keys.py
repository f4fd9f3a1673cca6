"""``hub keys``: API keys that are made, listed and revoked in a file, of which a running hub takes notice itself."""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import msgspec

from hub.app.settings import ConfigurationError, Settings
from hub.auth.claims import USER_TIERS, check_user
from hub.auth.key_file import (
    ApiKey,
    KeyFileBroken,
    change_keys,
    check_permission,
    hash_key,
    make_key,
    new_id,
    read_keys,
)

Load = Callable[[Path | None, Sequence[str]], Settings]
#: The longest that a key may be good for, if it ends at all; calendars end at the year 9999.
_MAX_DAYS = 36_500


class _NoSuchKey(Exception):
    """The operator's fault: an id that the file does not have."""


def add_keys_command(commands: argparse._SubParsersAction[argparse.ArgumentParser], load: Load) -> None:
    """Adds ``hub keys`` to the command line. ``load`` reads a configuration, for ``--config``."""
    keys = commands.add_parser("keys", help="make, list and revoke API keys")
    actions = keys.add_subparsers(required=True, metavar="ACTION")

    add = actions.add_parser("add", help="make a key; it is printed once, only its hash is kept")
    add.add_argument("--user", required=True, type=_user, help="whose it is")
    add.add_argument("--tier", choices=USER_TIERS, default="retail")
    add.add_argument(
        "--permission",
        action="append",
        default=[],
        type=_permission,
        metavar="NAME",
        help="may come repeatedly",
    )
    add.add_argument(
        "--expires",
        type=_expiry,
        metavar="WHEN",
        help="90d, 2027-01-31 (its first moment, UTC) or 2027-01-31T12:00:00Z; default: never",
    )
    lister = actions.add_parser("list", help="print the keys, a line of JSON each")
    revoke = actions.add_parser(
        "revoke",
        help="take a key out; a running hub refuses it within a second, and keeps the connections it has",
    )
    revoke.add_argument("id", metavar="ID", help="as `hub keys list` prints it")

    for parser, action in ((add, _add), (lister, _list), (revoke, _revoke)):
        place = parser.add_mutually_exclusive_group(required=True)
        place.add_argument("--file", type=Path, metavar="FILE", help="the file of keys, auth.api_key_file")
        place.add_argument("--config", type=Path, metavar="FILE", help="a configuration that names the file")
        parser.set_defaults(run=_Command(action, load))


@attrs.frozen
class _Command:
    """An action on a file of keys, with what can go wrong there told to the operator."""

    action: Callable[[Path, argparse.Namespace], None]
    load: Load

    def __call__(self, options: argparse.Namespace) -> int:
        path = options.file or self._configured_file(options.config)
        try:
            self.action(path, options)
        except (OSError, KeyFileBroken, _NoSuchKey) as error:
            if isinstance(error, BrokenPipeError):
                raise
            problem = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            print(f"hub keys: {path}: {problem}", file=sys.stderr)
            return 1
        return 0

    def _configured_file(self, config: Path) -> Path:
        if not (file := self.load(config, []).auth.api_key_file):
            raise ConfigurationError(
                [f'{config}: auth.api_key_file is empty; set it, as "/etc/hub/keys.toml"']
            )
        return Path(file)


def _add(path: Path, options: argparse.Namespace) -> None:
    key, added = make_key(), []

    def change(keys: tuple[ApiKey, ...]) -> Sequence[ApiKey]:
        added.append(
            ApiKey(
                id=new_id(keys),
                hash=hash_key(key),
                user=options.user,
                tier=options.tier,
                permissions=tuple(dict.fromkeys(options.permission)),
                created=_now(),
                expires=options.expires,
            )
        )
        return [*keys, *added]

    change_keys(path, change)
    # The key alone on stdout, so that a script can take it from there.
    print(f"hub keys: {added[0].id} for {options.user}; its key is shown this once:", file=sys.stderr)
    print(key)


def _list(path: Path, options: argparse.Namespace) -> None:
    for key in read_keys(path):
        fields = attrs.asdict(key, filter=attrs.filters.exclude("hash"))
        print(msgspec.json.encode(fields).decode())


def _revoke(path: Path, options: argparse.Namespace) -> None:
    def change(keys: tuple[ApiKey, ...]) -> Sequence[ApiKey]:
        if not any(key.id == options.id for key in keys):
            raise _NoSuchKey(f"no key {options.id}")
        return [key for key in keys if key.id != options.id]

    change_keys(path, change)
    print(f"hub keys: {options.id} revoked", file=sys.stderr)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


# --- arguments -------------------------------------------------------------------------------------------


def _user(text: str) -> str:
    try:
        return check_user(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _permission(text: str) -> str:
    try:
        return check_permission(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _expiry(text: str) -> datetime.datetime:
    """A moment to come: a number of days, a date, or a time."""
    expires = None
    if (days := re.fullmatch(r"([0-9]{1,5})d", text, re.ASCII)) and int(days[1]) <= _MAX_DAYS:
        expires = _now() + datetime.timedelta(days=int(days[1]))
    elif not days:
        expires = _parse_time(text)
    if expires is None or expires <= _now():
        raise argparse.ArgumentTypeError(f"expected a time to come, as 90d or 2027-01-31, not {text!r}")
    return expires


def _parse_time(text: str) -> datetime.datetime | None:
    try:
        moment = datetime.datetime.fromisoformat(text).replace(microsecond=0)
        return (moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment).astimezone(
            datetime.UTC
        )
    except (ValueError, OverflowError):  # the latter at the end of the calendar
        return None
