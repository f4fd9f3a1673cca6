"""Health, metrics and what there is to see: the rest of the operators' port (operations.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio
from prometheus_client import CollectorRegistry

from hub.app import metrics
from hub.core.broker import Broker
from hub.core.contracts import Exchange, Mounts, SourceStatistics
from hub.core.http_query import parse_fields
from hub.core.session import Farewell, Session
from hub.sansio.errors import CloseCode, ErrorCode, RequestRefused
from hub.sansio.options import parse_seconds

#: Rows in one answer: more than a person reads, and few enough to be made at once.
MAX_ROWS = 1000


class AdminPages:
    """Mounts ``/healthz``, ``/readyz``, ``/metrics`` and ``/admin/*``."""

    def __init__(
        self,
        broker: Broker,
        sources: Callable[[], Mapping[str, SourceStatistics]],
        is_ready: Callable[[], bool],
        leave: trio.Event,
        start_drain: Callable[[float | None], None],
        registry: CollectorRegistry,
        audit: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._broker = broker
        self._sources = sources
        self._is_ready = is_ready
        self._leave = leave
        self._start_drain = start_drain
        self._registry = registry
        self._audit = audit

    def mount(self, mounts: Mounts) -> None:
        for method, path, handler in (
            ("GET", "/healthz", self.healthz),
            ("GET", "/readyz", self.readyz),
            ("GET", "/metrics", self.metrics),
            ("GET", "/admin/connections", self.connections),
            ("GET", "/admin/channels", self.channels),
            ("GET", "/admin/nodes", self.nodes),
            ("POST", "/admin/disconnect", self.disconnect),
            ("POST", "/admin/drain", self.drain),
        ):
            mounts.mount_http(method, path, handler)

    async def healthz(self, exchange: Exchange) -> None:
        await _respond(exchange, {"status": "ok", "node": self._broker.node})

    async def readyz(self, exchange: Exchange) -> None:
        is_ready = self._is_ready()
        sources = {
            name: {"status": source.status, **source.detail} for name, source in self._sources().items()
        }
        draining = self._leave.is_set()
        status = "draining" if draining else "ready" if is_ready else "starting"
        body = {"status": status, "node": self._broker.node, "sources": sources}
        await _respond(exchange, body, status=200 if is_ready and not draining else 503)

    async def metrics(self, exchange: Exchange) -> None:
        await exchange.respond(200, metrics.render(self._registry), {"content-type": metrics.CONTENT_TYPE})

    async def connections(self, exchange: Exchange) -> None:
        sessions = list(self._broker.sessions.values())
        rows = [self._describe(session) for session in sessions[:MAX_ROWS]]
        await _respond(exchange, {"total": len(sessions), "connections": rows})

    def _describe(self, session: Session) -> dict[str, Any]:
        return {
            "connId": session.connection_id,
            "userId": session.identity.user,
            "tier": session.identity.tier,
            "transport": session.transport,
            "channels": {name: sub.position for name, sub in session.subscriptions.items()},
            "blocked": session.writer.is_pumping,
        }

    async def channels(self, exchange: Exchange) -> None:
        registry = self._broker.registry
        rows = [
            {
                "channel": channel.name,
                "userId": channel.user,
                "seq": channel.log.head_seq,
                "firstSeq": channel.log.first_seq,
                "epoch": channel.log.epoch,
                "bytes": channel.log.size,
                "subscriptions": len(channel.subscriptions),
            }
            for channel, _ in zip(registry, range(MAX_ROWS), strict=False)
        ]
        await _respond(exchange, {"total": len(registry), "channels": rows})

    async def nodes(self, exchange: Exchange) -> None:
        # Nodes share nothing but their source, so a node knows of itself alone.
        await _respond(exchange, {"nodes": [{"node": self._broker.node, "self": True}]})

    async def disconnect(self, exchange: Exchange) -> None:
        fields = parse_fields(exchange.request)
        user, connection = fields.get("userId"), fields.get("connId")
        if not user and not connection:
            raise RequestRefused(ErrorCode.INVALID_REQUEST, "name userId or connId")
        reason, code = fields.get("reason", "disconnected"), _parse_code(fields.get("code"))
        count = self._broker.disconnect(
            Farewell(code, reason), user=user or None, connection_id=connection or None
        )
        self._audit("admin disconnect", {"userId": user, "connId": connection, "sessions": count})
        await _respond(exchange, {"disconnected": count})

    async def drain(self, exchange: Exchange) -> None:
        fields = parse_fields(exchange.request)
        maintenance = _parse_maintenance(fields.get("maintenance"))
        self._audit("admin drain", {} if maintenance is None else {"maintenance": maintenance})
        await _respond(exchange, {"status": "draining"}, status=202)
        self._start_drain(maintenance)


def _parse_code(text: str | None) -> int:
    if text is None:
        return CloseCode.UNAUTHENTICATED
    if not (text.isascii() and text.isdigit() and 4000 <= int(text[:5]) <= 4999):
        raise RequestRefused(ErrorCode.INVALID_REQUEST, "code must be a close code from 4000 to 4999")
    return int(text)


def _parse_maintenance(text: str | None) -> float | None:
    """For how long clients are to stay away, in seconds."""
    if text is None:
        return None
    try:
        seconds = parse_seconds(float(text) if re.fullmatch(r"[0-9.]+", text) else text)
    except ValueError as error:
        raise RequestRefused(ErrorCode.INVALID_REQUEST, f"maintenance: {error}") from None
    return float(seconds)


async def _respond(exchange: Exchange, body: Mapping[str, Any], *, status: int = 200) -> None:
    await exchange.respond(status, msgspec.json.encode(body), {"cache-control": "no-store"})
