"""A hub with everything that `[auth]` offers, the secrets of those who come, and every door they may try."""

from __future__ import annotations

import datetime
import http.server
import itertools
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import cbor2
import httpx

from hub.auth.key_file import ApiKey, change_keys, hash_key, make_key, new_id
from hub.sansio.cursor import decode_cursor
from tests.auth.tokens import Issuer
from tests.hub_process import HubProcess, running_hub
from tests.wire.laggards import wait_until
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import BINARY, CLOSE, PATIENCE, PING, TEXT, RawPeer, Response, request

ISSUER, AUDIENCE = "https://login.test", "hub"
#: Where who comes from is whom the hub believes: all of 127/8 is this machine.
STRANGER, PROXY, GATEWAY = "127.0.0.1", "127.0.0.2", "127.0.0.3"
IP_BIND_ADDRESS_NO_PORT = 24  # Linux; Python 3.11 has no name for it

CONFIG = """
[server]
drain_window = "0s"
trusted_proxies = ["127.0.0.2"]

[limits]
connections_per_ip = 0
requests_per_ip = 0
failed_logins_per_ip = 0

[auth]
jwt_algorithms = ["RS256", "ES256"]
jwt_key_files = ["k1={key_file}"]
jwks_url = "{jwks_url}"
issuer = "https://login.test"
audience = "hub"
leeway = "1s"
gateway_networks = ["127.0.0.3"]
api_key_file = "{api_keys}"

[channels]
markets = ["btc_tl", "eth_tl"]

[logging]
level = "debug"

[namespaces.plain]
pattern = "ev:*"
[namespaces.own]
pattern = "user:{user}:*"
[namespaces.orders]
pattern = "orders"
private = true
parts = "orders@{market}"
payload = "order"
snapshot = "orders"
on_lag = "snapshot"
lag_limit = 0
[namespaces.orders_market]
pattern = "orders@{market}"
private = true
payload = "order"
snapshot = "orders"
on_lag = "snapshot"
lag_limit = 0
[namespaces.fills]
pattern = "fills"
private = true
lag_limit = 0
on_lag = "close"
parts = "fills@{market}"
[namespaces.fills_market]
pattern = "fills@{market}"
private = true
lag_limit = 0
on_lag = "close"
[namespaces.staff]
pattern = "staff:*"
allow = ["role:staff"]
[namespaces.makers]
pattern = "makers:*"
snapshot = "last"
allow = ["tier:mm"]
[namespaces.bobs]
pattern = "bobs:*"
allow = ["user:bob", "role:auditor"]
[namespaces.members]
pattern = "members:*"
allow = ["authenticated"]
""" + "".join(
    f"[tiers.{tier}]\nsubscribes = 0\nunsubscribes = 0\npings = 0\nmessages = 0\nconnections_per_user = 0\n"
    for tier in ("anonymous", "retail", "mm")
)


@attrs.frozen
class Credentials:
    """What a client brings: header lines, and fields of the query."""

    headers: tuple[str, ...] = ()
    query: tuple[str, ...] = ()

    def target(self, path: str, *fields: str) -> str:
        query = "&".join((*fields, *self.query))
        return f"{path}?{query}" if query else path


NOBODY = Credentials()


def bearer(token: str) -> Credentials:
    return Credentials((f"Authorization: Bearer {token}",))


def api_key(key: str) -> Credentials:
    return Credentials((f"Authorization: ApiKey {key}",))


def by_query(token: str, field: str = "token") -> Credentials:
    return Credentials((), (f"{field}={quote(token, safe='')}",))


@attrs.frozen
class Verdict:
    """What the hub made of credentials: ``code`` 0 and whom it takes the client for, or why it refused them."""

    code: int
    user: str | None = None


