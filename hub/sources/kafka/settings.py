"""What the operator says about Kafka: section ``[sources.kafka]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from hub.sansio.options import Seconds, option
from hub.sources.kafka.templates import (
    FIELD_HOLE,
    KEY_HOLE,
    KeyPattern,
    Template,
    check_key_pattern,
    check_template,
)

#: librdkafka's properties that the source sets itself: another value would break its promises.
OWN_PROPERTIES = frozenset(
    {
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "metadata.broker.list",
    }
)


def _check_user(text: str) -> None:
    if text:
        check_template(text)


@attrs.frozen(kw_only=True)
class Topic:
    """Section ``[sources.kafka.topics."NAME"]``: which channels its records go to."""

    channels: tuple[str, ...] = option(
        doc="channels of a record, with holes {key}, {PART} of the key and {data.FIELD} of the payload; where a "
        "namespace has parts the whole alone, because the hub publishes on its parts too",
        check=check_template,
    )
    key: tuple[str, ...] = option(
        (),
        doc='patterns that name the parts of the key, as "{market}:{interval}"; tried in turn',
        check=check_key_pattern,
    )
    user: str = option(
        "",
        doc='whose the record is, as "{key}", where its channels are private; empty: everyone\'s',
        check=_check_user,
    )
    event: str = option("", doc="event name in the live envelope; empty: that of the channel's namespace")
    wrapped: Literal["auto", "always", "never"] = option(
        "auto",
        doc='whether payloads come in {"ts", "type", "lastUpdateId", "data"}; auto: those that look like it are unwrapped',
        choices=("auto", "always", "never"),
    )

    def __attrs_post_init__(self) -> None:
        if not self.channels:
            raise ValueError('channels is empty; set it to the channels of a record, as ["trades@{key}"]')
        known = self._key_parts()
        for text in (*self.channels, self.user) if self.user else self.channels:
            template = Template(text)
            for hole in template.holes:
                if hole not in known and hole not in template.fields:
                    raise ValueError(
                        f"{{{hole}}} in {text!r} is not known; known are {{{KEY_HOLE}}}, "
                        f"{''.join(f'{{{part}}}, ' for part in sorted(known - {KEY_HOLE}))}{{{FIELD_HOLE}}}"
                    )

    def _key_parts(self) -> set[str]:
        """What a template may use whichever of the patterns fits."""
        parts = [set(KeyPattern(pattern).parts) for pattern in self.key]
        if any(names != parts[0] for names in parts):
            raise ValueError("all patterns of key must name the same parts")
        return {KEY_HOLE, *(parts[0] if parts else ())}


@attrs.frozen(kw_only=True)
class KafkaSettings:
    """Section ``[sources.kafka]``."""

    bootstrap_servers: str = option(doc="host:port of one or more brokers, comma separated")
    start: Literal["buffer", "earliest", "latest"] = option(
        "buffer",
        doc="where to begin: buffer_age ago, at the oldest record, or at the next one",
        choices=("buffer", "earliest", "latest"),
    )
    buffer_age: Seconds = option(
        Seconds(300.0),
        doc='how far back start = "buffer" goes; as long as the channels\' buffers',
        at_least=0.0,
    )
    batch: int = option(
        500, doc="most records handed over at once", unit="records", at_least=1, at_most=100_000
    )
    poll: Seconds = option(
        Seconds(0.25),
        doc="longest wait for records before looking round; bounds a shutdown",
        at_least=0.001,
        at_most=1.0,
    )
    refresh: Seconds = option(
        Seconds(10.0), doc="time between two looks for new topics and partitions", at_least=0.05
    )
    client: Mapping[str, str] = option(
        factory=dict,
        doc='more properties of librdkafka, as "security.protocol" = "SASL_SSL"; values are never printed',
        secret=True,
    )
    topics: Mapping[str, Topic] = option(factory=dict, doc="topics by name")

    def __repr__(self) -> str:
        """Without the values of ``client``, among which are passwords."""
        return f"KafkaSettings({self.bootstrap_servers!r}, topics={list(self.topics)}, client={list(self.client)})"

    def __attrs_post_init__(self) -> None:
        if not self.topics:
            raise ValueError('no topic; add a section [sources.kafka.topics."NAME"]')
        for name in self.client:
            if name in OWN_PROPERTIES or name.endswith("_cb"):
                raise ValueError(f"client.{name} is set by the hub and cannot be changed")
