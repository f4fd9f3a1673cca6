"""Short requests without a server in between: for handlers that are called thousands of times a second.

An answer by way of ASGI costs about 250 microseconds, most of it dispatching; here it is one write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio

from hub.app.front.answers import answer, answer_headers, merged, raw_response
from hub.app.front.guard import Body, End, RequestGuard
from hub.app.front.stream import PeerStream
from hub.core.contracts import BodyTooLarge, DirectHandler, Request


class DirectExchange:
    """``hub.core.contracts.Exchange`` on the stream itself."""

    def __init__(
        self,
        stream: PeerStream,
        guard: RequestGuard,
        request: Request,
        response_headers: Callable[[Request], Mapping[str, str]],
    ) -> None:
        self.request = request
        self.is_answered = False
        self.is_kept_alive = request.http_version == "1.1" and "close" not in _tokens(request, "connection")
        self._stream = stream
        self._guard = guard
        self._response_headers = response_headers
        self._is_at_end = False
        self._is_continue_due = "100-continue" in _tokens(request, "expect")

    async def read_body(self, limit: int) -> bytes:
        if int(self.request.headers.get("content-length", "0")) > limit:
            raise BodyTooLarge(f"a body is at most {limit} bytes")
        body = bytearray()
        while not self._is_at_end:
            event = self._guard.next_event()
            if event is None:
                await self._receive()
            elif isinstance(event, Body):
                body += event.data
            else:
                self._is_at_end = isinstance(event, End)
            if len(body) > limit:
                raise BodyTooLarge(f"a body is at most {limit} bytes")
        return bytes(body)

    async def respond(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.is_answered = True
        fields = answer_headers(status, body, headers)
        # A body that was not read to its end cannot be told from the next request.
        if not self._is_at_end and isinstance(self._guard.next_event(), End):
            self._is_at_end = True
        self.is_kept_alive = self.is_kept_alive and self._is_at_end and fields.get("connection") != "close"
        if not self.is_kept_alive:
            fields["connection"] = "close"
        all_fields = merged(fields, self._response_headers(self.request))
        content = b"" if self.request.method == "HEAD" else body
        await self._stream.send_all(raw_response(status, content, all_fields))

    async def _receive(self) -> None:
        if self._is_continue_due and not self._guard.pending:
            self._is_continue_due = False
            await self._stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        data = await self._stream.receive_some()
        if not data:
            raise trio.EndOfChannel
        self._guard.feed(data)


def _tokens(request: Request, header: str) -> list[str]:
    return [token.strip() for token in request.headers.get(header, "").lower().split(",")]


async def serve_direct(
    stream: PeerStream,
    guard: RequestGuard,
    request: Request,
    handler: DirectHandler,
    response_headers: Callable[[Request], Mapping[str, str]],
) -> bool:
    """Serves one request; says whether the connection goes on."""
    exchange = DirectExchange(stream, guard, request, response_headers)
    await answer(exchange, handler)
    return exchange.is_answered and exchange.is_kept_alive
