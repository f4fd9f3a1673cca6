"""What may come in at the port: requests whose form leaves no two readings.

h11 judges; we judge what h11 lets pass. What is handed on is written anew from what was understood, so
that the server behind cannot understand anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

import attrs
import h11

from hub.app.front.peers import Peer
from hub.core.contracts import Request
from hub.sansio.errors import ErrorCode

_CONTENT_LENGTH = re.compile(rb"^content-length[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_TRANSFER_ENCODING = re.compile(rb"^transfer-encoding[ \t]*:", re.IGNORECASE | re.MULTILINE)
#: The beginning of a text of h11's, up to where it quotes.
_OWN_WORDS = re.compile(r"[A-Za-z][A-Za-z -]*?(?=$|[^A-Za-z -]| b?['\"]| bytearray)")
#: What a server would act upon by changing the protocol; ours are decided before.
_HOP_BY_HOP = frozenset({"upgrade", "http2-settings"})


class Refused(Exception):
    """The client's fault: a request that is answered with an error. The connection ends with it."""

    def __init__(
        self,
        status: int,
        msg: str,
        *,
        code: ErrorCode = ErrorCode.INVALID_REQUEST,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(msg)
        self.status = HTTPStatus(status)
        self.msg = msg
        self.code = code
        self.headers = headers or {}


@attrs.frozen
class Head:
    """A request's head, as it was understood and as it is handed on."""

    request: Request
    clean: bytes
    is_chunked: bool


@attrs.frozen
class Body:
    """A part of a request's body."""

    data: bytes


class End:
    """The end of a request."""


class RequestGuard:
    """Reads requests from the bytes of one connection: ``feed`` takes bytes, ``next_event`` gives what they say."""

    def __init__(self, *, peer: Peer, max_head: int) -> None:
        self._peer = peer
        self._not_handed_on = frozenset(name.encode() for name in _HOP_BY_HOP | peer.ignored_headers)
        self._max_head = max_head
        self._connection = self._new_connection()
        self._received = b""
        self._is_in_request = False

    @property
    def is_waiting_for_head(self) -> bool:
        """Whether a head has begun and is not complete."""
        return not self._is_in_request and bool(self._received)

    @property
    def pending(self) -> bytes:
        """Bytes that nobody has asked for yet."""
        return self._connection.trailing_data[0]

    def feed(self, data: bytes) -> None:
        self._connection.receive_data(data)
        if not self._is_in_request:
            self._received += data

    def next_event(self) -> Head | Body | End | None:
        """None where more bytes are needed. Raises Refused."""
        try:
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise _refusal(error) from None
        if isinstance(event, h11.Request):
            return self._take_head(event)
        if isinstance(event, h11.Data):
            return Body(bytes(event.data))
        if isinstance(event, h11.EndOfMessage):
            self._end_request()
            return End()
        if not self._is_in_request:
            self._check_size(self._received)
        return None

    def _new_connection(self) -> h11.Connection:
        return h11.Connection(h11.SERVER, max_incomplete_event_size=self._max_head)

    def _end_request(self) -> None:
        rest = self._connection.trailing_data[0]
        # A connection of h11 covers one exchange and would wait for our answer, which we do not give here.
        self._connection = self._new_connection()
        self._is_in_request = False
        self._received = b""
        if rest:
            self.feed(rest)

    def _take_head(self, event: h11.Request) -> Head:
        rest = self._connection.trailing_data[0]
        raw = self._received[: len(self._received) - len(rest)]
        self._check_size(raw)
        lengths = sum(value.count(b",") + 1 for value in _CONTENT_LENGTH.findall(raw))
        encodings = len(_TRANSFER_ENCODING.findall(raw))
        if lengths > 1 or encodings > 1 or (lengths and encodings):
            raise Refused(400, "more than one of Content-Length and Transfer-Encoding")
        if event.http_version not in (b"1.1", b"1.0"):
            raise Refused(505, "this port speaks HTTP/1.1")
        self._is_in_request = True
        headers = [(name, value) for name, value in event.headers if name not in self._not_handed_on]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        clean = b"%b %b HTTP/%b\r\n%b\r\n" % (event.method, event.target, event.http_version, lines)
        return Head(_request(event, self._peer), clean, is_chunked=bool(encodings))

    def _check_size(self, head: bytes) -> None:
        if len(head) > self._max_head:
            raise Refused(431, f"a request's head is at most {self._max_head} bytes")


def _refusal(error: h11.RemoteProtocolError) -> Refused:
    status = error.error_status_hint
    if status == 431:
        return Refused(431, "the request's head is too large")
    # h11 quotes what it did not like, and that may be a header with a token; its own words come before.
    words = _OWN_WORDS.match(str(error))
    what = f": {words[0].strip()}" if words is not None else ""
    return Refused(status if 400 <= status < 600 else 400, f"malformed request{what}")


def _request(event: h11.Request, peer: Peer) -> Request:
    target = event.target.decode("latin-1")
    try:
        parts = urlsplit(target if target.startswith("/") is False else "//host" + target)
    except ValueError:
        raise Refused(400, "malformed request target") from None
    headers: dict[str, str] = {}
    for name, value in event.headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    for key in peer.ignored_headers:
        headers.pop(key, None)
    return Request(
        method=event.method.decode("latin-1").upper(),
        path=unquote(parts.path, errors="replace"),
        query=parts.query,
        headers=headers,
        peer=peer.client(headers) if peer.is_proxy else peer.address,
        direct_peer=peer.address,
        http_version=event.http_version.decode("latin-1"),
    )
