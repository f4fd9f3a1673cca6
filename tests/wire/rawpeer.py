"""A client made of bytes: says what no library would say, and reads exactly what came."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs

#: For anything that must come: generous, since nothing here measures time.
PATIENCE = 10.0

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


@attrs.frozen
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class RawPeer:
    """A TCP connection to a hub."""

    def __init__(self, address: tuple[str, int], *, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:  # before connecting, so that the window is small from the start
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.buffer = b""
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Closes with RST, as a crash or a NAT that forgot does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> bytes:
        """Whatever comes next; b"" at the end, also at a reset."""
        try:
            return self.socket.recv(65536)
        except ConnectionError:
            return b""

    def read_more(self) -> bool:
        data = self.receive()
        self.buffer += data
        return bool(data)

    def read(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self.read_more():
                raise EOFError(f"ended after {self.buffer!r}")
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            if not self.read_more():
                raise EOFError(f"ended after {self.buffer!r}")
        data, _, self.buffer = self.buffer.partition(mark)
        return data + mark

    def read_to_end(self) -> bytes:
        while self.read_more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    # --- HTTP ---------------------------------------------------------------------------------------------

    def read_head(self) -> tuple[int, dict[str, str]]:
        lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status = lines[0].split(" ", 2)[:2]
        assert version.startswith("HTTP/1."), lines[0]
        headers: dict[str, str] = {}
        for line in filter(None, lines[1:]):
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value.strip()
        return int(status), headers

    def read_response(self, *, is_head: bool = False) -> Response:
        """One answer, with informational ones before it skipped."""
        status, headers = self.read_head()
        while 100 <= status < 200:
            status, headers = self.read_head()
        if is_head or status in (204, 304):
            return Response(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Response(status, headers, b"".join(self.chunks()))
        if "content-length" in headers:
            return Response(status, headers, self.read(int(headers["content-length"])))
        return Response(status, headers, self.read_to_end())

    def chunks(self) -> Iterator[bytes]:
        """The chunks of a chunked body, up to the last one."""
        while size := int(self.read_until(b"\r\n"), 16):
            yield self.read(size)
            assert self.read(2) == b"\r\n"
        assert self.read(2) == b"\r\n"

    def ask(self, request: bytes) -> Response:
        self.send(request)
        return self.read_response()

    # --- WebSocket ----------------------------------------------------------------------------------------

    def upgrade(self, path: str, *headers: str) -> dict[str, str]:
        """The opening handshake; returns the answer's headers."""
        self.send(upgrade_request(path, *headers))
        status, answer = self.read_head()
        assert status == 101, (status, answer)
        return answer

    def send_frame(self, opcode: int, payload: bytes = b"", *, is_last: bool = True) -> None:
        self.send(frame(opcode, payload, is_last=is_last))

    def send_json(self, value: Any) -> None:
        self.send_frame(TEXT, json.dumps(value).encode())

    def read_frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame, which must be whole and unmasked."""
        first, size = self.read(2)
        assert first & 0x80 and not first & 0x70, f"not a whole plain frame: {first:#x}"
        assert not size & 0x80, "a server's frame is masked"
        if size == 126:
            size = int.from_bytes(self.read(2), "big")
        elif size == 127:
            size = int.from_bytes(self.read(8), "big")
        return first & 0x0F, self.read(size)

    def read_json(self) -> Any:
        """The next text frame's value; answers nothing, skips pings."""
        while True:
            opcode, payload = self.read_frame()
            if opcode == TEXT:
                return json.loads(payload)
            assert opcode == PING, (opcode, payload)

    def read_to_close(self) -> tuple[list[Any], int, str]:
        """All JSON up to the close frame, its code and its reason."""
        values: list[Any] = []
        while True:
            opcode, payload = self.read_frame()
            if opcode == TEXT:
                values.append(json.loads(payload))
            elif opcode == CLOSE:
                return values, int.from_bytes(payload[:2], "big"), payload[2:].decode()


@contextmanager
def websocket(
    address: tuple[str, int], path: str = "/v2", *headers: str, receive_buffer: int = 0
) -> Iterator[RawPeer]:
    """An open WebSocket; on ``/v2`` without the greeting, which is checked."""
    with RawPeer(address, receive_buffer=receive_buffer) as peer:
        peer.upgrade(path, *headers)
        if path.startswith("/v2") and not any("cbor" in header for header in headers):
            assert peer.read_json()["event"] == "connected"
        yield peer


def upgrade_request(path: str, *headers: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: hub.localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def request(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    """A plain HTTP/1.1 request; Content-Length comes by itself where there is a body."""
    lines = [f"{method} {target} HTTP/1.1", "Host: hub.localhost", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def frame(
    opcode: int, payload: bytes = b"", *, is_last: bool = True, is_masked: bool = True, reserved: int = 0
) -> bytes:
    """A client's frame, or what a bad client would call one."""
    first = (0x80 if is_last else 0) | reserved << 4 | opcode
    return (
        bytes((first,))
        + length_field(len(payload), is_masked=is_masked)
        + (masked(payload) if is_masked else payload)
    )


def length_field(size: int, *, is_masked: bool = True) -> bytes:
    bit = 0x80 if is_masked else 0
    if size < 126:
        return bytes((bit | size,))
    if size < 1 << 16:
        return bytes((bit | 126,)) + size.to_bytes(2, "big")
    return bytes((bit | 127,)) + size.to_bytes(8, "big")


def masked(payload: bytes, key: bytes = b"\x37\xfa\x21\x3d") -> bytes:
    stretched = key * (len(payload) // 4 + 1)
    value = int.from_bytes(payload, "big") ^ int.from_bytes(stretched[: len(payload)], "big")
    return key + value.to_bytes(len(payload), "big")
