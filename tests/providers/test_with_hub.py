"""A real hub that asks a real back end for first states."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.auth.tokens import Issuer
from tests.hub_process import HubProcess, running_hub

SECRET = "Bearer correct-horse"
ORDER = {"orderId": "o1", "market": "btc_tl", "status": "new", "price": "1.50"}
BOOK = {"bids": [["1.50", "2.00"]], "asks": [], "lastUpdateId": 7}

CONFIG = """
[limits]
requests_per_ip = 0
[namespaces.orders]
pattern = "orders"
private = true
payload = "order"
snapshot = "orders"
provider = "{url}/users/{{user}}/orders"
[namespaces.orderbook]
pattern = "orderbook@{{market}}"
payload = "orderbook"
snapshot = "book"
provider = "{url}/book?market={{market}}&for={{channel}}"
[provider]
timeout = "2s"
[auth]
jwt_key_files = ["{key}"]
"""


class BackEnd(ThreadingHTTPServer):
    """Answers by what the user or market is called; ``release`` lets slow answers go."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.authorizations: set[str | None] = set()
        self.release = threading.Event()
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, target: str) -> tuple[int, bytes]:
        self.asked[target] += 1
        parts = urlsplit(target)
        if parts.path == "/book":
            market = parse_qs(parts.query)["market"][0]
            return (200, json.dumps(BOOK).encode()) if market == "btc_tl" else (200, b"<html>")
        user = parts.path.split("/")[2]
        if user == "new":
            return 204, b""
        if user == "nobody" or (user == "first" and self.asked[target] == 1):
            return (404 if user == "nobody" else 503), b"{}"
        if user == "slow":
            self.release.wait(60)
        if user.startswith("revoked"):
            self.is_asked.set()
            self.may_answer.wait(20)
        return 200, json.dumps([ORDER]).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BackEnd

    def do_GET(self) -> None:
        self.server.authorizations.add(self.headers["authorization"])
        status, body = self.server.answer(self.path)
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def backend() -> Iterator[BackEnd]:
    with BackEnd() as backend:
        thread = threading.Thread(target=backend.serve_forever)
        thread.start()
        yield backend
        backend.release.set()
        backend.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def hub(backend: BackEnd, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    folder = tmp_path_factory.mktemp("hub")
    key, config = folder / "jwt.pem", folder / "hub.toml"
    key.write_text(issuer.public_pem)
    config.write_text(CONFIG.format(url=backend.url, key=key))
    # As an operator gives a secret: the file has none.
    with running_hub(config, environment={"HUB_PROVIDER__HEADERS__AUTHORIZATION": SECRET}) as hub:
        hub.expected_errors.add("snapshot failed")
        yield hub
        assert not any("correct-horse" in line for line in hub.raw_log)


def ask(hub: HubProcess, channel: str, token: str | None = None) -> httpx.Response:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx.get(f"{hub.public_url}/snapshot/{channel}", headers=headers, timeout=60, trust_env=False)


def publish(hub: HubProcess, **item: Any) -> None:
    answer = httpx.post(f"{hub.admin_url}/publish", json=item, timeout=60, trust_env=False).json()
    assert "seq" in answer["results"][0], answer


def test_the_first_state_of_a_book(hub: HubProcess, backend: BackEnd) -> None:
    """Changes that are published later are made to it, and then nobody is asked again."""
    target = "/book?market=btc_tl&for=orderbook%40btc_tl"
    answer = ask(hub, "orderbook@btc_tl").json()
    assert (answer["seq"], answer["data"]["bids"]) == (0, [["1.50", "2.00"]])
    publish(hub, channel="orderbook@btc_tl", type="delta", data={"bids": [["1.40", "1.00"]], "asks": []})
    for _ in range(3):
        answer = ask(hub, "orderbook@btc_tl").json()
        assert (answer["seq"], answer["data"]["bids"]) == (1, [["1.50", "2.00"], ["1.40", "1.00"]])
        assert backend.asked[target] <= 2


def test_what_was_published_before_wins(hub: HubProcess, backend: BackEnd) -> None:
    book = {"bids": [], "asks": [["9.00", "1.00"]]}
    publish(hub, channel="orderbook@eth_tl", type="snapshot", data=book)
    assert ask(hub, "orderbook@eth_tl").json()["data"]["asks"] == [["9.00", "1.00"]]
    assert not any("eth_tl" in target for target in backend.asked)


@pytest.mark.parametrize(
    "user, state", [("u1", [ORDER]), ("new", []), ("first", [ORDER]), ("a/../b c", [ORDER])]
)
def test_the_first_state_of_a_user(
    hub: HubProcess, backend: BackEnd, issuer: Issuer, user: str, state: list[Any]
) -> None:
    answer = ask(hub, "orders", issuer.token(user))
    assert (answer.status_code, answer.json()["data"]) == (200, state)
    assert backend.authorizations == {SECRET}


@pytest.mark.parametrize("user", ["nobody", "slow", ".."])
def test_a_state_that_cannot_be_had_now(hub: HubProcess, backend: BackEnd, issuer: Issuer, user: str) -> None:
    answer = ask(hub, "orders", issuer.token(user))
    assert answer.json()["code"] == 50000
    assert answer.status_code >= 500
    assert not any(target.startswith(("/users/..", "/orders")) for target in backend.asked)


@pytest.mark.parametrize(
    "user, path",
    [
        ("revoked1", "/sse?channels=orders"),
        ("revoked2", "/poll?channels=orders"),
        ("revoked3", "/snapshot/orders"),
    ],
)
def test_who_is_sent_away_while_the_back_end_is_asked_gets_nothing(
    hub: HubProcess, backend: BackEnd, issuer: Issuer, user: str, path: str
) -> None:
    """The state comes too late for this one; it is the next that has it."""
    backend.is_asked.clear()
    backend.may_answer.clear()
    headers = {"authorization": f"Bearer {issuer.token(user)}"}
    with ThreadPoolExecutor(1) as beside:
        url = f"{hub.public_url}{path}"
        asking = beside.submit(httpx.get, url, headers=headers, timeout=60, trust_env=False)
        try:
            assert backend.is_asked.wait(20)
            url = f"{hub.admin_url}/admin/disconnect?userId={user}"
            assert httpx.post(url, trust_env=False).json() == {"disconnected": 1}
        finally:
            backend.may_answer.set()
        assert asking.result(60).json()["code"] == 40100


def test_a_back_end_that_answers_junk(hub: HubProcess) -> None:
    answer = ask(hub, "orderbook@xrp_tl")
    assert answer.json()["code"] == 50000
    line = next(line for line in hub.log if line.get("channel") == "orderbook@xrp_tl")
    assert (line["level"], line["event"]) == ("error", "snapshot failed")
    assert "invalid JSON" in line["reason"] and "market=" not in line["reason"]
