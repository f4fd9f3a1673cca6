from __future__ import annotations

import pytest

from hub.app.settings.layers import Leaf, Table
from hub.app.settings.problems import ConfigurationError
from hub.app.settings.structure import Structurer
from hub.providers import ProviderSettings


def read(**headers: str) -> ProviderSettings:
    """As the loader reads the section."""
    problems: list[str] = []
    table = Table("x.toml", {"headers": Table("x.toml", {k: Leaf(v, "x.toml") for k, v in headers.items()})})
    settings: ProviderSettings = Structurer(problems, ()).read(ProviderSettings, table, "provider")
    if problems:
        raise ConfigurationError(problems)
    return settings


def test_defaults() -> None:
    assert ProviderSettings().timeout == 5.0


def test_secrets_are_not_shown() -> None:
    settings = read(authorization="Bearer correct-horse")
    assert settings.headers == {"authorization": "Bearer correct-horse"}
    assert "correct" not in repr(settings)


@pytest.mark.parametrize(
    "value", ["", " x", "x ", "correct\r\nhorse", "correct\nhorse", "correcthørse", "\x00"]
)
def test_a_value_that_is_none(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"provider\.headers") as refused:
        read(authorization=value)
    assert "correct" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ä", "a\r\nb"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a header"):
        ProviderSettings(headers={name: "x"})


@pytest.mark.parametrize("name", ["Host", "accept-encoding", "Transfer-Encoding"])
def test_headers_that_are_not_the_operators(name: str) -> None:
    with pytest.raises(ValueError, match="set by the hub"):
        ProviderSettings(headers={name: "x"})
