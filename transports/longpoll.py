"""Plain HTTP: ``/poll``, ``/snapshot/{channel}`` and ``/history/{channel}`` (live-envelope.md, "HTTP").

A poll is a read from the cursor that comes with the request. Nothing of a client is kept between two polls.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import ClassVar

import attrs
import msgspec
import trio

from hub.core.broker import Broker
from hub.core.channel import Channel
from hub.core.contracts import Mounts, StreamingExchange
from hub.core.http_query import ChannelQuery, parse_channel_query, parse_fields, parse_format
from hub.core.reading import Reading, read_channels
from hub.sansio.commands import seen_from_cursor
from hub.sansio.cursor import decode_cursor, encode_cursor
from hub.sansio.encodings import Bare, Encoding
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import Identity
from hub.sansio.live import LiveEnvelope
from hub.sansio.options import Seconds, Size, option
from hub.sansio.stream_v2 import StreamV2Json

_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


@attrs.frozen(kw_only=True)
class LongPollSettings:
    wait: Seconds = option(
        Seconds(25.0), doc="how long a poll waits for news where it does not say", at_least=0.0
    )
    max_wait: Seconds = option(Seconds(60.0), doc="how long a poll may ask to wait", at_least=0.0)
    max_events: int = option(1000, doc="events in one answer; the next poll has the rest", at_least=1)
    max_bytes: Size = option(Size(1024 * 1024), doc="bytes of events in one answer", at_least=1024)


class LongPollTransport:
    """Mounts the three paths on the public port."""

    name: ClassVar[str] = "longpoll"
    Settings: ClassVar[type] = LongPollSettings

    def __init__(self, settings: LongPollSettings) -> None:
        self._settings = settings
        self._encodings = {
            protocol.name: Encoding(protocol, Bare()) for protocol in (LiveEnvelope(), StreamV2Json())
        }

    async def serve(
        self, broker: Broker, mounts: Mounts, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async def poll(exchange: StreamingExchange) -> None:
            await self._poll(broker, exchange)

        async def snapshot(exchange: StreamingExchange) -> None:
            await self._snapshot(broker, exchange)

        async def history(exchange: StreamingExchange) -> None:
            await self._history(broker, exchange)

        mounts.mount_http("GET", "/poll", poll, is_stream=True, is_fallback=True)
        mounts.mount_http("GET", "/snapshot/*", snapshot)
        mounts.mount_http("GET", "/history/*", history)
        task_status.started()
        await trio.sleep_forever()

    # --- /poll --------------------------------------------------------------------------------------------

    async def _poll(self, broker: Broker, exchange: StreamingExchange) -> None:
        query = parse_channel_query(exchange.request, broker)
        wait = _parse_wait(query.fields.get("wait"), self._settings)
        identity = exchange.request.identity
        await broker.prepare(query.channels, identity)
        reading = self._read(broker, identity, query)
        if reading.is_empty and query.is_resumed and wait > 0:
            reading = await self._wait_for_news(broker, exchange, query, reading, wait)
        body = b'{"cursor":%b,"events":[%b]}' % (
            msgspec.json.encode(encode_cursor(reading.positions.items())),
            b",".join(reading.messages),
        )
        await _respond(exchange, body, cache="no-store" if reading.messages else "no-cache")

    def _read(self, broker: Broker, identity: Identity, query: ChannelQuery) -> Reading:
        return read_channels(
            broker,
            identity,
            query.channels,
            query.seen,
            self._encodings[query.format],
            max_events=self._settings.max_events,
            max_bytes=self._settings.max_bytes,
        )

    async def _wait_for_news(
        self, broker: Broker, exchange: StreamingExchange, query: ChannelQuery, reading: Reading, wait: float
    ) -> Reading:
        # What was seen of channels that the cursor did not know is settled by now, or their news would be lost.
        query = attrs.evolve(query, seen=seen_from_cursor(reading.positions))
        identity = exchange.request.identity
        has_left = False
        refusal: RequestRefused | None = None

        async def read() -> None:
            nonlocal reading, refusal
            try:
                async with broker.waiting_for_news(query.channels, identity) as news:
                    reading = self._read(broker, identity, query)
                    while reading.is_empty and not broker.draining.is_set():
                        await news.wait()
                        reading = self._read(broker, identity, query)
            except RequestRefused as error:
                refusal = error
            nursery.cancel_scope.cancel()

        async def leave() -> None:
            nonlocal has_left
            await exchange.wait_disconnected()
            has_left = True
            nursery.cancel_scope.cancel()

        with trio.move_on_after(wait):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leave)
                nursery.start_soon(read)
        if has_left:
            raise trio.EndOfChannel
        if refusal is not None:
            raise refusal
        return reading

    # --- /snapshot ----------------------------------------------------------------------------------------

    async def _snapshot(self, broker: Broker, exchange: StreamingExchange) -> None:
        parse_fields(exchange.request)
        name = exchange.request.path.removeprefix("/snapshot/")
        identity = exchange.request.identity
        await broker.prepare((name,), identity)
        channel = broker.open(name, identity)
        try:
            if not channel.has_snapshots:
                raise RequestRefused(
                    ErrorCode.UNAVAILABLE_CHANNEL, "this channel has no snapshots", channel=name
                )
            state, position = channel.state, channel.log.position
            body = b'{"channel":%b,"seq":%d,"epoch":%b,"ts":%d,"data":%b,"cursor":%b}' % (
                msgspec.json.encode(name),
                position.seq,
                msgspec.json.encode(position.epoch),
                broker.now_ms() if state is None else state.ts,
                b"null" if state is None else state.data,
                msgspec.json.encode(encode_cursor([(name, position)])),
            )
        finally:
            broker.registry.leave_unused(channel)
        await _respond(exchange, body, cache=_cache_of(channel))

    # --- /history -----------------------------------------------------------------------------------------

    async def _history(self, broker: Broker, exchange: StreamingExchange) -> None:
        fields = parse_fields(exchange.request)
        encoding = self._encodings[parse_format(fields)]
        name = exchange.request.path.removeprefix("/history/")
        limit = min(_parse_number("limit", fields.get("limit"), 100, minimum=1), self._settings.max_events)
        channel = broker.open(name, exchange.request.identity)
        try:
            log = channel.log
            after = _parse_after(fields.get("after"), name, log.epoch, broker.limits.cursor_size)
            after = max(log.first_seq - 1, min(after, log.head_seq))
            messages, last = channel.messages(encoding, after, limit, max_bytes=self._settings.max_bytes)
            body = b'{"channel":%b,"epoch":%b,"firstSeq":%d,"seq":%d,"events":[%b],"cursor":%b,"more":%b}' % (
                msgspec.json.encode(name),
                msgspec.json.encode(log.epoch),
                log.first_seq,
                log.head_seq,
                b",".join(messages),
                msgspec.json.encode(encode_cursor([(name, attrs.evolve(log.position, seq=last))])),
                b"true" if last < log.head_seq else b"false",
            )
        finally:
            broker.registry.leave_unused(channel)
        await _respond(exchange, body, cache="no-cache")


def _cache_of(channel: Channel) -> str:
    """A state is good for as long as the channel's pace, but at least a second; another user's is nobody's."""
    if not channel.is_open_to_anyone:
        return "private, no-cache"
    return f"max-age={max(1, int(channel.policy.pace))}"


