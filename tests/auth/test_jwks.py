"""Keys from a URL: rotation, outages, and what strangers can make us do. The server is real; time is not."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import hypothesis
import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import strategies as st

from hub.auth import AuthSettings, HubAuthenticator
from hub.auth.jwks import MAX_SIZE, PAUSE, RETRY
from hub.auth.public_keys import MAX_KEYS, UnusableKey, read_key_set
from hub.sansio.errors import ErrorCode, RequestRefused
from tests.auth.tokens import Issuer

NOW = 1_800_000_000.0
REFRESH = 600.0


def make_issuer(kid: str | None) -> Issuer:
    return Issuer("ES256", kid, now=lambda: NOW)


class KeyServer:
    """An issuer's web server. ``body``, ``status`` and ``headers`` are what it answers; ``gate`` holds answers back;
    ``requests`` are the paths that were asked for."""

    def __init__(self) -> None:
        self.body: bytes = b""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                outer.gate.wait(60)
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(outer.body)
                except OSError:  # the hub has heard enough
                    pass

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"

    def publish(self, *issuers: Issuer) -> None:
        self.body = json.dumps({"keys": [issuer.jwk() for issuer in issuers]}).encode()

    def stop(self) -> None:
        """Connections are refused from now on."""
        if self._thread.is_alive():
            self.gate.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@pytest.fixture
def server() -> Generator[KeyServer]:
    server = KeyServer()
    yield server
    server.stop()


Start = Callable[..., Any]


@pytest.fixture
def start(server: KeyServer, nursery: trio.Nursery, mock_clock: trio.testing.MockClock) -> Start:
    """Starts an authenticator. The clock stands still unless a test moves it, so that answers take no time."""

    async def start(**settings: Any) -> HubAuthenticator:
        settings = {"jwt_algorithms": ("ES256",), "jwks_refresh": REFRESH, **settings}
        authenticator = HubAuthenticator(AuthSettings(jwks_url=server.url, **settings), now=lambda: NOW)
        await nursery.start(authenticator.run)
        return authenticator

    return start


async def pass_time(clock: trio.testing.MockClock, seconds: float) -> None:
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def wait_for_fetches(authenticator: HubAuthenticator, count: int) -> None:
    """Returns when so many fetches have ended. Their answers take real time, though no time of the clock's."""
    while fetches_of(authenticator) < count:
        await trio.to_thread.run_sync(threading.Event().wait, 0.001)
    assert fetches_of(authenticator) == count


def fetches_of(authenticator: HubAuthenticator) -> int:
    statistics = authenticator.statistics().jwks
    assert statistics is not None
    return statistics.fetches


async def user_of(authenticator: HubAuthenticator, token: str) -> str | None:
    return (await authenticator.verify_token(token)).user


async def code_of(authenticator: HubAuthenticator, token: str) -> ErrorCode:
    with pytest.raises(RequestRefused) as caught:
        await authenticator.verify_token(token)
    return caught.value.code


# --- the keys -----------------------------------------------------------------------------------------------


async def test_the_first_token_waits_for_the_keys(server: KeyServer, start: Start) -> None:
    issuer = make_issuer("a")
    server.publish(make_issuer("z"), issuer)
    server.gate.clear()
    authenticator = await start()
    users = []

    async def verify() -> None:
        users.append(await user_of(authenticator, issuer.token("alice")))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(verify)
        await trio.testing.wait_all_tasks_blocked()
        assert users == []
        server.gate.set()
    assert users == ["alice"] * 20
    assert server.requests == ["/jwks"]


async def test_keys_of_files_and_of_the_url_both_count(
    server: KeyServer, start: Start, tmp_path: Any
) -> None:
    near, far = make_issuer("near"), make_issuer("far")
    (tmp_path / "near.pem").write_text(near.public_pem)
    server.publish(far)
    authenticator = await start(jwt_key_files=(f"near={tmp_path}/near.pem",))
    for issuer in (near, far):
        assert await user_of(authenticator, issuer.token("alice")) == "alice"


