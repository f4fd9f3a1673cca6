"""Attacks on credentials and channels, while a bystander gets everything in order; afterwards all is as before."""

from __future__ import annotations

import contextlib
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hub_process import HubProcess
from tests.wire.laggards import wait_until
from tests.wire.rawpeer import TEXT, frame, request, upgrade_request
from tests.wire.security import (
    DIALECTS,
    Credentials,
    Dialect,
    Estate,
    bearer,
    by_query,
    open_estate,
    talking,
)
from tests.wire.test_bystander import run_attack

#: What `run_attack` uses, and limits as they are by default.
SETTINGS = [
    "namespaces.switching.pattern=switch:*",
    "namespaces.switching.lag_limit=0",
    "namespaces.switching.buffer_count=20000",
    "namespaces.replayed.pattern=replay:*",
    "limits.channels_total=5000",
    "auth.tickets=1000",
    "logging.level=warning",
]
Attack = Callable[[Estate, random.Random], None]


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with open_estate(tmp_path_factory.mktemp("estate"), *SETTINGS) as estate:
        yield estate


def bombs(estate: Estate, choose: random.Random) -> None:
    """A few hundred bytes that would be megabytes, compressed once and twice, on both paths."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (deflater.compress(bytes(choose.randrange(1, 8) << 20)) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
    with estate.peer() as peer:
        peer.upgrade(choose.choice(["/v2", "/live"]), "Sec-WebSocket-Extensions: permessage-deflate")
        peer.send(frame(TEXT, bomb, reserved=4)[: choose.choice([None, -1])])
        peer.socket.settimeout(0.1)
        peer.read_to_end()


def good_and_bad_logins(estate: Estate, choose: random.Random) -> None:
    """Tokens of all kinds at all doors, as fast as they are refused."""
    token = estate.token(f"u{choose.randrange(1000)}")
    shown = choose.choice(
        [token, token[:-8] + "AAAAAAAA", token.swapcase(), "x.y.z", "e" * 4000, f"{'A' * 2000}.B.C"]
    )
    path = choose.choice(
        ["/history/fills", "/snapshot/orders", "/channels", "/poll?channels=fills&wait=0", "/nowhere"]
    )
    header = choose.choice(["Bearer", "ApiKey", "Basic"])
    with estate.peer() as peer:
        peer.send(request("GET", path, f"Authorization: {header} {shown}") * 20)
        for _ in range(20):
            peer.read_response()
    with estate.peer() as peer:
        peer.upgrade(f"{choose.choice(['/v2', '/live'])}?token={shown}")
        peer.socket.settimeout(0.1)
        peer.read_to_end()


def unknown_keys(estate: Estate, choose: random.Random) -> None:
    """Each with a kid that is worth asking the issuer for: it is asked now and then, whoever shows how many."""
    claims = {"sub": "alice", "exp": 9_000_000_000}
    with estate.peer() as peer:
        for _ in range(10):
            token = estate.pem.sign(claims, kid=f"k{choose.randrange(1 << 30)}")
            peer.send(request("GET", "/history/fills", f"Authorization: Bearer {token}"))
        peer.socket.settimeout(0.5)
        peer.read_response()


def in_band(estate: Estate, choose: random.Random) -> None:
    """A thousand tries on one connection, whose answers are read, or not."""
    dialect = choose.choice(list(DIALECTS.values()))
    with talking(estate, dialect) as talk:
        talk.peer.socket.settimeout(0.5)
        for number in range(1, 300):
            token = f"{'e' * choose.randrange(1, 3000)}.x.y"
            talk.send(
                {"type": "auth", "token": token} if dialect.is_live
                else {"method": "auth", "params": [token], "id": number}
            )  # fmt: skip
            if choose.random() < 0.8:
                talk.read()


def tickets(estate: Estate, choose: random.Random) -> None:
    """Asked for by the hundred, used twice or never; and guessed."""
    user = f"u{choose.randrange(100)}"
    ask = request("POST", "/ticket", *bearer(estate.token(user)).headers)
    with estate.peer() as peer:
        for _ in range(10):
            peer.send(ask * 10)
            ticket = [peer.read_response() for _ in range(10)][-1].json()["ticket"]
            guess = choose.choice([ticket, ticket[:-1], "x" * 5000])
            for _ in range(2):
                assert peer.ask(
                    request("GET", by_query(guess, "ticket").target("/history/fills"))
                ).status in (200, 401)


def names_that_do_not_exist(estate: Estate, choose: random.Random) -> None:
    with talking(estate, choose.choice(list(DIALECTS.values()))) as talk:
        for _ in range(20):
            names = [
                "".join(choose.choices("abcdefghij:@._-", k=choose.randint(1, 14))) for _ in range(150)
            ]  # fmt: skip
            talk.subscribe(*names)


def names_of_ones_own(estate: Estate, choose: random.Random) -> None:
    """Channels that exist because somebody asks for them: subscribed, polled, read, left."""
    user = f"u{choose.randrange(10)}"
    credentials = bearer(estate.token(user))
    with talking(estate, Dialect(), credentials) as talk:
        for _ in range(5):
            names = [f"user:{user}:{choose.randrange(1 << 40):x}" for _ in range(100)]
            talk.subscribe(*names)
            talk.send({"method": "unsubscribe", "params": names[:50], "id": 9999})
            talk.read_until(lambda value: value.get("id") == 9999)
    with estate.peer() as peer:
        for _ in range(20):
            name = f"user:{user}:{choose.randrange(1 << 40):x}"
            target = choose.choice([f"/history/{name}", f"/poll?channels={name}&wait=0", f"/snapshot/{name}"])
            peer.ask(request("GET", target, *credentials.headers))


def users_without_number(estate: Estate, choose: random.Random) -> None:
    """Each of whom has channels of their own, for a moment."""
    for _ in range(10):
        credentials = bearer(estate.token(f"user-{choose.randrange(1 << 60):x}"))
        with talking(estate, Dialect(), credentials) as talk:
            talk.subscribe("orders", "fills", "orders@btc_tl", "fills@eth_tl")


def lists(estate: Estate, choose: random.Random) -> None:
    headers = choose.choice([(), bearer(estate.token(f"u{choose.randrange(100)}")).headers])
    with estate.peer() as peer:
        peer.send(request("GET", "/channels", *headers) * 20)
        for _ in range(20):
            peer.read_response()


def waiting_polls(estate: Estate, choose: random.Random) -> None:
    """Left as soon as they wait, or a little later."""
    credentials = choose.choice([Credentials(), bearer(estate.token("u1"))])
    with contextlib.ExitStack() as stack:
        for number in range(20):
            peer = stack.enter_context(estate.peer())
            last_seq = f"%7B%22ev:{number}%22:0%7D"
            target = f"/poll?channels=ev:{number}&wait=60&lastSeq={last_seq}"
            peer.send(request("GET", target, *credentials.headers))
            if choose.random() < 0.5:
                peer.reset()
    estate.ask(
        "GET", "/history/ev:1"
    )  # answered when those before have been accepted: no more than that wait


def upgrades_of_no_use(estate: Estate, choose: random.Random) -> None:
    for origin in ("null", "https://evil.example", "http://hub.localhost"):
        with estate.peer() as peer:
            peer.send(
                upgrade_request("/v2", f"Origin: {origin}", f"X-User-Id: {'x' * choose.randrange(2000)}")
            )
            peer.read_head()


ATTACKS: list[Attack] = [
    bombs, good_and_bad_logins, unknown_keys, in_band, tickets, names_that_do_not_exist, names_of_ones_own,
    users_without_number, lists, waiting_polls, upgrades_of_no_use,
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_bystander_misses_nothing(estate: Estate, attack: Attack) -> None:
    def on_hub(_hub: HubProcess, choose: random.Random) -> None:
        attack(estate, choose)

    run_attack(estate.hub, on_hub, threads=3)
    wait_until(lambda: estate.look("/admin/connections")["total"] == 0, "all to have left")
    # What existed for attackers alone exists no more; the bystander's channel and the filling are left.
    wait_until(lambda: names_of(estate) <= {"switch:bystander", "replay:big"}, "their channels to go")


def names_of(estate: Estate) -> set[str]:
    return {row["channel"] for row in estate.look("/admin/channels")["channels"]}


def test_lists_of_channels_do_not_hold_up_the_others(tmp_path: Path) -> None:
    """However many channels there are, and however many ask: a list costs the hub about what its answer costs."""
    with open_estate(tmp_path, "logging.level=warning") as estate:
        for start in range(0, 30_000, 5000):
            estate.publisher.publish_items(
                {"channel": f"ev:{number}", "data": 1} for number in range(start, start + 5000)
            )
        credentials = bearer(estate.token("alice"))
        for headers in ((), credentials.headers):
            for _ in range(100):
                body = estate.ask("GET", "/channels", *headers).json()
                assert body["total"] == 30_000


def test_a_full_node_refuses_cheaply(tmp_path: Path) -> None:
    """Names for which there is no room are refused without looking for room again and again."""
    total = 10_000
    settings = [
        f"limits.channels_total={total}",
        "tiers.anonymous.channels_per_connection=0",
        "logging.level=warning",
    ]
    with open_estate(tmp_path, *settings) as estate, talking(estate, Dialect()) as holder:
        for start in range(0, total, 200):
            assert not holder.subscribe(*(f"ev:{number}" for number in range(start, start + 200))).errors
        with talking(estate, Dialect()) as talk:
            for start in range(0, 4000, 200):
                names = [f"ev:x{number}" for number in range(start, start + 200)]
                assert talk.subscribe(*names).errors == dict.fromkeys(names, 50001)
        holder.send({"method": "unsubscribe", "params": ["ev:1"], "id": 9999})
        holder.read_until(lambda value: value.get("id") == 9999)
        with talking(estate, Dialect()) as talk:
            wait_until(lambda: not talk.subscribe("ev:new").errors, "the place of one that left")
