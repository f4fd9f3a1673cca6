"""The page at ``/``: what is live on this hub, for a person with a browser."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hub.core.broker import Broker
from hub.core.channel import Channel
from hub.core.contracts import Exchange, Mounts
from hub.sansio.errors import RequestRefused
from hub.sansio.identity import Identity

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
#: The best levels of a book that are offered beside it (channels.md); others are listed once somebody has them.
_DEPTHS = (5, 10, 20)


def mount_page(mounts: Mounts, broker: Broker) -> None:
    """Mounts ``/``, its files, and ``/channels``, which lists the channels that there are for who asks."""
    for file in sorted(_FOLDER.iterdir()):
        if (kind := _TYPES.get(file.suffix)) is not None:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            _mount_file(mounts, path, file.read_bytes(), {**_HEADERS, "content-type": kind})

    async def channels(exchange: Exchange) -> None:
        identity = exchange.request.identity
        listed = list_channels(broker, identity)
        body = msgspec.json.encode(
            {
                "user": identity.user,
                "total": len(listed),
                "channels": [_describe(channel) for channel in listed[:MAX_LISTED]],
            }
        )
        await exchange.respond(200, body, {"cache-control": "no-store"})

    mounts.mount_http("GET", "/channels", channels)


def list_channels(broker: Broker, identity: Identity) -> list[Channel]:
    """The channels that exist and that ``identity`` may have, by name, without the parts of those that hold the
    same events; and those that the hub would derive from them, which exist once somebody asks for them."""
    channels = [channel for channel in broker.registry if _may_have(broker, identity, channel)]
    known = {channel.name for channel in channels}
    channels = [channel for channel in channels if channel.whole not in known]
    for name in {name for channel in channels for name in _variants(channel)} - known:
        try:
            if broker.registry.check(name, identity).policy.derived_from:
                channels.append(broker.open(name, identity))
        except RequestRefused:  # no namespace has it, or it is not for everyone who may have the book
            continue
    return sorted(channels, key=lambda channel: channel.name)


def _may_have(broker: Broker, identity: Identity, channel: Channel) -> bool:
    if channel.is_open_to_anyone:
        return True
    if identity.user is None or channel.user not in (None, identity.user):
        return False
    try:
        broker.registry.check(channel.name, identity)
    except RequestRefused:
        return False
    return True


def _variants(channel: Channel) -> list[str]:
    """The names that channels derived from a book have (stream-v2.md, "Channel names")."""
    if channel.policy.snapshot != "book" or "@" not in channel.name:
        return []
    kind, _, market = channel.name.partition("@")
    return [f"{kind}.{depth}@{market}" for depth in _DEPTHS]


def _describe(channel: Channel) -> dict[str, object]:
    """``snapshot`` says what the channel's state is, and with that how its events are to be read."""
    return {
        "channel": channel.name,
        "seq": channel.log.head_seq,
        "epoch": channel.log.epoch,
        "snapshot": channel.policy.snapshot,
        "private": channel.user is not None,
    }


def _mount_file(mounts: Mounts, path: str, content: bytes, headers: dict[str, str]) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(200, content, headers)

    mounts.mount_http("GET", path, answer)
    mounts.mount_http("HEAD", path, answer)