async def test_a_new_key_is_fetched_when_a_token_names_it(
    server: KeyServer, start: Start, mock_clock: trio.testing.MockClock
) -> None:
    old, new = make_issuer("old"), make_issuer("new")
    server.publish(old)
    authenticator = await start()
    assert await user_of(authenticator, old.token("alice")) == "alice"
    await pass_time(mock_clock, PAUSE)
    server.publish(new)
    assert await user_of(authenticator, old.token("alice")) == "alice"  # known, so nobody asks
    assert await user_of(authenticator, new.token("alice")) == "alice"
    assert await code_of(authenticator, old.token("alice")) == ErrorCode.UNAUTHENTICATED  # withdrawn
    assert len(server.requests) == 2


async def test_a_new_key_without_an_id_is_found_too(
    server: KeyServer, start: Start, mock_clock: trio.testing.MockClock
) -> None:
    old, new = make_issuer(None), make_issuer(None)
    server.publish(old)
    authenticator = await start()
    assert await user_of(authenticator, old.token("alice")) == "alice"
    await pass_time(mock_clock, PAUSE)
    server.publish(old, new)
    assert await user_of(authenticator, new.token("alice")) == "alice"
    assert await user_of(authenticator, old.token("alice")) == "alice"


async def test_a_bad_signature_of_a_known_key_asks_for_nothing(
    server: KeyServer, start: Start, mock_clock: trio.testing.MockClock
) -> None:
    issuer, forger = make_issuer("a"), make_issuer("a")
    server.publish(issuer)
    authenticator = await start()
    assert await user_of(authenticator, issuer.token("alice")) == "alice"
    await pass_time(mock_clock, PAUSE)
    assert await code_of(authenticator, forger.token("alice")) == ErrorCode.UNAUTHENTICATED
    assert len(server.requests) == 1


async def test_a_flood_of_unknown_keys_asks_once_in_a_while(
    server: KeyServer, start: Start, mock_clock: trio.testing.MockClock
) -> None:
    issuer, forger = make_issuer("a"), make_issuer(None)
    server.publish(issuer)
    authenticator = await start()
    await wait_for_fetches(authenticator, 1)
    for second in range(60):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                forged = forger.sign({"sub": "x", "exp": NOW + 9}, kid=f"{second}-{number}")
                nursery.start_soon(code_of, authenticator, forged)
        assert await user_of(authenticator, issuer.token("alice")) == "alice"
        await pass_time(mock_clock, 1.0)
    assert len(server.requests) == 60 / PAUSE
    assert fetches_of(authenticator) == len(server.requests)


async def test_keys_are_fetched_again_from_time_to_time(
    server: KeyServer, start: Start, mock_clock: trio.testing.MockClock
) -> None:
    """So that a key that was withdrawn is not believed for ever."""
    issuer, other = make_issuer("a"), make_issuer("b")
    server.publish(issuer, other)
    authenticator = await start()
    assert await user_of(authenticator, issuer.token("alice")) == "alice"
    server.publish(other)
    await pass_time(mock_clock, PAUSE)
    await pass_time(mock_clock, REFRESH - PAUSE)
    await wait_for_fetches(authenticator, 2)
    assert await code_of(authenticator, issuer.token("alice")) == ErrorCode.UNAUTHENTICATED
    assert await user_of(authenticator, other.token("alice")) == "alice"


