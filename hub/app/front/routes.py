"""What is mounted on a port, and who may call it at all."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from functools import lru_cache
from typing import Final

from hub.app.front.guard import Refused
from hub.app.front.origins import Origins, preflight
from hub.app.front.upgrades import check_upgrade, is_websocket
from hub.core.contracts import DirectHandler, HttpHandler, Request, UpgradeHandler
from hub.sansio.errors import ErrorCode

#: Methods that change nothing, so that a page of any site may use them.
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")


class Routes:
    """Handlers by method and path. All ``find_*`` raise Refused for who may not call."""

    def __init__(self, origins: Origins, *, key_hash: str, takes_commands_of_pages: bool) -> None:
        self._origins = origins
        self._key_hash = key_hash
        self._takes_commands_of_pages = takes_commands_of_pages
        self._handlers: dict[str, dict[str, HttpHandler]] = {}
        self._direct: dict[tuple[str, str], DirectHandler] = {}
        self._upgrades: dict[str, UpgradeHandler] = {}

    def add(self, method: str, path: str, handler: HttpHandler) -> None:
        self._handlers.setdefault(path, {})[method] = handler

    def add_direct(self, method: str, path: str, handler: DirectHandler) -> None:
        self._direct[method, path] = handler

    def add_upgrade(self, path: str, handler: UpgradeHandler) -> None:
        self._upgrades[path] = handler

    def is_upgrade(self, request: Request) -> bool:
        return request.path in self._upgrades and is_websocket(request)

    def find_direct(self, request: Request) -> DirectHandler | None:
        handler = self._direct.get((request.method, request.path))
        if handler is not None:
            self._check_caller(request)
        return handler

    def find_upgrade(self, request: Request) -> UpgradeHandler | None:
        """None where nobody asks for a WebSocket. Raises Refused also where the handshake is none."""
        handler = self._upgrades.get(request.path)
        if handler is None:
            if is_websocket(request):
                self.find_handler(request)
                raise Refused(400, "no WebSocket here")
            return None
        check_upgrade(request)
        self._origins.check(request)
        return handler

    def find_handler(self, request: Request) -> HttpHandler:
        self._check_caller(request)
        if request.path in self._upgrades:  # on a connection that is kept alive
            check_upgrade(request)
        methods = self._handlers.get(request.path) or self._handlers.get(_parent(request.path))
        if methods is None:
            raise Refused(404, "no such path")
        handler = methods.get(request.method)
        if handler is None and request.method == "OPTIONS" and self._origins.are_configured:
            return preflight(sorted(methods))
        if handler is None:
            allow = ", ".join(sorted(methods))
            raise Refused(405, f"use {allow}", code=ErrorCode.INVALID_METHOD, headers={"allow": allow})
        return handler

    def _check_caller(self, request: Request) -> None:
        if self._key_hash and not _has_key(request, self._key_hash):
            headers = {"www-authenticate": "ApiKey"}
            raise Refused(401, "needs an API key", code=ErrorCode.UNAUTHENTICATED, headers=headers)
        if (
            not self._takes_commands_of_pages
            and not self._key_hash
            and _is_rebound(request.headers.get("host", ""))
        ):
            raise Refused(403, "no name of this host", code=ErrorCode.FORBIDDEN)
        if "origin" not in request.headers or request.method in _SAFE_METHODS:
            return
        # A page of any site can have the browser post to a port on this machine, and says so by an Origin.
        if not self._takes_commands_of_pages:
            raise Refused(403, "not for web pages", code=ErrorCode.FORBIDDEN)
        self._origins.check(request)


@lru_cache(maxsize=64)
def _is_rebound(host: str) -> bool:
    """Whether a browser may have come here by a name of somebody else's, which was made to mean this machine: then
    its page would read our answers as its own."""
    host = host.lower().strip()
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name in ("", "localhost") or name.endswith(".localhost"):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def _has_key(request: Request, key_hash: str) -> bool:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    digest = hashlib.sha256(key.strip().encode("latin-1")).hexdigest()
    return scheme.lower() == "apikey" and hmac.compare_digest(digest, key_hash)


def _parent(path: str) -> str:
    """``/history/a`` is found at ``/history/*``."""
    return path[: path.find("/", 1) + 1] + "*" if path.count("/") > 1 else ""
