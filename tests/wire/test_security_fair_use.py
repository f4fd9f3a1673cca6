"""Fair use, as those who would have more than their share see it: what they may do, and that it ends with them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest

from tests.wire.laggards import wait_until
from tests.wire.rawpeer import RawPeer, request, upgrade_request
from tests.wire.security import (
    DIALECTS,
    GATEWAY,
    NOBODY,
    PROXY,
    STRANGER,
    Credentials,
    Dialect,
    Estate,
    Left,
    Talk,
    Verdict,
    api_key,
    bearer,
    by_query,
    open_estate,
    talking,
)

dialects = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
#: The limits of stream-v2.md, which the other tests switch off.
RATES = [
    f"tiers.{tier}.{name}={rate}"
    for tier in ("anonymous", "retail", "mm")
    for name, rate in (("subscribes", 10), ("unsubscribes", 10), ("pings", 5), ("messages", 20))
]


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with open_estate(tmp_path_factory.mktemp("rated"), *RATES) as estate:
        yield estate


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """Two connections and three channels for each user, two connections for the anonymous of an address."""
    settings = [
        "limits.connections_per_ip=2",
        "tiers.retail.connections_per_user=2",
        "tiers.retail.channels_per_user=3",
        "tiers.mm.connections_per_user=3",
    ]
    with open_estate(tmp_path_factory.mktemp("few"), *settings) as estate:
        estate.mark("alice", "bob")
        yield estate


# --- rates of one connection --------------------------------------------------------------------------------


def command(dialect: Dialect, kind: str, number: int, value: Any) -> dict[str, Any]:
    if dialect.is_live:
        return {"type": kind, "token" if kind == "auth" else "channels": value}
    return {"method": kind, "params": [value] if kind == "auth" else value, "id": number}


def is_over(value: dict[str, Any]) -> bool:
    return value.get("code") == 40004 or (value.get("event") == "error" and value["data"]["code"] == 40004)


@dialects
@pytest.mark.parametrize(
    "kind, value, rate",
    [("ping", [], 5), ("subscribe", ["ev:1"], 10), ("unsubscribe", ["ev:1"], 10), ("auth", "x.y.z", 20), ("dance", [], 20)],
)  # fmt: skip
def test_more_than_a_seconds_worth_is_refused_and_then_ended(
    rated: Estate, dialect: Dialect, kind: str, value: Any, rate: int
) -> None:
    """Ten refusals, then `disconnecting` 4029 as the last word, whoever it is."""
    for credentials in (NOBODY, bearer(rated.token("alice")), bearer(rated.token("maker", tier="mm"))):
        with talking(rated, dialect, credentials) as talk:
            for number in range(1, 200):
                try:
                    talk.send(command(dialect, kind, number, value))
                except OSError:
                    break
            left = talk.read_to_close()
        assert left.code == 4029 and left.farewell["code"] == 4029
        assert left.farewell["retryAfterMs"] == 30_000
        refusals = [index for index, heard in enumerate(left.heard) if is_over(heard)]
        assert len(refusals) == 10
        greeting = 0 if dialect.is_live else 1
        # The first second's worth was served, whatever has come back meanwhile.
        assert refusals[0] - greeting >= rate
        assert len(left.heard) < 200


def test_other_names_do_not_bring_a_new_allowance(rated: Estate) -> None:
    """Neither does another tier: whoever has tokens of two could go from one to the other."""
    tiers = itertools.cycle([rated.token("alice", tier="mm"), rated.token("alice")])
    dialect = Dialect()
    with talking(rated, dialect, bearer(rated.token("alice"))) as talk:
        try:
            for number in range(1, 400, 4):
                talk.send(command(dialect, "auth", number, next(tiers)))
                for more in range(1, 4):
                    talk.send(command(dialect, "ping", number + more, []))
        except OSError:
            pass
        assert talk.read_to_close().code == 4029


def test_a_flood_is_its_own_connections_alone(rated: Estate) -> None:
    credentials = bearer(rated.token("alice"))
    with talking(rated, Dialect(), credentials) as quiet, talking(rated, Dialect(), credentials) as loud:
        for number in range(1, 100):
            loud.send(command(loud.dialect, "ping", number, []))
        assert loud.read_to_close().code == 4029
        assert not quiet.subscribe("fills").errors


# --- connections of a user ----------------------------------------------------------------------------------

#: A client that holds a connection for as long as the block runs.
Way = Callable[[Estate, Credentials, str], AbstractContextManager[Any]]


class TurnedAway(Exception):
    """With HTTP's 429, before anything was served."""