async def _respond(exchange: StreamingExchange, body: bytes, *, cache: str) -> None:
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"etag": etag, "cache-control": cache}
    known = {
        tag.strip().removeprefix("W/") for tag in exchange.request.headers.get("if-none-match", "").split(",")
    }
    if etag in known or "*" in known:
        await exchange.respond(304, b"", headers)
    else:
        await exchange.respond(200, body, headers)


def _parse_wait(text: str | None, settings: LongPollSettings) -> float:
    if text is None:
        return settings.wait
    wait = float(text) if _DECIMAL.fullmatch(text) else math.inf
    if wait > settings.max_wait:
        raise RequestRefused(
            ErrorCode.INVALID_REQUEST, f"wait must be a number of seconds from 0 to {settings.max_wait:g}"
        )
    return wait


def _parse_number(name: str, text: str | None, default: int, *, minimum: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) >= minimum):
        raise RequestRefused(ErrorCode.INVALID_REQUEST, f"{name} must be an integer from {minimum}")
    return int(text)


def _parse_after(text: str | None, channel: str, epoch: str, cursor_size: int) -> int:
    """``after`` is a seq of the current epoch, or a cursor."""
    if text is None or text.isdigit():
        return _parse_number("after", text, 0, minimum=0)
    position = decode_cursor(text, max_size=cursor_size).get(channel)
    return position.seq if position is not None and position.epoch == epoch else 0
