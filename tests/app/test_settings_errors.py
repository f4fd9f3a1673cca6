"""Every kind of configuration error says where it is, what was there and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import attrs
import pytest

from hub.app.settings import ConfigurationError, load
from hub.sansio.errors import HubError
from hub.sansio.options import Seconds, option

KAFKA = '[sources.kafka]\nservers = "a:1"\n'


@attrs.frozen(kw_only=True)
class Topic:
    channels: str = option(doc="where its records go")


@attrs.frozen(kw_only=True)
class KafkaSettings:
    servers: str = option(doc="host:port of brokers")
    password: str = option("", doc="proof", secret=True, choices=("", "sesame"))
    wait: Seconds = option(Seconds(1.0), doc="how long", at_least=0.5, at_most=60.0)
    rate: float = option(1.0, doc="how fast", at_least=0.5)
    share: float = option(1.0, doc="how much", at_most=1.0)
    topics: Mapping[str, Topic] = option(factory=dict, doc="what")
    properties: Mapping[str, str] = option(factory=dict, doc="for the library")
    group: str | None = option(None, doc="name")


class Kafka:
    name: ClassVar[str] = "kafka"
    Settings: ClassVar[type] = KafkaSettings


@attrs.frozen(kw_only=True)
class DrumSettings:
    pace: Seconds = option(Seconds(1.0), doc="how often")


class Drum:
    name: ClassVar[str] = "drum"
    Settings: ClassVar[type] = DrumSettings


@attrs.frozen(kw_only=True)
class NeedySettings:
    account: Topic = option(doc="who")


class Needy:
    name: ClassVar[str] = "needy"
    Settings: ClassVar[type] = NeedySettings


def problems_of(path: Path | None, environ: Mapping[str, str] | None = None, *overrides: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ or {}, overrides, {"drum": Drum}, {"kafka": Kafka, "needy": Needy})
    return list(caught.value.problems)


def problems_in(toml: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "x.toml"
    path.write_text(toml, encoding="utf-8")
    return [problem.replace(f"{path}", "x.toml") for problem in problems_of(path)]


@pytest.mark.parametrize(
    "toml, problem",
    [
        # unknown keys
        ('server.bnid = "a"', 'server.bnid = "a" is not a known key; did you mean server.bind?'),
        ('bind = "a"', 'bind = "a" is not a known key; did you mean server.bind?'),
        ("[sever]", "[sever] is not a known key; did you mean server?"),
        ("limits.lag_limit = 1", "limits.lag_limit = 1 is not a known key; did you mean namespaces.NAME.lag_limit?"),
        ("logging.zzz = 1", "logging.zzz = 1 is not a known key; known here: level, format"),
        ("server.cursor_size = 1", "server.cursor_size = 1 is not a known key; did you mean limits.cursor_size?"),
        ("namespaces.a = {pattern = 'a:*', lag_limt = 1}", "namespaces.a.lag_limt = 1 is not a known key; did you mean namespaces.a.lag_limit?"),
        ("[transports.drmu]", "[transports.drmu] is not a known key; did you mean transports.drum?"),
        ("transports.drum.peace = 1", "transports.drum.peace = 1 is not a known key; did you mean transports.drum.pace?"),
        ("transports.drum.enable = false", "transports.drum.enable = false is not a known key; did you mean transports.drum.enabled?"),
        ("[sources.q]", "[sources.q] is not a known key; known here: kafka, needy"),
        (KAFKA + 'topics."a.b".chanels = "x"\ntopics."a.b".channels = "x"',
         'sources.kafka.topics."a.b".chanels = "x" is not a known key; did you mean sources.kafka.topics."a.b".channels?'),
        ('server."a b" = 1', 'server."a b" = 1 is not a known key; known here: bind, '),
        # wrong types
        ("server.page = 1", "server.page = 1: expected true or false"),
        ('server.page = "true"', 'server.page = "true": expected true or false'),
        ("server.backlog = true", "server.backlog = true: expected a whole number, from 1 to 65535"),
        ("server.backlog = 1.0", "server.backlog = 1.0: expected a whole number, from 1 to 65535"),
        ("server.node = 1", "server.node = 1: expected a string"),
        ("server.node = 2026-01-01", "server.node = 2026-01-01: expected a string"),
        ("server = 1", "server = 1: expected a table"),
        ("[server.node]", "server.node = a table: expected a string"),
        ("server.cors_origins = 'https://a'", 'server.cors_origins = "https://a": expected a list, each item a string'),
        ("server.cors_origins = [1]", "server.cors_origins[0] = 1: expected a string"),
        ("channels.depths = [5, '10']", 'channels.depths[1] = "10": expected a whole number, from 1 to 10000'),
        ("channels.depths = [{a = 1}]", "channels.depths[0] = a table: expected a whole number, from 1 to 10000"),
        ("server.node = [{a = 1}]", "server.node = a list of tables: expected a string"),
        ("namespaces = 1", "namespaces = 1: expected a table"),
        ("namespaces.a = 1", "namespaces.a = 1: expected a table"),
        ("limits.idle_timeout = '5'", 'limits.idle_timeout = "5": expected a duration such as "250ms", "5s", "5m", "1h" or a number of seconds, at least 10ms'),
        ("server.send_buffer = '5m'", 'server.send_buffer = "5m": expected a size such as "64KB", "64MB", "1GB" or a number of bytes'),
        ("sources = 1", "sources = 1: expected sections such as [sources.NAME]"),
        ("transports.drum = false", "transports.drum = false: expected a section, [transports.drum]"),
        ("transports.drum.enabled = 1", "transports.drum.enabled = 1: expected true or false"),
        (KAFKA + "rate = nan", "sources.kafka.rate = nan: expected a number, at least 0.5"),
        (KAFKA + "group = 1", "sources.kafka.group = 1: expected a string"),
        (KAFKA + "properties = 1", "sources.kafka.properties = 1: expected a table, each value a string"),
        (KAFKA + "properties.a = 1", "sources.kafka.properties.a = 1: expected a string"),
        # out of range
        ("server.backlog = 0", "server.backlog = 0: expected a whole number, from 1 to 65535"),
        ("limits.params = 0", "limits.params = 0: expected a whole number, at least 1"),
        ("limits.connections_per_ip = -1", "limits.connections_per_ip = -1: expected a whole number, at least 0"),
        ("limits.cursor_size = '1B'", 'limits.cursor_size = "1B": expected a size such as "64KB", "64MB", "1GB" or a number of bytes, from 64B to 16KB'),
        (KAFKA + "wait = '2m'", 'sources.kafka.wait = "2m": expected a duration such as "250ms", "5s", "5m", "1h" or a number of seconds, from 500ms to 1m'),
        (KAFKA + "rate = 0.1", "sources.kafka.rate = 0.1: expected a number, at least 0.5"),
        (KAFKA + "share = 1.5", "sources.kafka.share = 1.5: expected a number, at most 1.0"),
        # bad choices
        ("logging.level = 'warn'", 'logging.level = "warn": expected one of "debug", "info", "warning", "error"; did you mean "warning"?'),
        ("logging.level = 'INFO'", 'logging.level = "INFO": expected one of "debug", "info", "warning", "error"; did you mean "info"?'),
        ("logging.level = 3", 'logging.level = 3: expected one of "debug", "info", "warning", "error"'),
        ("namespaces.a = {pattern = 'a:*', snapshot = 'first'}", 'namespaces.a.snapshot = "first": expected one of "none", "last"'),
        # values of a wrong form
        ("server.bind = 'here'", 'server.bind = "here": expected host:port, such as "127.0.0.1:8080" or "[::]:8080"; port 0 is any free port'),
        ("server.bind = 'a:65536'", 'server.bind = "a:65536": expected host:port'),
        ("server.admin_bind = '8081'", 'server.admin_bind = "8081": expected host:port'),
        ("server.node = 'N 1'", 'server.node = "N 1": expected 1 to 16 of a-z 0-9 -'),
        ("server.cors_origins = ['*', 'https://a/b']", 'server.cors_origins[1] = "https://a/b": expected an origin without a path'),
        ("channels.markets = ['BTC']", 'channels.markets[0] = "BTC": expected base_quote in lower case'),
        ("channels.intervals = ['m']", 'channels.intervals[0] = "m": expected a number and a unit'),
        ("namespaces.a.pattern = 'a@{mkt}'", '[namespaces.a] pattern "a@{mkt}": unknown hole {mkt}'),
        ("server.tls_key = 'k.pem'", "[server] tls_certificate is empty: tls_certificate and tls_key are set both or not at all"),
        ("server.tls_certificate = 'c.pem'", "[server] tls_key is empty: tls_certificate and tls_key are set both or not at all"),
        # missing keys
        ("[sources.kafka]", "sources.kafka.servers is missing; set it to a string (host:port of brokers)"),
        ("[namespaces.a]", "namespaces.a.pattern is missing; set it to a string (names of its channels"),
        (KAFKA + "[sources.kafka.topics.t]", "sources.kafka.topics.t.channels is missing; set it to a string"),
        ("[sources.needy]", "sources.needy.account.channels is missing; set it to a string"),
    ],
)  # fmt: skip
def test_one_mistake(toml: str, problem: str, tmp_path: Path) -> None:
    (found,) = problems_in(toml, tmp_path)
    assert found.startswith(f"x.toml: {problem}")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[server]\nbnid = "a"\nbacklog = "many"\n[limits]\nparams = 0\n[sources.kafka]\nwait = 0')
    problems = problems_of(path, {"HUB_LOGGING__LEVEL": "loud"}, "server.page=perhaps", "nonsense")
    assert [problem.partition(" ")[0] for problem in problems if problem.startswith(str(path))] == [
        f"{path}:"
    ] * 5
    assert "--set nonsense: expected key=value" in problems[0]
    assert any(problem.startswith('HUB_LOGGING__LEVEL: logging.level = "loud": ') for problem in problems)
    assert '--set: server.page = "perhaps": expected true or false' in problems
    assert len(problems) == 8


def test_the_error_is_one_of_the_hubs_and_reads_as_a_list() -> None:
    error: HubError = ConfigurationError(["a", "b"])
    assert str(error) == "a\nb"


@pytest.mark.parametrize(
    "environ, override, origin",
    [
        ({"HUB_SERVER__BNID": "a"}, None, "HUB_SERVER__BNID"),
        ({"HUB_SERVER__": "a"}, None, "HUB_SERVER__"),
        ({"HUB_SERVER____BIND": "a"}, None, "HUB_SERVER____BIND"),
        ({}, "server.bnid=a", "--set"),
    ],
)
def test_the_layer_of_a_mistake_is_named(environ: dict[str, str], override: str | None, origin: str) -> None:
    (problem,) = problems_of(None, environ, *([override] if override else []))
    assert problem.startswith(f"{origin}: ") and "is not a known key" in problem


def test_what_nobody_has_set_is_missing_from_the_configuration() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(None, {}, [], {"kafka": Kafka}, {})
    assert str(caught.value).startswith("configuration: transports.kafka.servers is missing")


@pytest.mark.parametrize("override", ["", "=", "=1", "server.bind", "a b=1", "a..b=1", '"a=1', ".a=1"])
def test_malformed_overrides(override: str) -> None:
    (problem,) = problems_of(None, {}, override)
    assert problem.startswith("--set ") and "expected key=value" in problem


# --- files -----------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert problems_of(path) == [f"{path}: cannot be read: No such file or directory"]


def test_a_file_that_is_a_directory(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]


@pytest.mark.parametrize("content", [b"[server", b"a = 1\na = 2", b"\xff\xfe", b"a = \x00"])
def test_a_file_that_is_not_toml(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    (problem,) = problems_of(path)
    assert problem.startswith(f"{path}: not valid TOML: ")


# --- secrets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "toml",
    [
        KAFKA + 'password = "hunter2"',
        KAFKA + 'pasword = "hunter2"',
        KAFKA + 'zzz = "hunter2"',
        KAFKA + 'password = ["hunter2"]',
        'server.api_token = "hunter2"',
        'server.bind = "redis://me:hunter2@host"',
    ],
)
def test_secrets_are_not_quoted(toml: str, tmp_path: Path) -> None:
    (problem,) = problems_in(toml, tmp_path)
    assert "***" in problem and "hunter2" not in problem


def test_a_malformed_override_may_hold_a_secret() -> None:
    (problem,) = problems_of(None, {}, "sources.kafka.password!=hunter2")
    assert "hunter2" not in problem


def test_long_values_are_cut(tmp_path: Path) -> None:
    (problem,) = problems_in(f'server.bind = "{"a" * 1000}"', tmp_path)
    assert "aaa..." in problem and len(problem) < 300
