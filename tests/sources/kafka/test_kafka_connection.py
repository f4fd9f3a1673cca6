from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from hub.sources.kafka import KafkaSettings, Topic
from hub.sources.kafka.client import LibraryLog, PropertyRefused, make_mask
from hub.sources.kafka.connection import Connection
from hub.sources.kafka.inquiry import Inquiry

UP = {"nodeid": 1, "state": "UP", "source": "learned"}
AWAY = {"nodeid": 1, "state": "TRY_CONNECT", "source": "learned"}
BOOTSTRAP = {"nodeid": -1, "state": "UP", "source": "configured"}
COORDINATOR = {"nodeid": 7, "state": "UP", "source": "logical"}


def report(*brokers: dict[str, Any], leaders: tuple[int, ...] = (), end: int = 10) -> str:
    """librdkafka's statistics, as far as they matter, of a topic ``t`` whose partitions have these leaders."""
    partitions: dict[str, Any] = {
        str(number): {"desired": True, "broker": leader, "hi_offset": end}
        for number, leader in enumerate(leaders)
    }
    partitions["-1"] = {"desired": False, "broker": -1, "hi_offset": -1001}
    names = {f"broker{number}": broker for number, broker in enumerate(brokers)}
    return msgspec.json.encode(
        {"brokers": names, "topics": {"t": {"partitions": partitions}}, "cgrp": {}}
    ).decode()


def test_it_is_well_when_each_partition_has_a_leader_that_is_connected() -> None:
    connection = Connection()
    assert connection.status == "starting"
    connection.update(report(UP, COORDINATOR, leaders=(1, 1)))

    assert connection.status == "ok"
    assert connection.ends() == {("t", 0): 10, ("t", 1): 10}


def test_without_partitions_any_broker_will_do() -> None:
    connection = Connection()
    connection.update(report(BOOTSTRAP))

    assert connection.status == "ok"


def test_an_error_is_believed_at_once_and_a_recovery_when_it_is_seen() -> None:
    connection = Connection()
    connection.update(report(UP, leaders=(1,)))
    connection.trouble("connection refused")
    assert connection.status == "ok"  # that may be one of many brokers
    connection.lose("1/1 brokers are down")
    assert (connection.status, connection.error, connection.troubles) == ("down", "connection refused", 2)
    connection.update(report(AWAY, COORDINATOR, leaders=(1,)))
    assert connection.status == "down"
    connection.update(report(UP, leaders=(-1,)))  # connected, but it leads nothing yet
    assert connection.status == "down"
    connection.update(report(UP, leaders=(1,)))

    assert connection.status == "ok"


def test_a_leader_that_is_not_known_for_a_moment_is_no_news() -> None:
    connection = Connection()
    connection.update(report(UP, leaders=(1,)))
    connection.update(report(UP, leaders=(1, -1)))
    connection.update(report(UP, leaders=(1, -1)))
    assert connection.status == "ok"
    connection.update(report(UP, leaders=(1, -1)))

    assert connection.status == "degraded"


def test_nobody_answers_and_nothing_fails() -> None:
    connection = Connection()
    for _ in range(3):
        assert connection.status == "starting"
        connection.update(report(AWAY))

    assert connection.status == "down"


# --- the library's log -----------------------------------------------------------------------------------


def test_the_librarys_lines_come_rarely_without_secrets_and_never_as_errors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = [0.0]
    mask = make_mask({"sasl.password": "correct horse", "security.protocol": "SASL_SSL", "ssl.key.pem": "k"})
    log = LibraryLog(mask, pause=60.0, now=lambda: clock[0])
    with caplog.at_level(logging.INFO, "hub.sources.kafka"):
        for clock[0] in (0.0, 1.0, 59.0, 60.0):
            log.log(logging.ERROR, "%s [%s] %s", "FAIL", "client", "SASL_SSL: correct horse is wrong")
        log.log(logging.DEBUG, "%s [%s] %s", "TOPPAR", "client", "chatter")

    lines = [
        (record.levelno, record.__dict__["line"], record.__dict__["heldBack"]) for record in caplog.records
    ]
    expected = "FAIL [client] SASL_SSL: *** is wrong"
    assert lines == [(logging.WARNING, expected, 0), (logging.WARNING, expected, 2)]


def test_a_property_that_the_library_does_not_take_is_the_operators_mistake() -> None:
    settings = KafkaSettings(
        bootstrap_servers="127.0.0.1:1",
        topics={"t": Topic(channels=("{key}",))},
        client={"no.such.password": "correct horse"},
    )
    with pytest.raises(PropertyRefused, match=r"no\.such\.password") as caught:
        Inquiry(settings)

    assert "correct horse" not in str(caught.value)
