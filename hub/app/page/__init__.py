"""The page at ``/``: what is live on this hub, for a person with a browser."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hub.app.page.listing import Listing
from hub.core.broker import Broker
from hub.core.contracts import Exchange, Mounts

_FOLDER = Path(__file__).parent
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: The page is all our own, loads nothing from elsewhere and sends nothing there; a token may be typed into it.
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
#: Channels in one answer of ``/channels``.
MAX_LISTED = 500


def mount_page(mounts: Mounts, broker: Broker) -> None:
    """Mounts ``/``, its files, and ``/channels``, which lists the channels that there are for who asks."""
    for file in sorted(_FOLDER.iterdir()):
        if (kind := _TYPES.get(file.suffix)) is not None:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            _mount_file(mounts, path, file.read_bytes(), {**_HEADERS, "content-type": kind})

    listing = Listing(broker)

    async def channels(exchange: Exchange) -> None:
        identity = exchange.request.identity
        rows = await listing.rows(identity)
        body = {"user": identity.user, "total": len(rows), "channels": rows[:MAX_LISTED]}
        await exchange.respond(200, msgspec.json.encode(body), {"cache-control": "no-store"})

    mounts.mount_http("GET", "/channels", channels)


def _mount_file(mounts: Mounts, path: str, content: bytes, headers: dict[str, str]) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(200, content, headers)

    mounts.mount_http("GET", path, answer, is_open=True)
    mounts.mount_http("HEAD", path, answer, is_open=True)
