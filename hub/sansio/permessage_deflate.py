"""permessage-deflate (RFC 7692): what a client and the hub agree on, and the bytes of a message.

Whatever a client offers, it is told to compress each message by itself (``client_no_context_takeover``): then
nothing is kept for it between messages. The hub's own side may keep its context or not; a message that was
compressed without is the same for every client, so it is compressed once.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import attrs

from hub.sansio.errors import CloseCode, ProtocolViolated

#: Window sizes in bits that zlib can compress with (raw deflate; RFC 7692 also knows 8).
LEAST_WINDOW, LARGEST_WINDOW = 9, 15
_WINDOWS = {str(bits): bits for bits in range(8, LARGEST_WINDOW + 1)}
#: An empty block, with which every message ends; it is not sent (section 7.2.1).
_TAIL = b"\x00\x00\xff\xff"

Parameters = Sequence[tuple[str, str | None]]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_EMPTY = re.compile(r"[ \t]*(?:,|\Z)")
_PART = re.compile(
    rf"[ \t]*(?P<name>{_TOKEN})[ \t]*"
    rf'(?:=[ \t]*(?:(?P<token>{_TOKEN})|"(?P<quoted>(?:[^"\\]|\\.)*)")[ \t]*)?'
    r"(?P<end>[;,]|\Z)"
)


# --- the handshake ----------------------------------------------------------------------------------------


@attrs.frozen
class Agreement:
    """``response`` is the value of Sec-WebSocket-Extensions. ``window`` is ours, in bits; ``keeps_context``: the
    hub may refer to earlier messages."""

    response: str
    window: int
    keeps_context: bool


@lru_cache(maxsize=64)  # clients of one kind all say the same
def agree(header: str, *, window: int, keeps_context: bool) -> Agreement | None:
    """What follows from a client's ``Sec-WebSocket-Extensions``: its first offer that can be served, with a
    window of ``window`` bits at most. None: no compression. Raises ValueError where the header is malformed."""
    for name, parameters in parse_extensions(header):
        if name == "permessage-deflate":
            agreement = _accept(parameters, window, keeps_context)
            if agreement is not None:
                return agreement
    return None


def _accept(parameters: Parameters, window: int, keeps_context: bool) -> Agreement | None:
    """None where the offer must be declined (RFC 7692, section 7.1)."""
    offered = dict(parameters)
    if len(offered) < len(parameters) or not all(_is_known(*parameter) for parameter in parameters):
        return None
    response = "permessage-deflate; client_no_context_takeover"
    if "server_no_context_takeover" in offered or not keeps_context:
        keeps_context = False
        response += "; server_no_context_takeover"
    if limit := offered.get("server_max_window_bits"):
        window = min(window, _WINDOWS[limit])
        response += f"; server_max_window_bits={window}"
    return Agreement(response, window, keeps_context) if window >= LEAST_WINDOW else None


def _is_known(name: str, value: str | None) -> bool:
    match name:
        case "server_no_context_takeover" | "client_no_context_takeover":
            return value is None
        case "server_max_window_bits":
            return value in _WINDOWS
        case "client_max_window_bits":  # a hint; we inflate whatever the client's window is
            return value is None or value in _WINDOWS
    return False


def parse_extensions(header: str) -> list[tuple[str, Parameters]]:
    """The extensions that a header names, with their parameters (RFC 6455, section 9.1). Raises ValueError."""
    extensions: list[tuple[str, list[tuple[str, str | None]]]] = []
    at, end = 0, ","
    while at < len(header) or end == ";":
        if end == "," and (empty := _EMPTY.match(header, at)):  # a list may have empty elements
            at = empty.end()
            continue
        part = _PART.match(header, at)
        if part is None:
            raise ValueError("malformed Sec-WebSocket-Extensions")
        value = _value(part)
        if end == ";":
            extensions[-1][1].append((part["name"], value))
        elif value is None:
            extensions.append((part["name"], []))
        else:
            raise ValueError("malformed Sec-WebSocket-Extensions: an extension has no value")
        at, end = part.end(), part["end"]
    return [*extensions]


def _value(part: re.Match[str]) -> str | None:
    if part["quoted"] is None:
        token: str | None = part["token"]
        return token
    value = re.sub(r"\\(.)", r"\1", part["quoted"])
    if not re.fullmatch(_TOKEN, value):
        raise ValueError("malformed Sec-WebSocket-Extensions: a quoted value must be a token")
    return value


# --- messages ---------------------------------------------------------------------------------------------


class Deflater:
    """Compresses messages, one after another. Without ``keeps_context`` each can be inflated by itself.

    It takes ``2 ** (window + 3)`` bytes, as much for the table of what was seen as for the window, and some.
    """

    __slots__ = ("_compressor", "_flush")

    def __init__(self, *, level: int, window: int, keeps_context: bool) -> None:
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, -window, window - 7)
        # A full flush forgets what came before. Making a compressor anew takes several times longer than a
        # short message does.
        self._flush = zlib.Z_SYNC_FLUSH if keeps_context else zlib.Z_FULL_FLUSH

    def deflate(self, message: bytes) -> bytes:
        """The payload of a frame for ``message``, which must not be empty."""
        compressor = self._compressor
        return (compressor.compress(message) + compressor.flush(self._flush)).removesuffix(_TAIL)


def inflate(payload: bytes, limit: int) -> bytes:
    """The message of which a client made ``payload``, without context. Raises ProtocolViolated: 1009 beyond
    ``limit`` bytes, of which no more are ever made, 1007 where it is not deflated data."""
    inflater = zlib.decompressobj(-LARGEST_WINDOW)
    try:
        message = inflater.decompress(payload + _TAIL, limit + 1)
    except zlib.error:
        raise ProtocolViolated(CloseCode.INVALID_UTF8, "not deflated data") from None
    if len(message) > limit:
        raise ProtocolViolated(CloseCode.TOO_BIG, f"a message is at most {limit} bytes")
    # A last block may end the data early (section 7.2.3.4); nothing but an empty block comes after it.
    if inflater.eof and inflater.unused_data != b"\x00" + _TAIL:
        raise ProtocolViolated(CloseCode.INVALID_UTF8, "deflated data goes on after its end")
    return message
