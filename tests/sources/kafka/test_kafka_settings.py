from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from hub.sources.kafka import KafkaSettings, Topic
from hub.sources.kafka.mapping import TopicMapping

CONF = Path(__file__).parents[3] / "conf"
TRADES = {"ws.trades": Topic(channels=("trades@{key}",))}


def read_topics() -> dict[str, Topic]:
    """The topics of the configuration that is shipped."""
    shipped = tomllib.loads((CONF / "kafka.toml").read_text())
    tables: dict[str, dict[str, Any]] = shipped["sources"]["kafka"]["topics"]
    return {name: Topic(**_read_table(table)) for name, table in tables.items()}


def _read_table(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


@pytest.mark.parametrize(
    "name, key, value, channels, user",
    [
        ("ws.ticker", b"btc_tl", b"{}", ["ticker@btc_tl"], None),
        ("ws.orderbook.delta", b"btc_tl", b"{}", ["orderbook@btc_tl"], None),
        ("ws.trades", b"btc_tl", b"[]", ["trades@btc_tl"], None),
        ("ws.kline", b"btc_tl:1m", b"{}", ["kline.1m@btc_tl"], None),
        ("ws.kline", b"btc_tl,1m", b"{}", ["kline.1m@btc_tl"], None),
        ("ws.bbo", b"btc_tl", b"{}", ["bbo@btc_tl"], None),
        ("ws.orders", b"u1", b'{"market":"btc_tl"}', ["orders"], "u1"),
        ("ws.fills", b"u1", b'{"market":"btc_tl"}', ["fills"], "u1"),
        ("ws.balances", b"u1", b"{}", ["balances"], "u1"),
        ("hub.events", b"job:42", b"{}", ["job:42"], None),
    ],
)
def test_the_shipped_topics_map_as_the_specification_says(
    name: str, key: bytes, value: bytes, channels: list[str], user: str | None
) -> None:
    mapped = TopicMapping(read_topics()[name]).map(key, value, None, 1)

    assert (list(mapped.channels), mapped.user) == (channels, user)


def test_the_shipped_topics_are_the_nine() -> None:
    assert len(read_topics()) == 9


@pytest.mark.parametrize(
    "table, reason",
    [
        ({"channels": ()}, "channels is empty"),
        ({"channels": ("kline.{interval}@{market}",)}, r"\{interval\}"),
        ({"channels": ("{key}",), "user": "{owner}"}, r"\{owner\}"),
        ({"channels": ("{a}",), "key": ("{a}:{b}", "{a}")}, "same parts"),
    ],
)
def test_a_topic_whose_keys_do_not_go_together(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Topic(**table)


def test_the_promises_of_the_source_cannot_be_configured_away() -> None:
    with pytest.raises(ValueError, match=r"client\.enable\.auto\.commit"):
        KafkaSettings(bootstrap_servers="b:1", topics=TRADES, client={"enable.auto.commit": "true"})


def test_without_a_topic_there_is_nothing_to_do() -> None:
    with pytest.raises(ValueError, match="no topic"):
        KafkaSettings(bootstrap_servers="b:1")


def test_printed_settings_hold_no_secret() -> None:
    settings = KafkaSettings(
        bootstrap_servers="b:1", topics=TRADES, client={"sasl.password": "correct horse"}
    )

    assert "correct horse" not in repr(settings)
