"""What is read from where. What is refused: test_settings_errors.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.app.settings import LogSettings, ServerSettings, Settings, load
from hub.app.settings.kinds import to_toml
from hub.app.settings.layers import Leaf, read_overrides
from hub.sansio.options import Seconds, Size, option


@attrs.frozen(kw_only=True)
class Topic:
    channels: str = option(doc="where its records go")
    keep: bool = option(True, doc="whether they are kept")


@attrs.frozen(kw_only=True)
class Account:
    user: str = option("", doc="who")
    password: str = option("", doc="proof", secret=True)


@attrs.frozen(kw_only=True)
class LogReaderSettings:
    servers: str = option(doc="where the log is")
    rate: float = option(1.0, doc="records a second", at_least=0.0, at_most=10.0)
    mode: Literal["all", "mine"] = option("all", doc="what is read")
    group: str | None = option(None, doc="name of the group")
    wait: Seconds = option(Seconds(1.0), doc="how long")
    fetch: Size = option(Size(1024), doc="how much")
    partitions: tuple[int, ...] = option((), doc="which", at_least=0)
    topics: Mapping[str, Topic] = option(factory=dict, doc="what")
    properties: Mapping[str, str] = option(factory=dict, doc="for the library")
    account: Account = option(factory=Account, doc="who reads")


class LogReader:
    name: ClassVar[str] = "log"
    Settings: ClassVar[type] = LogReaderSettings


@attrs.frozen(kw_only=True)
class PaceSettings:
    pace: Seconds = option(Seconds(15.0), doc="how often")


class Pigeon:
    name: ClassVar[str] = "pigeon"
    Settings: ClassVar[type] = PaceSettings


class Drum:
    name: ClassVar[str] = "drum"
    Settings: ClassVar[type] = PaceSettings


TRANSPORTS: Mapping[str, type] = {"pigeon": Pigeon, "drum": Drum}
SOURCES: Mapping[str, type] = {"log": LogReader, "pace": Pigeon}


def read(
    toml: str, tmp_path: Path, environ: Mapping[str, str] | None = None, overrides: Iterable[str] = ()
) -> Settings:
    path = tmp_path / "x.toml"
    path.write_text(toml, encoding="utf-8")
    return load(path, environ or {}, overrides, TRANSPORTS, SOURCES)


def set_all(*overrides: str) -> Settings:
    return load(None, {}, overrides, TRANSPORTS, SOURCES)


# --- layers ----------------------------------------------------------------------------------------------


def test_without_a_word_everything_is_at_its_default() -> None:
    settings = load(None, {}, [], TRANSPORTS, SOURCES)
    assert settings == Settings(transports={"pigeon": PaceSettings(), "drum": PaceSettings()})
    assert list(settings.namespaces)[:3] == ["ticker", "orderbook", "orderbook_top"]


def test_the_environment_goes_over_the_file_and_set_over_both(tmp_path: Path) -> None:
    toml = '[server]\nnode = "file"\nbacklog = 1\nbind = "127.0.0.1:1"\npage = false'
    environ = {"HUB_SERVER__NODE": "env", "HUB_SERVER__BACKLOG": "2"}
    server = read(toml, tmp_path, environ, ["server.node=set"]).server
    assert server == ServerSettings(node="set", backlog=2, bind="127.0.0.1:1", page=False)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert read('\ufeff[server]\nnode = "a"', tmp_path).server.node == "a"


def test_the_later_of_two_overrides_wins() -> None:
    assert set_all("server.backlog=1", "server.backlog=2").server.backlog == 2


@pytest.mark.parametrize(
    "name",
    [
        "HUB_NODE",
        "HUB_SERVERS__NODE",
        "HUB_SERVER",
        "HUB_server__node",
        "SERVER__NODE",
        "HUB__NODE",
        "XHUB_SERVER__NODE",
    ],
)
def test_variables_that_mean_something_else_are_left_alone(name: str) -> None:
    assert load(None, {name: "other"}, [], {}, {}) == Settings()


def test_the_more_specific_of_two_variables_wins() -> None:
    environ = {
        "HUB_SOURCES__LOG__ACCOUNT__USER": "ada",
        "HUB_SOURCES__LOG": '{servers = "a:1", account = {user = "eve", password = "p"}}',
    }
    settings = load(None, environ, [], {}, SOURCES)
    assert settings.sources["log"].account == Account(user="ada", password="p")


@pytest.mark.parametrize(
    "override, path, value",
    [
        ("a=1", ["a"], 1),
        (" a . b = true ", ["a", "b"], True),
        ('a."b.c".d="x=y"', ["a", "b.c", "d"], "x=y"),
        ("a.'b.c'=x=y", ["a", "b.c"], "x=y"),
        ("a=127.0.0.1:0", ["a"], "127.0.0.1:0"),
        ("a=", ["a"], ""),
        ("a=x\nb=1", ["a"], "x\nb=1"),
        ("a=1\nb=1", ["a"], "1\nb=1"),
        ('a=["x", 1]', ["a"], ["x", 1]),
        ("1.2=3", ["1", "2"], 3),
    ],
)
def test_overrides(override: str, path: list[str], value: Any) -> None:
    node: Any = read_overrides([override], problems=[])
    for part in path:
        assert list(node.items) == [part]
        node = node.items[part]
    assert isinstance(node, Leaf) and (node.value, node.origin) == (value, "--set")


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_can_be_set(key: str, value: str) -> None:
    overrides = [f"logging.{to_toml(str, key)}={to_toml(str, value)}"]
    node: Any = read_overrides(overrides, problems=[]).items["logging"]
    assert node.items[key].value == value


# --- values ----------------------------------------------------------------------------------------------


def test_every_type_that_a_setting_may_have(tmp_path: Path) -> None:
    toml = """
    [sources.log]
    servers = "a:1,b:2"
    rate = 5
    mode = "mine"
    group = "g"
    wait = "250ms"
    fetch = "1MB"
    partitions = [0, 7]
    properties = { "client.id" = "x" }
    account.user = "ada"
    [sources.log.topics."ws.trades"]
    channels = "trades@{key}"
    [sources.log.topics.other]
    channels = "job:*"
    keep = false
    """
    log = read(toml, tmp_path).sources["log"]
    assert log == LogReaderSettings(
        servers="a:1,b:2",
        rate=5.0,
        mode="mine",
        group="g",
        wait=Seconds(0.25),
        fetch=Size(1024 * 1024),
        partitions=(0, 7),
        topics={"ws.trades": Topic(channels="trades@{key}"), "other": Topic(channels="job:*", keep=False)},
        properties={"client.id": "x"},
        account=Account(user="ada"),
    )
    assert isinstance(log.rate, float)


def test_one_key_of_a_table_with_dots_in_its_name_can_be_set(tmp_path: Path) -> None:
    toml = '[sources.log]\nservers = "a:1"\ntopics."ws.trades" = { channels = "x", keep = false }'
    settings = read(toml, tmp_path, overrides=['sources.log.topics."ws.trades".channels=y'])
    assert settings.sources["log"].topics == {"ws.trades": Topic(channels="y", keep=False)}


@pytest.mark.parametrize("text", ["12345", "true", "2026-01-01", "1e5", "[1]", "plain", '"quoted"', "0x10"])
def test_where_a_string_is_wanted_the_environment_needs_no_quotes(text: str) -> None:
    environ = {"HUB_SOURCES__LOG__SERVERS": "a:1", "HUB_SOURCES__LOG__ACCOUNT__PASSWORD": text}
    settings = load(None, environ, [], {}, SOURCES)
    assert settings.sources["log"].account.password == text.strip('"')


def test_namespaces_of_a_configuration_replace_the_defaults(tmp_path: Path) -> None:
    settings = read('[namespaces.bench]\npattern = "bench:*"\nlag_limit = 0', tmp_path)
    assert list(settings.namespaces) == ["bench"]
    assert (settings.namespaces["bench"].lag_limit, settings.namespaces["bench"].buffer_count) == (0, 1000)


def test_namespaces_stay_in_their_order_because_the_first_match_wins(tmp_path: Path) -> None:
    names = ["z", "a", "m", "b"]
    toml = "\n".join(f'[namespaces.{name}]\npattern = "{name}:*"' for name in names)
    assert list(read(toml, tmp_path).namespaces) == names


@pytest.mark.parametrize(
    "bind", ["127.0.0.1:0", "localhost:8080", "[::]:8080", "[fe80::1%eth0]:65535", "hub-1.example:1"]
)
def test_addresses(bind: str) -> None:
    key = "server.admin_key_hash=" + "0" * 64
    settings = set_all(f'server.bind="{bind}"', f'server.admin_bind="{bind}"', key)
    assert (settings.server.bind, settings.server.admin_bind) == (bind, bind)


def test_the_operators_port_can_be_off() -> None:
    assert set_all("server.admin_bind=").server.admin_bind == ""


def test_logging_section() -> None:
    assert set_all("logging.level=debug", "logging.format=text").logging == LogSettings(
        level="debug", format="text"
    )


# --- plugins ---------------------------------------------------------------------------------------------


def test_transports_are_on_unless_disabled() -> None:
    settings = set_all("transports.pigeon.enabled=false", "transports.drum.pace=1s")
    assert settings.transports == {"drum": PaceSettings(pace=Seconds(1.0))}


@pytest.mark.parametrize("section", ["[sources.pace]", "[sources.pace]\nenabled = true", "sources.pace = {}"])
def test_a_source_is_on_when_its_section_is_there(section: str, tmp_path: Path) -> None:
    assert read(section, tmp_path).sources == {"pace": PaceSettings()}


def test_a_source_can_be_disabled_and_need_not_be_complete_then(tmp_path: Path) -> None:
    assert read("[sources.log]\nenabled = false", tmp_path).sources == {}


def test_a_source_can_be_switched_on_from_outside() -> None:
    settings = load(None, {"HUB_SOURCES__PACE__ENABLED": "true"}, [], {}, SOURCES)
    assert settings.sources == {"pace": PaceSettings()}
