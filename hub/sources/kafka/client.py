"""How librdkafka is set up, and where its log lines go."""

from __future__ import annotations

import ctypes
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException

from hub.sources.kafka.pacing import Quiet
from hub.sources.kafka.settings import KafkaSettings

logger = logging.getLogger(__name__)

#: Names of properties whose values are secret: passwords, keys, what SASL mechanisms take.
_SECRET_PROPERTY = re.compile(r"password|secret|key|token|username|config")

#: What the operator may change under ``[sources.kafka.client]``.
_DEFAULTS: dict[str, Any] = {
    "client.id": "trio-hub",
    # The library insists on a group's name, and looks for its coordinator, but nothing joins.
    "group.id": "trio-hub",
    # By default a peer that says nothing is given a minute, and an attempt to connect half a minute.
    "socket.timeout.ms": "10000",
    "socket.connection.setup.timeout.ms": "10000",
    "reconnect.backoff.max.ms": "2000",
    # The default forgets all brokers when none answers, and then tries anew each 50 ms, with a line of log and
    # an error each time (librdkafka 2.16).
    "metadata.recovery.strategy": "none",
    # A full queue is looked at again only after a second by default.
    "fetch.queue.backoff.ms": "20",
    "queued.max.messages.kbytes": "16384",
    "log.connection.close": "false",
}


#: mallopt's number for: fill memory on malloc with the complement of a byte (malloc.h of glibc).
_M_PERTURB = -6


def clear_new_memory() -> None:
    """Makes glibc's malloc hand out zeros in this process, because librdkafka 2.5 to 2.16.1 reads what it never wrote.

    While a broker starts or stops, its answer to a fetch may name leader -1 for some partitions. librdkafka
    counts them but does not fill them in, and takes what is in the memory for numbers of partitions, leaders
    and epochs: three of twenty restarts of a broker with 576 partitions ended the process
    (``rd_kafka_metadata_update_op``), others left a partition unread (``hub.sources.kafka.stall``). Zeros are
    harmless: they name an epoch that is never newer than the known one. Without glibc nothing happens here.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_PERTURB, 0xFF)


class PropertyRefused(ValueError):
    """The operator's fault: librdkafka does not take a property of ``[sources.kafka.client]``."""


def make_consumer(settings: KafkaSettings, own: Mapping[str, Any], log: LibraryLog | None) -> Consumer:
    """A librdkafka client with the operator's properties, over which go our ``own``. Raises PropertyRefused.

    Lines for ``log`` arrive while records are polled. Without a log there are none.
    """
    clear_new_memory()
    properties = _DEFAULTS | dict(settings.client) | {"bootstrap.servers": settings.bootstrap_servers, **own}
    try:
        if log is None:
            return Consumer(properties | {"log_level": 0})
        return Consumer(properties, logger=log)
    except KafkaException as error:
        text = make_mask(settings.client)(error.args[0].str())
        raise PropertyRefused(f"sources.kafka.client: {text}") from None


def make_mask(properties: Mapping[str, str]) -> Callable[[str], str]:
    """A function that masks the values of secret properties in a text."""
    # A very short one would take half of each line with it.
    found = {value for name, value in properties.items() if _SECRET_PROPERTY.search(name) and len(value) >= 4}
    secrets = sorted(found, key=len, reverse=True)

    def mask(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    return mask


class LibraryLog:
    """Takes librdkafka's log lines, and passes on few of them, without secrets.

    It has the one method of a logger that confluent-kafka calls. What a line means for the hub is for the
    source to say, so nothing here is louder than a warning, and a kind of line comes once in ``pause`` seconds:
    the library repeats it with each attempt.
    """

    def __init__(
        self,
        mask: Callable[[str], str],
        *,
        pause: float = 60.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mask = mask
        self._quiet = Quiet(pause)
        self._now = now

    def log(self, level: int, template: str, *arguments: object) -> None:
        """``arguments``: the line's kind, the client's name, the text."""
        level = min(level, logging.WARNING)
        if not logger.isEnabledFor(level):
            return
        kind = arguments[0] if arguments else template
        held_back = 0 if level <= logging.DEBUG else self._quiet.admit((level, kind), self._now())
        if held_back is not None:
            line = self._mask(template % arguments)
            logger.log(level, "librdkafka", extra={"line": line, "heldBack": held_back})
