"""``POST /publish``: events over HTTP, one or many, with idempotency keys."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import attrs
import msgspec
import trio

from hub.core.contracts import Exchange, Publish
from hub.sansio.errors import HubError, PublishRefused, RequestRefused
from hub.sansio.publication import Position
from hub.sansio.publish_request import PublishItem, find_channel, parse_item, split_body

#: Items after which others have their turn: about a millisecond of work.
STRIDE = 64


@attrs.frozen(kw_only=True)
class PublishSettings:
    body_size: int = 1024 * 1024
    body_timeout: float = 10.0
    idempotency_keys: int = 100_000
    idempotency_age: float = 300.0


#: Channel, its owner, and the publisher's own key.
IdempotencyKey = tuple[str, str | None, str]


class IdempotencyKeys:
    """Remembers what was published under a key: the newest ``limit`` keys, for ``age`` seconds."""

    def __init__(self, limit: int, age: float) -> None:
        self._limit = limit
        self._age = age
        self._known: OrderedDict[IdempotencyKey, tuple[float, Position]] = OrderedDict()

    def find(self, key: IdempotencyKey, now: float) -> Position | None:
        self._forget(now)
        known = self._known.get(key)
        return None if known is None else known[1]

    def remember(self, key: IdempotencyKey, position: Position, now: float) -> None:
        self._known[key] = (now, position)
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._known:
            since, _ = next(iter(self._known.values()))
            if len(self._known) <= self._limit and now - since <= self._age:
                return
            self._known.popitem(last=False)


class PublishHandler:
    """Answers ``{"results": [...]}``, one for each item in order; a bad item does not stop the others."""

    def __init__(self, publish: Publish, settings: PublishSettings, now: Callable[[], float]) -> None:
        self._publish = publish
        self._settings = settings
        self._now = now
        self._keys = IdempotencyKeys(settings.idempotency_keys, settings.idempotency_age)

    async def handle(self, exchange: Exchange) -> None:
        with trio.move_on_after(self._settings.body_timeout) as patience:
            body = await exchange.read_body(self._settings.body_size)
        if patience.cancelled_caught:
            await exchange.respond(
                408, b'{"code":40005,"msg":"the body took too long"}', {"connection": "close"}
            )
            return
        is_ndjson = (
            exchange.request.headers.get("content-type", "").lower().startswith("application/x-ndjson")
        )
        try:
            items = split_body(body, is_ndjson=is_ndjson)
        except PublishRefused as refused:
            raise RequestRefused(refused.code, refused.msg) from None
        results = []
        for index, raw in enumerate(items, 1):
            results.append(self.publish_item(raw))
            if index % STRIDE == 0:
                await trio.lowlevel.checkpoint()
        await exchange.respond(200, b'{"results":[%b]}' % b",".join(results))

    def publish_item(self, raw: bytes) -> bytes:
        """Publishes one item; the result as JSON."""
        channel: str | None = None
        try:
            item, data = parse_item(raw)
            channel = item.channel
            position = self._publish_once(item, data)
        except HubError as error:
            assert isinstance(error, PublishRefused)
            refusal = {"code": int(error.code), "msg": error.msg}
            channel = find_channel(raw) if channel is None else channel
            return msgspec.json.encode(refusal if channel is None else {"channel": channel, **refusal})
        return b'{"channel":"%b","seq":%d,"epoch":"%b"}' % (
            item.channel.encode(),
            position.seq,
            position.epoch.encode(),
        )

    def _publish_once(self, item: PublishItem, data: bytes) -> Position:
        key = None if item.id is None else (item.channel, item.user, item.id)
        if key is not None and (known := self._keys.find(key, self._now())) is not None:
            return known
        position = self._publish(
            item.channel,
            data,
            ts=item.ts,
            event=item.event,
            kind=item.type,
            user=item.user,
            last_update_id=item.last_update_id,
        )
        if key is not None:
            self._keys.remember(key, position, self._now())
        return position