@attrs.define
class Estate:
    """A hub, those whom it believes, and the secrets that were used at it."""

    hub: HubProcess
    pem: Issuer  #: its key is in a file
    jwks: Issuer  #: its key is fetched
    key_file: Path
    publisher: Publisher
    secrets: set[str] = attrs.field(factory=set)
    #: user -> how many fills they have had, by which a connection shows whose it is.
    marks: dict[str, int] = attrs.field(factory=dict)
    _numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    def token(self, user: object, *, issuer: Issuer | None = None, **claims: Any) -> str:
        fields: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, **claims}
        return self.keep((issuer or self.pem).token(user, **fields))

    def add_key(
        self, user: str, *permissions: str, tier: str = "retail", expires_in: float | None = None
    ) -> str:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        key = self.keep(make_key())

        def add(keys: tuple[ApiKey, ...]) -> list[ApiKey]:
            entry = ApiKey(
                id=new_id(keys),
                hash=hash_key(key),
                user=user,
                tier=tier,
                permissions=permissions,
                created=now,
                expires=None if expires_in is None else now + datetime.timedelta(seconds=expires_in),
            )
            return [*keys, entry]

        change_keys(self.key_file, add)
        wait_until(lambda: self._knows(key), "a new key")
        return key

    def _knows(self, key: str) -> bool:
        """Whether the hub has read its file of keys since ``key`` came into it."""
        response = self.ask("GET", "/channels", f"Authorization: ApiKey {key}")
        return response.status == 200 or response.json()["code"] == 40101

    def ticket(self, credentials: Credentials) -> str:
        response = self.ask("POST", credentials.target("/ticket"), *credentials.headers)
        assert response.status == 200, response.body
        return self.keep(str(response.json()["ticket"]))

    def keep(self, secret: str) -> str:
        """Notes a secret that must not be seen anywhere; of a token also what is worth knowing of it."""
        self.secrets |= {part for part in (secret, secret.rpartition(".")[2]) if len(part) >= 16}
        return secret

    def name(self, namespace: str) -> str:
        return f"{namespace}:t{next(self._numbers)}"

    def mark(self, *users: str) -> None:
        """Gives each user a number of fills that nobody else has."""
        for user in users:
            if user not in self.marks:
                self.marks[user] = len(self.marks) + 1
                order = {"orderId": user, "market": "btc_tl", "status": "new"}
                self.publisher.publish("orders", order, user=user)
                self.publisher.publish("fills", *[{"market": "btc_tl"}] * self.marks[user], user=user)

    def owner(self, seq: int) -> str | None:
        """The user whose fills have come to ``seq``."""
        return next(user for user, count in self.marks.items() if count == seq)

    def peer(self, source: str = STRANGER) -> SourcePeer:
        return SourcePeer(self.hub.address, source)

    def ask(
        self, method: str, target: str, *headers: str, source: str = STRANGER, body: bytes = b""
    ) -> Response:
        with self.peer(source) as peer:
            return peer.ask(request(method, target, *headers, "Connection: close", body=body))

    def order(self, path: str) -> Any:
        """What an operator posts."""
        with httpx.Client(base_url=self.hub.admin_url, trust_env=False) as client:
            response = client.post(path)
            assert response.status_code in (200, 202), response.text
            return response.json()

    def look(self, path: str) -> Any:
        """What an operator reads."""
        with httpx.Client(base_url=self.hub.admin_url, trust_env=False) as client:
            return client.get(path).json()

    def check_log(self) -> None:
        """No secret that was used is in the log, and every line is one."""
        log = "\n".join(self.hub.raw_log)
        assert not [secret for secret in self.secrets if secret in log]
        assert not self.hub.stray


@contextmanager
def open_estate(folder: Path, *settings: str) -> Iterator[Estate]:
    """``settings`` are ``key=value``, on top of CONFIG."""
    pem, jwks = Issuer("RS256", "k1"), Issuer("ES256", "j1")
    public_key, config, keys = folder / "issuer.pem", folder / "hub.toml", folder / "keys.toml"
    public_key.write_text(pem.public_pem)
    change_keys(keys, lambda present: present)
    with serving(json.dumps(jwks.jwks()).encode()) as url:
        text = CONFIG.replace("{key_file}", str(public_key)).replace("{jwks_url}", url)
        config.write_text(text.replace("{api_keys}", str(keys)))
        with running_hub(config, *settings) as hub:
            publisher = Publisher(hub)
            estate = Estate(hub, pem, jwks, keys, publisher)
            estate.secrets |= {pem.private_pem, jwks.private_pem}
            yield estate
            publisher.close()
    estate.check_log()


