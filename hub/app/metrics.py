"""The broker's and the sources' statistics as Prometheus metrics (operations.md, "Metrics").

prometheus_client is known here alone: nothing is counted twice, the figures are read when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from hub.app.front.port import PortStatistics
from hub.auth import AuthStatistics
from hub.core.contracts import SourceStatistics
from hub.core.statistics import BrokerStatistics, Counts, Histogram
from hub.providers import ProviderStatistics

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class HubCollector:
    """Makes metric families of what the hub counted. ``node`` labels all of them."""

    def __init__(
        self,
        node: str,
        broker: Callable[[], BrokerStatistics],
        sources: Callable[[], Mapping[str, SourceStatistics]],
        public: Callable[[], PortStatistics],
        auth: Callable[[], AuthStatistics],
        provider: Callable[[], ProviderStatistics | None],
        transports: Iterable[str],
    ) -> None:
        # Named from the start, so that "no connections" is 0 and not the absence of a figure.
        self._nobody = {("anonymous", transport): 0 for transport in transports}
        self._node = node
        self._broker = broker
        self._sources = sources
        self._public = public
        self._auth = auth
        self._provider = provider

    def collect(self) -> Iterator[Metric]:
        statistics = self._broker()
        yield from self._now(statistics)
        yield from self._totals(statistics.counts)
        yield from self._limits(statistics.counts)
        yield from self._users(statistics)
        yield from self._elsewhere()
        yield from self._sources_now()

    def _now(self, now: BrokerStatistics) -> Iterator[Metric]:
        yield self._gauge(
            "ws_connections_active",
            "Open connections",
            ("tier", "transport"),
            {**self._nobody, **now.sessions},
        )
        yield self._gauge("ws_subscriptions_active", "Subscriptions", ("channel_type",), now.subscriptions)
        yield self._gauge("hub_channels", "Channels that exist", (), {(): now.channels})
        yield self._gauge(
            "hub_buffered_bytes", "Bytes in all channels' buffers", (), {(): now.buffered_bytes}
        )
        yield self._gauge(
            "hub_buffered_publications",
            "Events in all channels' buffers",
            (),
            {(): now.buffered_publications},
        )
        yield self._gauge("hub_book_bytes", "Memory of all order books", (), {(): now.book_bytes})
        yield self._counter(
            "hub_books_evicted", "Order books let go of to save memory", (), {(): now.books_evicted}
        )
        yield self._counter(
            "hub_book_levels_cut", "Levels too far from the best to be kept", (), {(): now.book_levels_cut}
        )
        yield self._gauge("hub_polls_waiting", "Long-polls that wait for news", (), {(): now.polls})

    def _totals(self, counts: Counts) -> Iterator[Metric]:
        yield self._counter(
            "ws_connections",
            "Connections that ended",
            ("tier", "transport", "close_code"),
            counts.connections,
        )
        yield self._histogram(
            "ws_connection_duration_seconds",
            "How long connections lasted",
            ("tier", "transport"),
            counts.connection_duration,
        )
        yield self._counter(
            "ws_messages_sent", "Messages to clients", ("channel_type", "msg_type", "transport"), counts.sent
        )
        yield self._counter(
            "ws_messages_sent_bytes", "Bytes to clients", ("channel_type", "transport"), counts.sent_bytes
        )
        yield self._counter("ws_messages_received", "Commands of clients", ("method",), counts.received)
        yield self._histogram(
            "ws_message_latency_seconds",
            "From the source's timestamp to the kernel",
            ("channel_type", "transport"),
            counts.latency,
        )
        yield self._histogram(
            "ws_snapshot_duration_seconds",
            "From a subscribe to its snapshot in the kernel",
            ("channel_type",),
            {(kind,): histogram for kind, histogram in counts.snapshot_duration.items()},
        )
        yield self._counter(
            "ws_messages_dropped", "Events that slow clients lost", ("reason",), counts.dropped
        )
        yield self._counter(
            "ws_subscribe_requests", "Subscribe requests", ("status",), counts.subscribe_requests
        )
        yield self._counter(
            "ws_slow_consumer_warnings", "Warnings to slow clients", (), {(): counts.slow_warnings}
        )
        yield self._counter(
            "ws_slow_consumer_disconnects", "Slow clients sent away", (), {(): counts.slow_disconnects}
        )
        yield self._counter("hub_published", "Events published", (), {(): counts.published})
        yield self._counter(
            "hub_published_bytes", "Bytes of payload published", (), {(): counts.published_bytes}
        )
        yield self._counter(
            "hub_publish_refused", "Events no channel could take", (), {(): counts.publish_refused}
        )

        yield self._counter(
            "hub_conflated",
            "Events that a newer one replaced at a channel's pace",
            (),
            {(): counts.conflated},
        )

    def _limits(self, counts: Counts) -> Iterator[Metric]:
        yield self._counter(
            "ws_rate_limit_exceeded",
            "Requests and connections beyond a limit",
            ("limit_type",),
            {**counts.rate_limited, **self._public().refused},
        )
        yield self._counter(
            "token_consume_fail", "Tickets that were refused", ("reason",), self._auth().tickets.failed
        )

    def _elsewhere(self) -> Iterator[Metric]:
        """What the hub has from others, keys and first states; no figures where it is not configured to."""
        auth, provider = self._auth(), self._provider()
        jwks = auth.jwks
        keys = {} if auth.api_keys is None else {(): auth.api_keys}
        yield self._gauge("hub_api_keys", "API keys that are known", (), keys)
        used = {} if jwks is None else {(): jwks.keys}
        yield self._gauge("hub_jwks_keys", "Keys of the issuer in use", (), used)
        failing = {} if jwks is None else {(): int(jwks.is_failing)}
        yield self._gauge("hub_jwks_failing", "1 while the issuer's keys cannot be had", (), failing)
        fetches = {} if jwks is None else {(): jwks.fetches}
        yield self._counter("hub_jwks_fetches", "How often the issuer's keys were asked for", (), fetches)
        outcomes = {} if provider is None else {"answered": provider.answered, **provider.failed}
        yield self._counter("hub_first_states", "Answers of back ends", ("outcome",), outcomes)
        retried = {} if provider is None else {(): provider.retried}
        yield self._counter("hub_first_state_retries", "Repeated questions to back ends", (), retried)
        waiting = {} if provider is None else {(): provider.waiting}
        yield self._gauge("hub_first_states_waiting", "Questions to back ends under way", (), waiting)

    def _users(self, now: BrokerStatistics) -> Iterator[Metric]:
        """Market makers, one by one: they are few, and each matters."""
        users = now.market_makers
        yield self._gauge(
            "ws_user_connections",
            "Open connections of a market maker",
            ("user_id",),
            {(user,): counts.connections for user, counts in users.items()},
        )
        yield self._counter(
            "ws_user_messages_sent",
            "Events to a market maker",
            ("user_id",),
            {(user,): counts.sent for user, counts in users.items()},
        )
        yield self._counter(
            "ws_user_messages_dropped",
            "Events that a market maker lost by slowness",
            ("user_id",),
            {(user,): counts.dropped for user, counts in users.items()},
        )

    def _sources_now(self) -> Iterator[Metric]:
        consumed: dict[tuple[str, ...], float] = {}
        refused: dict[tuple[str, ...], float] = {}
        lag: dict[tuple[str, ...], float] = {}
        up: dict[tuple[str, ...], float] = {}
        for name, source in self._sources().items():
            up[name, source.status] = 1
            consumed.update({(topic,): count for topic, count in source.consumed.items()})
            refused.update({(topic,): count for topic, count in source.refused.items()})
            lag.update({(topic, str(partition)): count for (topic, partition), count in source.lag.items()})
        yield self._gauge("hub_source_status", "1 for the status that a source has", ("source", "status"), up)
        yield self._counter("ws_kafka_messages_consumed", "Records read", ("topic",), consumed)
        yield self._counter(
            "hub_source_records_refused", "Records that could not be read", ("topic",), refused
        )
        yield self._gauge("ws_kafka_consumer_lag", "Records still to read", ("topic", "partition"), lag)

    def _gauge(self, name: str, doc: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
        family = GaugeMetricFamily(name, doc, labels=("node", *labels))
        return self._fill(family, values)

    def _counter(self, name: str, doc: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
        family = CounterMetricFamily(name, doc, labels=("node", *labels))
        return self._fill(family, values)

    def _fill(self, family: Any, values: Mapping[Any, float]) -> Metric:
        for key, value in values.items():
            labels = key if isinstance(key, tuple) else (key,)
            family.add_metric([self._node, *(str(_plain(label)) for label in labels)], value)
        metric: Metric = family
        return metric

    def _histogram(
        self, name: str, doc: str, labels: tuple[str, ...], values: Mapping[Any, Histogram]
    ) -> Metric:
        family = HistogramMetricFamily(name, doc, labels=("node", *labels))
        for key, histogram in values.items():
            family.add_metric([self._node, *key], _buckets(histogram), sum_value=histogram.total)
        return family


def _plain(label: Any) -> Any:
    return int(label) if isinstance(label, int) else label


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


def make_registry(collector: HubCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """The text exposition format, version 0.0.4."""
    return generate_latest(registry)