def websocket_way(dialect: Dialect) -> Way:
    @contextmanager
    def hold(estate: Estate, credentials: Credentials, source: str) -> Iterator[Talk]:
        with estate.peer(source) as peer:
            headers = [*dialect.headers, *credentials.headers]
            peer.send(upgrade_request(credentials.target(dialect.path), *headers))
            check_status(peer, 101)
            talk = Talk(peer, dialect)
            if not dialect.is_live:
                assert talk.read()["event"] == "connected"
            outcome = talk.subscribe("ev:1")
            if 4030 in outcome.errors.values():
                left = talk.read_to_close()
                assert left.code == left.farewell["code"] == 4030 and left.farewell["retryAfterMs"] > 0
                raise left
            assert not outcome.errors
            yield talk

    return hold


def check_status(peer: RawPeer, expected: int) -> None:
    status, headers = peer.read_head()
    if status == 429:
        assert int(headers["retry-after"]) > 0
        raise TurnedAway
    assert status == expected, (status, headers)


@contextmanager
def stream_way(estate: Estate, credentials: Credentials, source: str) -> Iterator[RawPeer]:
    with estate.peer(source) as peer:
        peer.send(request("GET", credentials.target("/sse", "channels=ev:1"), *credentials.headers))
        check_status(peer, 200)
        yield peer


@contextmanager
def poll_way(estate: Estate, credentials: Credentials, source: str) -> Iterator[RawPeer]:
    with estate.peer(source) as peer:
        fields = ("channels=ev:quiet", "wait=30", "lastSeq=%7B%22ev:quiet%22:0%7D")
        waiting = polls(estate)
        peer.send(request("GET", credentials.target("/poll", *fields), *credentials.headers))
        peer.socket.settimeout(0.05)
        for _ in range(40):  # bounded, since another may have left in the same moment
            with contextlib.suppress(TimeoutError):
                peer.read_more()
            if peer.buffer or (now := polls(estate)) > waiting:
                break
            waiting = min(waiting, now)
        if peer.buffer:
            check_status(peer, 0)
        yield peer


def polls(estate: Estate) -> float:
    with RawPeer(estate.hub.admin_address) as peer:
        host = "Host: 127.0.0.1"
        text = peer.ask(
            f"GET /metrics HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n".encode()
        ).body.decode()
    (line,) = (line for line in text.splitlines() if line.startswith("hub_polls_waiting"))
    return float(line.rpartition(" ")[2])


WAYS: dict[str, Way] = {
    "v2": websocket_way(DIALECTS["v2"]),
    "v2 cbor deflated": websocket_way(DIALECTS["v2 cbor deflated"]),
    "live": websocket_way(DIALECTS["live"]),
    "sse": stream_way,
    "poll": poll_way,
}


def can_enter(estate: Estate, way: str, credentials: Credentials, source: str = STRANGER) -> bool:
    try:
        with WAYS[way](estate, credentials, source):
            return True
    except (TurnedAway, Left):
        return False


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("then", WAYS)
def test_a_user_has_so_many_connections_in_all(few: Estate, first: str, then: str) -> None:
    """Of whatever kinds, by whatever credentials, from wherever; when one ends, another may come."""
    ways = [bearer(few.token("alice")), by_query(few.token("alice")), Credentials(("X-User-Id: alice",))]
    sources = [STRANGER, "127.0.0.9", GATEWAY]
    with ExitStack() as stack:
        for credentials, source in zip(ways[:2], sources, strict=False):
            stack.enter_context(WAYS[first](few, credentials, source))
        for credentials, source in zip(ways, sources, strict=True):
            assert not can_enter(few, then, credentials, source)
        assert can_enter(few, then, bearer(few.token("bob")))
        assert can_enter(few, then, bearer(few.token("alice", tier="mm")))  # whose limit is higher
    wait_until(lambda: can_enter(few, then, ways[0]), "a place")


def test_polls_of_a_user_are_connections_too(few: Estate) -> None:
    credentials = bearer(few.token("alice"))
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(poll_way(few, credentials, STRANGER))
        assert not can_enter(few, "poll", credentials)
        assert not can_enter(few, "v2", credentials)
        # What does not wait is no connection.
        target = "/poll?channels=ev:quiet&wait=0"
        assert few.ask("GET", target, *credentials.headers).status == 200
    wait_until(lambda: can_enter(few, "poll", credentials), "a place")


@dialects
def test_becoming_a_user_counts(few: Estate, dialect: Dialect) -> None:
    credentials, token = bearer(few.token("alice")), few.token("alice")
    with ExitStack() as stack:
        talks = [stack.enter_context(talking(few, dialect, NOBODY, f"127.0.0.{20 + n}")) for n in range(3)]
        assert [talk.authenticate(token).code for talk in talks] == [0, 0, 40004]
        assert talks[2].subscribe("fills").errors == {"fills": 40100}
        assert not can_enter(few, "v2", credentials)
        assert talks[0].authenticate(token) == Verdict(0, "alice")  # once more is no other
    wait_until(lambda: can_enter(few, "v2", credentials), "a place")