@contextmanager
def serving(body: bytes) -> Iterator[str]:
    """An HTTP server that always answers ``body``; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()
        thread.join(PATIENCE)


class SourcePeer(RawPeer):
    """A connection from an address of one's choice; remembers all that came."""

    def __init__(self, address: tuple[str, int], source: str = STRANGER, *, receive_buffer: int = 0) -> None:
        self.buffer = self.heard = b""
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        # The port is chosen when connecting, so that a thousand connections in a row do not use them up.
        self.socket.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        try:
            self.socket.bind((source, 0))
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> SourcePeer:
        return self

    def receive(self) -> bytes:
        data = super().receive()
        self.heard += data
        return data


# --- WebSockets in all their dialects -----------------------------------------------------------------------


@attrs.frozen
class Dialect:
    """A way to speak at a WebSocket's door."""

    path: str = "/v2"
    is_cbor: bool = False
    is_deflated: bool = False

    @property
    def headers(self) -> list[str]:
        headers = ["Sec-WebSocket-Protocol: hub.v2.cbor"] if self.is_cbor else []
        return headers + (["Sec-WebSocket-Extensions: permessage-deflate"] if self.is_deflated else [])

    @property
    def is_live(self) -> bool:
        return self.path == "/live"


DIALECTS = {
    "v2": Dialect(),
    "v2 deflated": Dialect(is_deflated=True),
    "v2 cbor": Dialect(is_cbor=True),
    "v2 cbor deflated": Dialect(is_cbor=True, is_deflated=True),
    "live": Dialect("/live"),
    "live deflated": Dialect("/live", is_deflated=True),
}


