"""What the core asks of plugins, and what it gives them.

A transport's author writes a Link per peer and awaits ``broker.serve_session(link, ...)``. It never writes
queues, timeouts, retries, drop policy, tasks, locks or metrics: those are the core's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import attrs
import trio
import trio.abc

from hub.sansio.errors import RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.publication import Position


class Publish(Protocol):
    """How a source hands over an event: at once, in O(1), whoever listens."""

    def __call__(
        self,
        channel: str,
        data: bytes,
        *,
        ts: int | None = None,
        event: str | None = None,
        kind: str | None = None,
        user: str | None = None,
        last_update_id: int | None = None,
    ) -> Position:
        """``data`` is compact JSON; ``ts`` Unix milliseconds (None: now); ``kind`` "snapshot" or "delta";
        ``user`` the owner of a private channel. Raises PublishRefused."""
        ...


# --- who clients are ---------------------------------------------------------------------------------------


class Authenticator(Protocol):
    """Tells who a client is, by its credentials."""

    async def identify(self, request: Request) -> Identity:
        """ANONYMOUS where the request has no credentials. Raises RequestRefused (40100, 40101) where they are not
        valid, (50001) where that cannot be found out now."""
        ...

    async def verify_token(self, token: str) -> Identity:
        """Who a token's bearer is. Raises RequestRefused like ``identify``."""
        ...


class SnapshotProvider(Protocol):
    """Gives the first state of a channel that the hub has not seen the beginning of."""

    async def fetch(self, url: str) -> bytes:
        """The state as compact JSON, from ``url``. Raises SnapshotUnavailable; the caller holds the clock."""
        ...


class SnapshotUnavailable(Exception):
    """The back end's fault: it did not give the state."""


# --- sources ---------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class SourceStatistics:
    """``status`` is "starting", "ok", "degraded" or "down"; ``detail`` is shown to operators as JSON."""

    status: str
    detail: Mapping[str, Any] = attrs.field(factory=dict)
    #: topic -> records
    consumed: Mapping[str, int] = attrs.field(factory=dict)
    refused: Mapping[str, int] = attrs.field(factory=dict)
    #: (topic, partition) -> records behind
    lag: Mapping[tuple[str, int], int] = attrs.field(factory=dict)


class Source(Protocol):
    """Brings events in. A plugin of the entry-point group ``hub.sources``."""

    name: ClassVar[str]
    Settings: ClassVar[type]

    async def run(
        self, publish: Publish, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Calls ``started()`` when it has caught up; runs until cancelled; yields about every millisecond."""
        ...

    def statistics(self) -> SourceStatistics: ...


# --- links -----------------------------------------------------------------------------------------------


class Link(Protocol):
    """The path to one peer. Its errors are Trio's: BrokenResourceError, ClosedResourceError, EndOfChannel."""

    #: Sent as it is every so many seconds; empty for none. The peer's answer, if any, counts as a sign of life.
    keepalive: tuple[bytes, float]
    #: Whether that does instead of the protocol's own heartbeat.
    keepalive_is_enough: bool

    async def send(self, data: bytes) -> None:
        """Writes framed messages; waits for as long as the peer takes."""
        ...

    async def receive(self) -> str | bytes:
        """The peer's next message. Raises EndOfChannel when the peer has left, ProtocolViolated when it must go.
        A link that only sends waits here until then."""
        ...

    async def aclose(self, code: int, reason: str) -> None:
        """Says goodbye where the protocol has a way to. May wait for the peer: the caller holds the clock."""
        ...


@runtime_checkable
class FastPath(Protocol):
    """A link (or a stream) that can be written to without waiting."""

    def try_send(self, data: bytes) -> int:
        """Takes what the peer's buffer has room for, and says how many bytes that was. Never waits.

        When it takes some but not all, the link is reserved for the caller, whose next ``send`` must begin
        with the rest of the message that was cut. Raises BrokenResourceError, ClosedResourceError.
        """
        ...

    async def wait_writable(self) -> None:
        """Returns when the peer's buffer has room again."""
        ...


@runtime_checkable
class Audible(Protocol):
    """A link that knows when it last heard anything of its peer."""

    #: Monotonic seconds (``trio.current_time()``).
    last_heard: float


@runtime_checkable
class Answering(Protocol):
    """A link whose peer says that it leaves, and waits for an answer."""

    async def answer_close(self) -> None:
        """Answers, after ``receive`` has raised EndOfChannel. Nothing is sent after it."""
        ...


# --- transports ------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Request:
    """The head of an HTTP request, already checked for form. Header names are lower case.

    ``peer`` is the client's address, also where trusted proxies stand in between; ``direct_peer`` that of the
    connection. A gateway's headers are there only if it may be trusted. ``identity`` is who the request's
    credentials say; where they say nothing valid, ``refusal`` says why. Only a WebSocket's handler sees such a
    request, so that it can tell the client by a close code; over HTTP it is answered before.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    peer: str
    direct_peer: str = ""
    http_version: str = "1.1"
    identity: Identity = ANONYMOUS
    refusal: RequestRefused | None = None


class Exchange(Protocol):
    """One HTTP request and its answer."""

    request: Request

    async def read_body(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge beyond ``limit`` bytes, EndOfChannel when the client has left."""
        ...

    async def respond(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answers and ends. ``content-type`` is JSON unless given."""
        ...


class StreamingExchange(Exchange, Protocol):
    """One whose answer may take its time, or never end."""

    @property
    def is_chunked(self) -> bool: ...

    async def open_stream(self, headers: Mapping[str, str], *, keepalive: tuple[bytes, float]) -> Link:
        """Begins an endless answer. What is sent on the link must carry HTTP's chunk framing where
        ``is_chunked``; so must ``keepalive``, which is the link's."""
        ...

    async def wait_disconnected(self) -> None:
        """Returns when the client has gone."""
        ...


class BodyTooLarge(Exception):
    """The client's fault: a request body beyond the limit."""


HttpHandler = Callable[[StreamingExchange], Awaitable[None]]
DirectHandler = Callable[[Exchange], Awaitable[None]]
UpgradeHandler = Callable[[Request, trio.abc.Stream], Awaitable[None]]


class Mounts(Protocol):
    """The public port, as a transport sees it."""

    def mount_http(
        self,
        method: str,
        path: str,
        handler: HttpHandler,
        *,
        is_stream: bool = False,
        is_fallback: bool = False,
        is_open: bool = False,
    ) -> None:
        """``path`` may end in ``/*``: then the handler finds the rest in ``request.path``. ``is_stream``: the
        answer may take its time, or never end, so it counts as a connection; ``is_fallback``:
        it is counted apart, because who is refused a connection is sent there. ``is_open``: the answer is the same
        for everybody, so that credentials are not looked at."""
        ...

    def mount_upgrade(self, path: str, handler: UpgradeHandler) -> None:
        """Takes over the stream of WebSocket upgrades to ``path``. The stream begins after the request's head."""
        ...


class Transport(Protocol):
    """Brings clients in. A plugin of the entry-point group ``hub.transports``."""

    name: ClassVar[str]
    Settings: ClassVar[type]

    async def serve(
        self, broker: Any, mounts: Mounts, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listens, or mounts itself on the public port; calls ``started()`` then; runs until cancelled."""
        ...
