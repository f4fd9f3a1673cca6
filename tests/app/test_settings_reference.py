"""The rendered reference is complete, correct and up to date."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from hub.app.settings import Settings, load, plugins, render_documentation, render_toml
from hub.app.settings.__main__ import main
from hub.app.settings.plugins import find_plugins
from hub.sansio.options import Seconds, option
from hub.sansio.policies import Policy

ROOT = Path(__file__).parents[2]


@attrs.frozen(kw_only=True)
class Topic:
    channels: str = option(doc="where its records go")
    keep: bool = option(True, doc="whether they are kept")


@attrs.frozen(kw_only=True)
class Account:
    user: str = option("", doc="who")


@attrs.frozen(kw_only=True)
class FullSettings:
    wait: Seconds = option(Seconds(0.25), doc="how long, e.g. *now*")
    group: str | None = option(None, doc="name of the group")
    properties: Mapping[str, str] = option(factory=lambda: {"client.id": 'a"b'}, doc="for the library")
    topics: Mapping[str, Topic] = option(
        factory=lambda: {"ws.a": Topic(channels="a"), "ws.b": Topic(channels="b", keep=False)}, doc="what"
    )
    others: Mapping[str, Topic] = option(factory=dict, doc="what else")
    account: Account = option(factory=Account, doc="who")


class Full:
    """Brings everything.

    At length.
    """

    name: ClassVar[str] = "full"
    Settings: ClassVar[type] = FullSettings


@attrs.frozen(kw_only=True)
class NeedySettings:
    servers: str = option(doc="host:port")
    partitions: tuple[int, ...] = option(doc="which")
    count: int = option(doc="how many")


class Needy:
    name: ClassVar[str] = "needy"
    Settings: ClassVar[type] = NeedySettings


FULL: Mapping[str, type] = {"full": Full}
FULL_AND_NEEDY: Mapping[str, type] = {"full": Full, "needy": Needy}


def uncomment_sources(toml: str) -> str:
    """As the operator would: takes one # off each line of the sources' sections."""
    head, mark, tail = toml.partition("#[sources.")
    body, end, rest = tail.partition("\n\n# ")
    return head + re.sub(r"^#", "", mark + body, flags=re.MULTILINE) + end + rest


def read(toml: str, path: Path, transports: Mapping[str, type], sources: Mapping[str, type]) -> Settings:
    path.write_text(toml, encoding="utf-8")
    return load(path, {}, [], transports, sources)


def test_the_rendered_file_says_exactly_the_defaults(tmp_path: Path) -> None:
    toml = render_toml(FULL, FULL_AND_NEEDY)
    assert read(toml, tmp_path / "x.toml", FULL, FULL_AND_NEEDY) == load(None, {}, [], FULL, FULL_AND_NEEDY)


def test_a_sources_section_comes_alive_by_taking_its_hashes_off(tmp_path: Path) -> None:
    toml = uncomment_sources(render_toml(FULL, FULL_AND_NEEDY)).replace('servers = ""', 'servers = "a:1"')
    settings = read(toml, tmp_path / "x.toml", FULL, FULL_AND_NEEDY)
    assert settings.sources == {
        "full": FullSettings(),
        "needy": NeedySettings(servers="a:1", partitions=(), count=0),
    }


def _keys(table: Mapping[str, Any], path: str = "") -> set[str]:
    return {path}.union(
        *(_keys(v, f"{path}.{k}") if isinstance(v, dict) else {f"{path}.{k}"} for k, v in table.items())
    )


def test_every_key_is_in_the_rendered_file() -> None:
    keys = _keys(tomllib.loads(render_toml(FULL, {})))
    for section in ("server", "limits", "channels", "logging"):
        fields = attrs.fields(type(getattr(Settings(), section)))
        assert {f".{section}.{field.name}" for field in fields} <= keys
    assert {".transports.full.enabled", ".transports.full.wait", ".transports.full.account.user"} <= keys


def explanations(toml: str, hashes: str = "") -> dict[str, str]:
    """The line above each key; ``hashes`` are those before keys that are commented out."""
    lines = toml.splitlines()
    found = ((re.match(rf"{hashes}(\w+) = ", line), lines[n - 1]) for n, line in enumerate(lines))
    return {match[1]: above for match, above in found if match is not None}


def test_every_key_has_its_explanation_above_it() -> None:
    toml = render_toml({}, {})
    before, _, named = toml.partition("#[namespaces.NAME]")
    explained = explanations(before)
    assert explained["request_head_size"].startswith("# Longest request line and headers; beyond: 431.")
    assert explained["request_head_size"].endswith("Size, from 1KB to 1MB.")
    assert all(above.startswith("# ") for above in explained.values())
    template, _, _ = named.partition("[namespaces.ticker]")
    of_namespaces = explanations(template, "#")
    assert of_namespaces.keys() == {field.name for field in attrs.fields(Policy)}
    assert all(above.startswith("## ") for above in of_namespaces.values())


def test_a_shipped_namespace_says_what_differs_from_the_defaults() -> None:
    section = re.search(r"^\[namespaces\.fills\]\n((?:.+\n)+)", render_toml({}, {}), re.MULTILINE)
    assert section is not None
    assert section[1].splitlines()[0] == 'pattern = "fills"'
    assert all(re.match(r"\w+ = ", line) for line in section[1].splitlines())
    assert "available" not in section[1]


def test_the_documentation_has_every_key() -> None:
    text = render_documentation(FULL, FULL_AND_NEEDY)
    for section in ("server", "limits", "channels", "logging"):
        for field in attrs.fields(type(getattr(Settings(), section))):
            assert f"``{field.name}``" in text
    assert "must be set" in text and "Brings everything.\n" in text and "At length" not in text
    assert r"e.g. \*now\*" in text


def test_rendering_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "docs").mkdir()
    main(tmp_path)
    assert (tmp_path / "conf/hub.toml").is_file() and (tmp_path / "docs/configuration.rst").is_file()
    assert "hub.toml" in capsys.readouterr().out


def test_plugins_are_found_without_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_installed(*, group: str) -> tuple[()]:
        return ()

    installed = _own()
    monkeypatch.setattr(plugins, "entry_points", nothing_installed)
    assert _own() == installed
    assert all(found.keys() for found in installed)


# --- the files in the repository: when these fail, run "python -m hub.app.settings" -----------------------


def _own() -> tuple[dict[str, type], dict[str, type]]:
    return find_plugins("hub.transports", own_only=True), find_plugins("hub.sources", own_only=True)


def test_hub_toml_is_up_to_date() -> None:
    assert (ROOT / "conf/hub.toml").read_text(encoding="utf-8") == render_toml(*_own())


def test_the_configuration_page_is_up_to_date() -> None:
    assert (ROOT / "docs/configuration.rst").read_text(encoding="utf-8") == render_documentation(*_own())


def test_hub_toml_says_exactly_the_defaults() -> None:
    assert load(ROOT / "conf/hub.toml", {}, [], *_own()) == load(None, {}, [], *_own())