class Talk:
    """A WebSocket, in values; ``heard`` are those that came."""

    def __init__(self, peer: SourcePeer, dialect: Dialect) -> None:
        self.peer = peer
        self.dialect = dialect
        self.heard: list[dict[str, Any]] = []
        self.text = b""  # the same, as it was before compression
        self._ids = itertools.count(1)

    def send(self, value: dict[str, Any]) -> None:
        if self.dialect.is_cbor:
            self.peer.send_frame(BINARY, cbor2.dumps(value))
        else:
            self.peer.send_frame(TEXT, json.dumps(value).encode())

    def read(self) -> dict[str, Any]:
        """The next value. Raises Left where the hub closes."""
        while True:
            opcode, payload = self._read_frame()
            if opcode == CLOSE:
                raise Left(int.from_bytes(payload[:2], "big"), payload[2:].decode(), self.heard)
            if opcode in (TEXT, BINARY):
                self.text += payload
                value: dict[str, Any] = cbor2.loads(payload) if opcode == BINARY else json.loads(payload)
                self.heard.append(value)
                return value
            assert opcode == PING

    def read_until(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not is_it(value := self.read()):
            pass
        return value

    def read_to_close(self) -> Left:
        try:
            while True:
                self.read()
        except Left as left:
            return left

    def _read_frame(self) -> tuple[int, bytes]:
        first, size = self.peer.read(2)
        if size == 126:
            size = int.from_bytes(self.peer.read(2), "big")
        elif size == 127:
            size = int.from_bytes(self.peer.read(8), "big")
        payload = self.peer.read(size)
        if first & 0x40:
            assert self.dialect.is_deflated
            payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
        return first & 0x0F, payload

    # --- what all dialects can say ------------------------------------------------------------------------

    def subscribe(self, *channels: str, **resume: Any) -> Subscribed:
        """``resume`` as the dialect has it: ``lastSeq``, on `/live` also ``cursor``."""
        if self.dialect.is_live:
            self.send({"type": "subscribe", "channels": list(channels), **resume})
            answer = self.read_until(lambda value: value["event"] in ("subscribed", "error", "disconnecting"))
            data = answer["data"]
            if answer["event"] != "subscribed":
                return Subscribed({}, {None: data["code"]})
            return Subscribed(
                data["positions"], {error["channel"]: error["code"] for error in data["errors"]}
            )
        number = next(self._ids)
        self.send({"method": "subscribe", "params": list(channels), "id": number, **resume})
        answer = self.read_until(
            lambda value: value.get("id") == number or value.get("event") == "disconnecting"
        )
        data = answer.get("data", {})
        errors = {error["channel"]: error["code"] for error in data.get("errors", [])}
        if "id" not in answer or not data:
            errors = {None: answer["code"]}
        return Subscribed(data.get("positions", {}), errors)

    def authenticate(self, token: object) -> Verdict:
        if self.dialect.is_live:
            self.send({"type": "auth", "token": token})
            answer = self.read_until(
                lambda value: value["event"] in ("authenticated", "error", "disconnecting")
            )
            return Verdict(answer["data"].get("code", 0), answer["data"].get("userId"))
        number = next(self._ids)
        self.send({"method": "auth", "params": [token], "id": number})
        answer = self.read_until(
            lambda value: value.get("id") == number or value.get("event") == "disconnecting"
        )
        return Verdict(answer["code"], answer.get("data", {}).get("userId"))


@attrs.frozen
class Subscribed:
    """Where channels stand, and the codes of those that were refused (None: of the whole request)."""

    positions: dict[str, dict[str, Any]]
    errors: dict[str | None, int]


class Left(Exception):
    """The hub has closed a WebSocket; ``heard`` is all that it said."""

    def __init__(self, code: int, reason: str, heard: list[dict[str, Any]]) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.heard = heard

    @property
    def farewell(self) -> dict[str, Any]:
        """What `disconnecting` said, which must have come last."""
        last = self.heard[-1]
        assert last["event"] == "disconnecting", last
        data: dict[str, Any] = last.get("data", last)
        return data


@contextmanager
def talking(
    estate: Estate, dialect: Dialect, credentials: Credentials = NOBODY, source: str = STRANGER
) -> Iterator[Talk]:
    """An open WebSocket; on `/v2` the greeting has come, and before anything else."""
    with estate.peer(source) as peer:
        peer.upgrade(credentials.target(dialect.path), *dialect.headers, *credentials.headers)
        talk = Talk(peer, dialect)
        if not dialect.is_live:
            assert talk.read()["event"] == "connected"
        yield talk


# --- doors --------------------------------------------------------------------------------------------------

#: Who shows ``Credentials`` at an Estate, from an address: the Verdict, and all that was said.
Door = Callable[[Estate, Credentials, str], tuple[Verdict, bytes]]


def websocket_door(dialect: Dialect) -> Door:
    def enter(estate: Estate, credentials: Credentials, source: str) -> tuple[Verdict, bytes]:
        with talking(estate, dialect, credentials, source) as talk:
            outcome = talk.subscribe("fills")
            if (code := outcome.errors.get(None)) is not None:
                assert code == 4003
                left = talk.read_to_close()
                assert (left.code, left.reason) == (4003, left.farewell["msg"])
                said = left.farewell["msg"]
                return Verdict(40101 if "expired" in said else 40100), talk.text + said.encode()
            return _verdict_of_fills(estate, outcome.positions), talk.text

    return enter


def _verdict_of_fills(estate: Estate, positions: dict[str, dict[str, Any]]) -> Verdict:
    return Verdict(0, estate.owner(positions["fills"]["seq"]) if "fills" in positions else None)


def _http_door(path: str, user_of: Callable[[Estate, Response], str | None], method: str = "GET") -> Door:
    def enter(estate: Estate, credentials: Credentials, source: str) -> tuple[Verdict, bytes]:
        path_, _, query = path.partition("?")
        target = credentials.target(path_, *filter(None, [query]))
        response = estate.ask(method, target, *credentials.headers, source=source)
        heard = response.body + repr(response.headers).encode()
        if response.status == 200:
            return Verdict(0, user_of(estate, response)), heard
        body = response.json()
        if response.status == 401 and body["msg"] in (
            "auth required",
            "a ticket is for a user: send credentials",
        ):
            return Verdict(0), heard  # taken for nobody
        assert response.status == 401 and response.headers["www-authenticate"].startswith("Bearer"), response
        assert response.headers["cache-control"] == "no-store"
        assert body.keys() == {"code", "msg"}
        return Verdict(body["code"]), heard

    return enter


def _user_of_cursor(estate: Estate, response: Response) -> str | None:
    return estate.owner(decode_cursor(response.json()["cursor"], max_size=4096)["fills"].seq)


def _user_of_ticket(estate: Estate, response: Response) -> str | None:
    ticket = estate.keep(response.json()["ticket"])
    return str(estate.ask("GET", by_query(ticket, "ticket").target("/channels")).json()["user"])


def sse_door(estate: Estate, credentials: Credentials, source: str) -> tuple[Verdict, bytes]:
    """The begin of a stream of `fills`."""
    with estate.peer(source) as peer:
        peer.send(request("GET", credentials.target("/sse", "channels=fills"), *credentials.headers))
        status, headers = peer.read_head()
        if status != 200:
            peer.buffer = peer.heard  # once more, for a reader of whole answers
            body = peer.read_response().json()
            assert status == 401 and headers["www-authenticate"].startswith("Bearer")
            return Verdict(0 if body["msg"] == "auth required" else body["code"]), peer.heard
        first = next(chunk for chunk in peer.chunks() if chunk != b":\n").decode()
        fields = dict(line.partition(": ")[::2] for line in first.split("\n") if line)
        positions = json.loads(fields["data"])["data"]["positions"]
        return _verdict_of_fills(estate, positions), peer.heard


def in_band_door(dialect: Dialect) -> Door:
    """For tokens alone, which are shown on a connection of nobody's."""

    def enter(estate: Estate, credentials: Credentials, source: str) -> tuple[Verdict, bytes]:
        token = credentials.headers[0].removeprefix("Authorization: Bearer ")
        with talking(estate, dialect, NOBODY, source) as talk:
            verdict = talk.authenticate(token)
            outcome = talk.subscribe("fills")
            if verdict.code == 0:
                assert _verdict_of_fills(estate, outcome.positions) == verdict
            else:  # a failure leaves the client who it was
                assert outcome.errors == {"fills": 40100}
            return verdict, talk.text

    return enter


DOORS: dict[str, Door] = {
    **{name: websocket_door(dialect) for name, dialect in DIALECTS.items()},
    "sse": sse_door,
    "poll": _http_door("/poll?channels=fills&wait=0", _user_of_cursor),
    "poll v2": _http_door("/poll?channels=fills&wait=0&format=v2", _user_of_cursor),
    "history": _http_door("/history/fills", lambda estate, response: estate.owner(response.json()["seq"])),
    "snapshot": _http_door(
        "/snapshot/orders", lambda estate, response: response.json()["data"][0]["orderId"]
    ),
    "channels": _http_door("/channels", lambda estate, response: response.json()["user"]),
    "ticket": _http_door("/ticket", _user_of_ticket, "POST"),
}
IN_BAND = {f"{name}, in band": in_band_door(dialect) for name, dialect in DIALECTS.items()}


def try_doors(
    estate: Estate,
    credentials: Credentials,
    *,
    doors: Iterable[str] = tuple(DOORS),
    source: str = STRANGER,
    secret: str = "",
) -> dict[str, Verdict]:
    """The verdict of each door. What was said there must not have ``secret`` in it."""
    verdicts = {}
    for name in doors:
        verdicts[name], heard = {**DOORS, **IN_BAND}[name](estate, credentials, source)
        assert not secret or secret.encode() not in heard, name
    return verdicts
