"""What a client says: bytes in, messages out.

The guard bounds what frames announce before anything is kept of them; wsproto keeps their form. The handshake is
not its affair, nor is what the hub sends: those are a few bytes each, and shared.
"""

from __future__ import annotations

import attrs
from wsproto.extensions import Extension
from wsproto.frame_protocol import (
    CloseReason,
    FrameDecoder,
    FrameProtocol,
    Opcode,
    ParseFailed,
    RsvBits,
)

from hub.sansio.errors import CloseCode, ProtocolViolated
from hub.sansio.permessage_deflate import inflate
from hub.sansio.websocket_guard import FrameGuard


@attrs.frozen
class PeerPing:
    payload: bytes


@attrs.frozen
class PeerClose:
    """``code`` is None where the client gave none."""

    code: int | None
    reason: str


class Inbound:
    """One client's messages, of ``message_size`` bytes at most, compressed or not."""

    __slots__ = ("_frames", "_guard", "_parts")

    def __init__(self, message_size: int, *, may_be_deflated: bool) -> None:
        self._guard = FrameGuard(message_size)
        self._frames = FrameProtocol(False, [_Inflation(message_size)] if may_be_deflated else [])
        self._parts: list[str | bytes] = []

    def feed(self, data: bytes) -> None:
        """Raises ProtocolViolated."""
        self._guard.feed(data)
        self._frames.receive_bytes(data)

    def next_event(self) -> str | bytes | PeerPing | PeerClose | None:
        """None where more bytes are needed. Raises ProtocolViolated."""
        try:
            for frame in self._frames.received_frames():
                payload = frame.payload
                if isinstance(payload, tuple):
                    code, reason = payload
                    return PeerClose(None if code == CloseReason.NO_STATUS_RCVD else int(code), reason)
                if frame.opcode is Opcode.PING:
                    assert isinstance(payload, bytes)
                    return PeerPing(payload)
                if not frame.opcode.iscontrol() and self._take(payload, frame.message_finished):
                    return self._message()
        except ParseFailed as failure:
            raise ProtocolViolated(CloseCode(failure.code), str(failure)) from None
        return None

    def _take(self, part: str | bytes, is_last: bool) -> bool:
        self._parts.append(part)
        return is_last

    def _message(self) -> str | bytes:
        parts, self._parts = self._parts, []
        if isinstance(parts[0], str):
            return "".join(part for part in parts if isinstance(part, str))
        return b"".join(part for part in parts if isinstance(part, bytes))


class _Inflation(Extension):
    """permessage-deflate as wsproto's frame reader wants it. Its own (1.3.2) inflates without bound.

    A message is collected as it came, which the guard bounds, and inflated when it is whole.
    """

    name = "permessage-deflate"

    def __init__(self, message_size: int) -> None:
        self._message_size = message_size
        self._collected = bytearray()
        self._is_deflated = False
        self._is_control = False

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._is_control = opcode.iscontrol()
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_deflated = rsv.rsv1
        elif rsv.rsv1:
            return CloseReason.PROTOCOL_ERROR
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        if self._is_control or not self._is_deflated:
            return data
        self._collected += data
        return b""

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        if self._is_control or not self._is_deflated or not fin:
            return None
        collected, self._collected = self._collected, bytearray()
        return inflate(bytes(collected), self._message_size)