def test_a_user_has_so_many_channels_in_all(few: Estate) -> None:
    credentials = bearer(few.token("alice"))
    with talking(few, Dialect(), credentials) as one, talking(few, DIALECTS["live"], credentials) as other:
        assert not one.subscribe("ev:1", "ev:2").errors
        assert other.subscribe("ev:3", "ev:4").errors == {"ev:4": 40003}
        assert not one.subscribe("ev:1").errors  # has it already
        one.send({"method": "unsubscribe", "params": ["ev:1"], "id": 99})
        one.read_until(lambda value: value.get("id") == 99)
        assert not other.subscribe("ev:4").errors
        assert one.subscribe("ev:1").errors == {"ev:1": 40003}
    with talking(few, Dialect(), credentials) as again:
        wait_until(lambda: not again.subscribe("ev:1", "ev:2", "ev:3").errors, "the places of those who left")


# --- connections of an address ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_the_anonymous_are_counted_by_address(few: Estate, way: str) -> None:
    """Users are not, nor do they take the places of the others; who shows bad credentials is nobody."""
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(WAYS[way](few, NOBODY, STRANGER))
        assert not can_enter(few, way, NOBODY)
        assert can_enter(few, way, NOBODY, "127.0.0.7")
        assert can_enter(few, way, bearer(few.token("alice")))
        for spoof in ("X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "X-Real-IP: 192.0.2.1"):
            assert not can_enter(few, way, Credentials((spoof,)))
        assert not can_enter(few, way, Credentials(("X-User-Id: alice",)))
    wait_until(lambda: can_enter(few, way, NOBODY), "a place")


def said(*headers: str) -> Credentials:
    return Credentials(headers)


@pytest.mark.parametrize("way", ["v2", "live", "sse", "poll"])
def test_behind_a_proxy_they_are_counted_by_its_word(few: Estate, way: str) -> None:
    """Only the rightmost, which is what the proxy itself has seen."""
    hers = "192.0.2.1"
    with ExitStack() as stack:
        for line in (
            f"X-Forwarded-For: 198.51.100.1, {hers}",
            f'Forwarded: for=203.0.113.1, for="{hers}:4711"',
        ):
            stack.enter_context(WAYS[way](few, said(line), PROXY))
        for lines in (
            [f"X-Forwarded-For: {hers}"],
            [f"X-Forwarded-For: 192.0.2.9, {hers}"],
            [f"X-Forwarded-For: {hers}, {PROXY}"],
            ["X-Forwarded-For: 192.0.2.9", f"X-Forwarded-For: {hers}"],
            [f"x-forwarded-for:{hers}"],
            [f"Forwarded: For={hers};proto=http"],
            [f'Forwarded: for="[::ffff:{hers}]"'],
            [f"X-Forwarded-For: {hers}", f"Forwarded: for={hers}"],
        ):
            assert not can_enter(few, way, said(*lines), PROXY), lines
        for lines in (["X-Forwarded-For: 192.0.2.2"], [f"X-Forwarded-For: {hers}, 192.0.2.2"], []):
            assert can_enter(few, way, said(*lines), PROXY), lines
    wait_until(lambda: can_enter(few, way, said(f"X-Forwarded-For: {hers}"), PROXY), "a place")


def test_who_confuses_the_proxy_is_counted_as_it(few: Estate) -> None:
    """Two words that differ, and words that are none: never somebody else's address, never none at all."""
    odd = [
        ["X-Forwarded-For: unknown"],
        ["X-Forwarded-For: "],
        ["X-Forwarded-For: 192.0.2.1;"],
        ["X-Forwarded-For: 999.1.1.1"],
        ["Forwarded: for=_hidden"],
        ["Forwarded: for=unknown, for="],
        ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.2"],
        ["X_Forwarded_For: 192.0.2.1"],
    ]
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(WAYS["v2"](few, NOBODY, PROXY))
        for lines in odd:
            assert not can_enter(few, "v2", said(*lines), PROXY), lines
    wait_until(lambda: can_enter(few, "v2", NOBODY, PROXY), "a place")


def test_a_house_of_ipv6_is_one_address(few: Estate) -> None:
    with ExitStack() as stack:
        for number in range(2):
            line = f"X-Forwarded-For: 2001:db8:1:2::{number:x}"
            stack.enter_context(WAYS["v2"](few, said(line), PROXY))
        assert not can_enter(few, "v2", said('Forwarded: for="[2001:db8:1:2:ffff::1]:80"'), PROXY)
        assert can_enter(few, "v2", said("X-Forwarded-For: 2001:db8:1:3::1"), PROXY)


# --- failed logins ------------------------------------------------------------------------------------------


def test_failed_logins_are_limited(tmp_path_factory: pytest.TempPathFactory) -> None:
    """For an address; good credentials pass all the same, since others may have that address, and a key of 256
    bits is not guessed."""
    with open_estate(tmp_path_factory.mktemp("logins"), "limits.failed_logins_per_ip=0.1") as estate:
        estate.mark("alice")
        good, guesser = estate.token("alice"), "127.0.0.44"
        bad = ["Authorization: Bearer x.y.z", "Authorization: ApiKey guess"]
        statuses = []
        for number in range(20):
            statuses.append(estate.ask("GET", "/history/fills", bad[number % 2], source=guesser).status)
        first = statuses.index(429)
        assert first >= 1 and set(statuses[:first]) == {401} and set(statuses[first:]) == {429}
        for path in (
            "/history/fills",
            "/poll?channels=fills",
            "/sse?channels=fills",
            "/channels",
            "/snapshot/orders",
        ):
            for credentials in (bearer("x.y.z"), by_query("x"), by_query("x", "ticket"), api_key("guess")):
                fields = credentials.target(path).replace("?channels=fills?", "?channels=fills&")
                response = estate.ask("GET", fields, *credentials.headers, source=guesser)
                assert (response.status, response.json()["code"]) == (429, 40004)
                assert int(response.headers["retry-after"]) > 0
        for path in ("/v2", "/live"):
            with estate.peer(guesser) as peer:
                peer.send(upgrade_request(path, "Authorization: Bearer x.y.z"))
                assert peer.read_head()[0] == 429
        assert estate.ask("POST", "/ticket", "Authorization: Bearer x.y.z", source=guesser).status == 429
        assert estate.ask("POST", "/ticket", f"Authorization: Bearer {good}", source=guesser).status == 200
        assert estate.ask("GET", "/history/ev:1", source=guesser).status == 200
        assert estate.ask("GET", "/history/fills", f"Authorization: Bearer {good}").status == 200
        # Behind the proxy it is the client's address that counts, and the proxy's others are served.
        for _ in range(20):
            estate.ask("GET", "/history/fills", bad[0], "X-Forwarded-For: 192.0.2.1", source=PROXY)
        for client, status in (("192.0.2.1", 429), ("192.0.2.2", 401)):
            line = f"X-Forwarded-For: {client}"
            assert estate.ask("GET", "/history/fills", bad[0], line, source=PROXY).status == status


# --- nothing is left of those who left ----------------------------------------------------------------------

VISITS = 1000


@pytest.mark.parametrize("way", WAYS)
def test_a_thousand_visits_leave_no_trace(few: Estate, way: str) -> None:
    """By the limits of two at a time: of a user, and of an address."""
    mine, visits = bearer(few.token("alice")), VISITS // (1 if way != "poll" else 10)
    descriptors = few.hub.descriptors()
    for number in range(visits):
        credentials, source = (mine, STRANGER) if number % 2 else (NOBODY, "127.0.0.60")
        for _ in range(500):
            try:
                with WAYS[way](few, credentials, source) as held:
                    peer = held.peer if isinstance(held, Talk) else held
                    if number % 3:
                        peer.reset()
                    break
            except (TurnedAway, Left):  # the one before is just leaving
                continue
        else:
            pytest.fail(f"visit {number} was not let in")
    wait_until(lambda: few.hub.descriptors() <= descriptors + 3, "the descriptors")
    wait_until(lambda: few.look("/admin/connections")["total"] == 0, "the connections")
    with ExitStack() as stack:
        for credentials, source in (
            (mine, STRANGER),
            (mine, STRANGER),
            (NOBODY, "127.0.0.60"),
            (NOBODY, "127.0.0.60"),
        ):
            stack.enter_context(WAYS[way](few, credentials, source))


def test_half_visits_leave_no_trace(few: Estate) -> None:
    """Those who go at each stage of coming in, with good credentials and with bad ones."""
    good, bad = bearer(few.token("alice")), bearer("x.y.z")
    descriptors = few.hub.descriptors()
    for number in range(VISITS):
        credentials = (good, bad, NOBODY)[number % 3]
        with few.peer() as peer:
            head = upgrade_request(("/v2", "/live")[number % 2], *credentials.headers)
            peer.send(head[: len(head) * (number % 7) // 6])
            if number % 5 == 0:
                peer.reset()
    wait_until(lambda: few.hub.descriptors() <= descriptors + 3, "the descriptors")
    wait_until(lambda: few.look("/admin/connections")["total"] == 0, "the connections")
    for credentials in (good, NOBODY):
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(WAYS["v2"](few, credentials, STRANGER))