async def test_an_issuer_can_withdraw_all_its_keys(
    server: KeyServer, start: Start, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = make_issuer("a")
    server.publish(issuer)
    authenticator = await start()
    await wait_for_fetches(authenticator, 1)
    await pass_time(mock_clock, PAUSE)
    server.publish()
    await pass_time(mock_clock, REFRESH)
    await wait_for_fetches(authenticator, 2)
    assert await code_of(authenticator, issuer.token("alice")) == ErrorCode.UNAUTHENTICATED
    assert "JWKS has no usable key" in [record.message for record in caplog.records]


# --- outages ------------------------------------------------------------------------------------------------


def fail_by_status(server: KeyServer) -> None:
    server.status, server.body = 500, b"{}"


def fail_by_redirect(server: KeyServer) -> None:
    server.status, server.headers = 302, {"Location": server.url + "/elsewhere"}


def fail_by_size(server: KeyServer) -> None:
    server.body += b" " * MAX_SIZE


def fail_by_encoding(server: KeyServer) -> None:
    server.headers = {"Content-Encoding": "gzip"}


def fail_by_garbage(server: KeyServer) -> None:
    server.body = b"<html>"


def fail_by_shape(server: KeyServer) -> None:
    server.body = b'{"keys": {}}'


def fail_by_cut(server: KeyServer) -> None:
    server.headers = {"Content-Length": str(len(server.body) + 1)}


def fail_by_leaving(server: KeyServer) -> None:
    server.stop()


FAILURES = [
    fail_by_status, fail_by_redirect, fail_by_size, fail_by_encoding, fail_by_garbage, fail_by_shape, fail_by_cut,
    fail_by_leaving,
]  # fmt: skip


@pytest.mark.parametrize("fail", FAILURES)
async def test_without_keys_nobody_can_tell(
    fail: Callable[[KeyServer], None], server: KeyServer, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = make_issuer("a")
    server.publish(issuer)
    fail(server)
    authenticator = await start()
    for _ in range(3):
        assert await code_of(authenticator, issuer.token("alice")) == ErrorCode.UNAVAILABLE
    assert len(server.requests) <= 1
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.message for record in errors] == ["JWKS unavailable"]
    assert server.url not in str(errors[0].__dict__)  # a URL may have secrets in its query


@pytest.mark.parametrize("fail", FAILURES)
async def test_old_keys_stay_while_the_url_is_away(
    fail: Callable[[KeyServer], None],
    server: KeyServer,
    start: Start,
    mock_clock: trio.testing.MockClock,
) -> None:
    issuer, other = make_issuer("a"), make_issuer("b")
    server.publish(issuer)
    authenticator = await start()
    await wait_for_fetches(authenticator, 1)
    await pass_time(mock_clock, PAUSE)
    server.publish(issuer, other)
    fail(server)
    assert await code_of(authenticator, other.token("alice")) == ErrorCode.UNAUTHENTICATED
    assert fetches_of(authenticator) == 2
    assert await user_of(authenticator, issuer.token("alice")) == "alice"


async def test_a_failed_fetch_is_tried_again_soon(
    server: KeyServer,
    start: Start,
    mock_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    issuer = make_issuer("a")
    server.publish(issuer)
    server.status = 503
    authenticator = await start()
    for count in (1, 2, 3):
        await wait_for_fetches(authenticator, count)
        await pass_time(mock_clock, PAUSE)
        server.status = 503 if count < 2 else 200
        await pass_time(mock_clock, RETRY - PAUSE)
    assert await user_of(authenticator, issuer.token("alice")) == "alice"
    told = [record.message for record in caplog.records if record.name == "hub.auth.jwks"]
    assert told == ["JWKS unavailable", "JWKS loaded"]


async def test_an_answer_that_does_not_come_is_given_up(
    server: KeyServer, start: Start, mock_clock: trio.testing.MockClock
) -> None:
    issuer = make_issuer("a")
    server.gate.clear()
    authenticator = await start(jwks_timeout=5.0)
    codes = []

    async def verify() -> None:
        codes.append(await code_of(authenticator, issuer.token("alice")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(verify)
        await pass_time(mock_clock, 5.0)
    assert codes == [ErrorCode.UNAVAILABLE]


async def test_who_stops_it_leaves_nobody_waiting(
    server: KeyServer, mock_clock: trio.testing.MockClock
) -> None:
    server.gate.clear()
    authenticator = HubAuthenticator(AuthSettings(jwks_url=server.url, jwt_algorithms=("ES256",)))
    token = make_issuer("a").token("alice")
    async with trio.open_nursery() as waiting, trio.open_nursery() as running:
        await running.start(authenticator.run)
        waiting.start_soon(code_of, authenticator, token)
        await trio.testing.wait_all_tasks_blocked()
        running.cancel_scope.cancel()
    assert await code_of(authenticator, token) == ErrorCode.UNAVAILABLE


# --- sets ---------------------------------------------------------------------------------------------------


def read(*members: object, allowed: tuple[str, ...] = ("RS256", "ES256", "EdDSA")) -> list[str | None]:
    found = read_key_set(json.dumps({"keys": members}).encode(), allowed)
    assert len(found.keys) + found.skipped == len(members)
    return [key.kid for key in found.keys]


def test_a_bad_key_does_not_spoil_the_others() -> None:
    good = make_issuer("good").jwk()
    weak = Issuer("RS256", "weak", key=rsa.generate_private_key(public_exponent=65537, key_size=1024)).jwk()
    p384 = Issuer("ES256", "p384", key=ec.generate_private_key(ec.SECP384R1())).jwk()
    bad: list[object] = [
        None, 7, "x", [], {}, {"kty": "RSA"}, {"kty": "EC", "crv": "P-256"}, {"kty": ["EC"]}, {"kty": "oct", "k": "AAAA"},
        {**good, "kid": 7}, {**good, "x": "!"}, {**good, "x": 7}, {**good, "x": good["y"], "y": good["x"]},
        {**good, "crv": "P-384"}, {**good, "use": "enc"}, {**good, "key_ops": ["sign"]}, {**good, "key_ops": 7},
        {**good, "alg": "HS256"}, {**good, "alg": "none"}, {**good, "alg": "RS256"}, {**good, "d": "AAAA"},
        {"kty": "RSA", "n": "AQ", "e": "AQAB"}, {"kty": "RSA", "n": "A" * 3000, "e": "AQ"}, weak, p384,
        {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}, {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
    ]  # fmt: skip
    assert read(*bad, good) == ["good"]


def test_keys_of_all_kinds_are_read() -> None:
    issuers = [Issuer("RS256", "r"), Issuer("ES256", "e"), Issuer("EdDSA", "o")]
    assert read(*[issuer.jwk() for issuer in issuers]) == ["r", "e", "o"]
    plain = [{k: v for k, v in issuer.jwk().items() if k not in ("alg", "use")} for issuer in issuers]
    assert read(*plain) == ["r", "e", "o"]
    assert read(*plain, allowed=("ES256",)) == ["e"]


def test_a_set_has_a_bound() -> None:
    good = make_issuer("good").jwk()
    assert len(read(*[good] * (MAX_KEYS + 1))) == MAX_KEYS


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"\xff", b'{"keys":7}', b"[" * 9999, b'{"keys":[],"keys":[]}']
)
def test_what_is_no_set(text: bytes) -> None:
    with pytest.raises(UnusableKey):
        read_key_set(text, ["RS256"])


_TEMPLATES = [Issuer(algorithm, "k").jwk() for algorithm in ("RS256", "ES256", "EdDSA")]
_VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=50) | st.lists(st.text(max_size=5))


@hypothesis.given(
    member=st.sampled_from(_TEMPLATES),
    changes=st.dictionaries(
        st.sampled_from(["kty", "crv", "n", "e", "x", "y", "alg", "use", "kid", "key_ops", "oth"]), _VALUES
    ),
)
def test_no_member_of_a_set_raises(member: dict[str, Any], changes: dict[str, Any]) -> None:
    text = json.dumps({"keys": [{**member, **changes}]}, ensure_ascii=False).encode("utf-8", "replace")
    found = read_key_set(text, ["RS256", "ES256", "EdDSA"])
    assert len(found.keys) + found.skipped == 1
