"""From a real broker to users who say who they are: eight topics over ``/v2``, each user's own and nobody else's."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.auth.tokens import Issuer
from tests.hub_process import HubProcess, running_hub
from tests.kafka_broker.broker import KafkaBroker
from tests.wire.kafka_topics import CONFIG, ensure_topics

PATIENCE = 60.0
#: Not the markets of the other tests with this broker.
MARKET, OTHER_MARKET = "sol_tl", "avax_tl"
REFUSED = "Kafka records refused"

Frame = dict[str, Any]
Naming = Callable[[str], str]


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def hub(
    kafka_broker: KafkaBroker, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HubProcess]:
    ensure_topics(kafka_broker)
    key = tmp_path_factory.mktemp("keys") / "jwt.pem"
    key.write_text(issuer.public_pem)
    settings = (
        f"sources.kafka.bootstrap_servers={kafka_broker.bootstrap}",
        "sources.kafka.start=latest",
        f'auth.jwt_key_files=["{key}"]',
    )
    with running_hub(CONFIG, *settings) as hub:
        hub.expected_errors.add(REFUSED)
        yield hub


@pytest.fixture
def name() -> Naming:
    """Makes the id of a user whom no other test knows."""
    run = uuid.uuid4().hex[:8]
    return lambda who: f"{who}-{run}"


class Records:
    """Produces to one partition of each topic, so that what comes later is read later."""

    def __init__(self, broker: KafkaBroker) -> None:
        self._producer = broker.producer()

    def send(self, topic: str, key: str | None, *values: Any, **headers: str) -> None:
        """Values that are not bytes as JSON."""
        for value in values:
            raw = value if isinstance(value, bytes) else json.dumps(value).encode()
            self._producer.produce(topic, raw, key=key, partition=0, headers=dict(headers))
        assert self._producer.flush(PATIENCE) == 0


@pytest.fixture
def records(kafka_broker: KafkaBroker) -> Records:
    return Records(kafka_broker)


class Client:
    """One connection to ``/v2``. Frames are kept by channel until they are taken."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._frames: dict[str, list[Frame]] = {}
        self._ids = itertools.count(1)
        assert self._receive()["event"] == "connected"

    def _receive(self) -> Frame:
        frame: Frame = json.loads(self._connection.recv(PATIENCE))
        return frame

    def ask(self, method: str, channels: Sequence[str], **more: Any) -> Frame:
        """The answer."""
        request = next(self._ids)
        self._connection.send(json.dumps({"method": method, "params": channels, "id": request, **more}))
        while (frame := self._receive()).get("id") != request:
            self._keep(frame)
        return frame

    def subscribe(self, *channels: str, **more: Any) -> Frame:
        """What the answer says of the channels, all of which must be good."""
        answer = self.ask("subscribe", channels, **more)
        assert (answer["code"], answer["msg"]) == (0, "ok"), answer
        positions: Frame = answer["data"]["positions"]
        return positions

    def take(self, channel: str, count: int = 1) -> list[Frame]:
        """The channel's next frames, as many as that, waiting for them."""
        frames = self._frames.setdefault(channel, [])
        while len(frames) < count:
            self._keep(self._receive())
        self._frames[channel] = frames[count:]
        return frames[:count]

    def all_data(self) -> str:
        """What came and was not taken, and all that comes until the answer to a ping."""
        self.ask("ping", [])
        return json.dumps(self._frames)

    def _keep(self, frame: Frame) -> None:
        self._frames.setdefault(frame["ch"], []).append(frame)


@contextmanager
def connected(hub: HubProcess, token: str | None) -> Iterator[Client]:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    with connect(f"{hub.websocket_url}/v2", additional_headers=headers, proxy=None) as connection:
        yield Client(connection)


def order(number: str, market: str = MARKET, status: str = "new", **more: Any) -> Frame:
    figures = {"type": "limit", "side": "buy", "price": "10.50", "amount": "2.00", "filled": "0.00"}
    return {"orderId": number, "market": market, "status": status, **figures, **more}


def fill(number: int, market: str = MARKET) -> Frame:
    figures = {"side": "buy", "price": "10.50", "amount": "1.00", "fee": "-0.01", "feeAsset": "TL"}
    return {
        "tradeId": number,
        "orderId": "o1",
        "market": market,
        **figures,
        "isMaker": True,
        "ts": 1740000000000,
    }


def balance(asset: str, available: str, locked: str, total: str) -> Frame:
    return {"asset": asset, "available": available, "locked": locked, "total": total}


BOOK = {"bids": [["10.50", "2.00"], ["10.40", "1.00"]], "asks": [["10.60", "3.00"]]}
CHANGE = {"bids": [["10.40", "0.00"], ["10.45", "7.00"]], "asks": []}
CHANGED = {"bids": [["10.50", "2.00"], ["10.45", "7.00"]], "asks": [["10.60", "3.00"]]}
TRADE = {"tradeId": 1, "price": "10.50", "amount": "1.00", "side": "sell", "ts": 1740000000000}
TICKER = {"last": "10.50", "bid": "10.50", "ask": "10.60", "tradeCount": 7}
CANDLE = {"openTime": 1740000000000, "open": "10.00", "close": "10.50", "closed": False}
BBO = {"bid": "10.50", "bidQty": "2.00", "ask": "10.60", "askQty": "3.00"}


def send_everything(records: Records, user: str) -> None:
    """One record of each topic, and two of the book's."""
    records.send("ws.orderbook.delta", MARKET, {"type": "snapshot", "lastUpdateId": 41, "data": BOOK})
    records.send("ws.orderbook.delta", MARKET, {"type": "delta", "lastUpdateId": 42, "data": CHANGE})
    records.send("ws.trades", MARKET, [TRADE])
    records.send("ws.ticker", MARKET, TICKER)
    records.send("ws.kline", f"{MARKET}:1m", CANDLE)
    records.send("ws.bbo", MARKET, BBO)
    records.send("ws.orders", user, order("o1"))
    records.send("ws.fills", user, fill(1))
    records.send("ws.balances", user, balance("TL", "90.00", "10.50", "100.50"))


def state_of(data: Any) -> Any:
    """A frame's data without what tells that it is a book's."""
    return {"bids": data["bids"], "asks": data["asks"]} if isinstance(data, dict) and "bids" in data else data


def test_eight_topics_reach_a_user(hub: HubProcess, records: Records, issuer: Issuer, name: Naming) -> None:
    """As they happen, and as the state that a newcomer gets."""
    user = name("u")
    market = [
        f"{kind}@{MARKET}" for kind in ("orderbook", "orderbook.5", "trades", "ticker", "kline.1m", "bbo")
    ]
    own = ["orders", f"orders@{MARKET}", "fills", f"fills@{MARKET}", "balances"]
    with connected(hub, issuer.token(user)) as client:
        client.subscribe(*market)
        client.subscribe(*own)
        assert [client.take(channel)[0]["data"] for channel in ("orders", own[1], "balances")] == [[]] * 3
        assert client.take(f"trades@{MARKET}")[0]["data"] == []
        send_everything(records, user)
        book = client.take(f"orderbook@{MARKET}", 2)
        assert [frame["data"] for frame in book] == [BOOK, CHANGE]
        assert [frame["type"] for frame in book] == ["snapshot", "delta"]
        assert book[1]["seq"] == book[0]["seq"] + 1
        for channel, data in (
            (f"trades@{MARKET}", [TRADE]),
            (f"ticker@{MARKET}", TICKER),
            (f"kline.1m@{MARKET}", CANDLE),
            (f"bbo@{MARKET}", BBO),
            (f"orders@{MARKET}", order("o1")),
            (f"fills@{MARKET}", fill(1)),
            ("balances", balance("TL", "90.00", "10.50", "100.50")),
        ):
            assert client.take(channel)[0]["data"] == data, channel
        for whole in ("orders", "fills"):  # whose events came on the specific channel
            (covered,) = client.take(whole)
            assert (covered["seq"], covered["type"]) == (1, "covered")
            assert covered["data"] == {"channel": f"{whole}@{MARKET}"}
        while state_of(client.take(f"orderbook.5@{MARKET}")[0]["data"]) != CHANGED:
            pass

    with connected(hub, issuer.token(user)) as newcomer:
        positions = newcomer.subscribe(*market, *own)
        for channel, state in (
            (f"orderbook@{MARKET}", CHANGED),
            (f"orderbook.5@{MARKET}", CHANGED),
            (f"trades@{MARKET}", [TRADE]),
            (f"ticker@{MARKET}", TICKER),
            (f"kline.1m@{MARKET}", CANDLE),
            (f"bbo@{MARKET}", BBO),
            ("orders", [order("o1")]),
            (f"orders@{MARKET}", [order("o1")]),
            ("balances", [balance("TL", "90.00", "10.50", "100.50")]),
        ):
            (frame,) = newcomer.take(channel)
            assert state_of(frame["data"]) == state, channel
            assert frame["type"] == "snapshot"
            assert frame["snapshotSeq"] == frame["seq"] == positions[channel]["seq"]
        assert "fills" not in newcomer.all_data()


def test_everybody_has_their_own_alone(
    hub: HubProcess, records: Records, issuer: Issuer, name: Naming
) -> None:
    one, two = name("one"), name("two")
    own = ("orders", f"orders@{MARKET}", "fills", "balances")
    with (
        connected(hub, issuer.token(one)) as first,
        connected(hub, issuer.token(two)) as second,
        connected(hub, None) as nobody,
    ):
        answer = nobody.ask("subscribe", [*own, f"trades@{OTHER_MARKET}"])
        assert [error["code"] for error in answer["data"]["errors"]] == [40100] * len(own)
        for client in (first, second):
            client.subscribe(*own)
        for number in range(1, 4):
            records.send("ws.orders", one, order(f"{one}-{number}"))
            records.send("ws.fills", one, fill(number))
        records.send("ws.balances", one, balance("TL", "1", "0", "1"))
        records.send("ws.orders", two, order(f"{two}-1"))
        records.send("ws.fills", two, fill(9))
        records.send("ws.balances", two, balance("BTC", "2", "0", "2"))

        mine = first.take(f"orders@{MARKET}", 4)[1:]
        assert [(frame["seq"], frame["data"]["orderId"]) for frame in mine] == [
            (number, f"{one}-{number}") for number in range(1, 4)
        ]
        assert [frame["seq"] for frame in first.take("fills", 3)] == [1, 2, 3]
        (theirs,) = second.take(f"orders@{MARKET}", 2)[1:]
        assert (theirs["seq"], theirs["data"]["orderId"]) == (1, f"{two}-1")
        assert [frame["data"]["tradeId"] for frame in second.take("fills")] == [9]
        assert second.take("balances", 2)[1]["data"]["asset"] == "BTC"
        assert one not in second.all_data()
        assert two not in first.all_data()
        assert "o1" not in nobody.all_data()


def test_the_open_orders_are_those_that_are_still_open(
    hub: HubProcess, records: Records, issuer: Issuer, name: Naming
) -> None:
    user = name("u")
    with connected(hub, issuer.token(user)) as client:
        client.subscribe("orders")
        records.send(
            "ws.orders",
            user,
            order("o1"),
            order("o2", OTHER_MARKET),
            order("o3"),
            order("o1", status="filled", filled="2.00"),
            order("o3", status="partially_filled", filled="1.00"),
        )
        assert [frame["seq"] for frame in client.take("orders", 6)] == [0, 1, 2, 3, 4, 5]
        client.subscribe(f"orders@{MARKET}", f"orders@{OTHER_MARKET}")
        (here,) = client.take(f"orders@{MARKET}")
        (there,) = client.take(f"orders@{OTHER_MARKET}")
    assert here["data"] == [order("o3", status="partially_filled", filled="1.00")]
    assert there["data"] == [order("o2", OTHER_MARKET)]
    assert (here["seq"], there["seq"]) == (4, 1)


def test_a_user_who_was_away_gets_what_they_missed(
    hub: HubProcess, records: Records, issuer: Issuer, name: Naming
) -> None:
    """Private channels are resumed from the buffer, each user from their own."""
    user, other = name("u"), name("other")
    with connected(hub, issuer.token(user)) as client:
        positions = client.subscribe("orders", "fills")
        records.send("ws.orders", user, order("o1"))
        records.send("ws.fills", user, fill(1))
        client.take("orders", 2)
        client.take("fills")
    epochs = {channel: position["epoch"] for channel, position in positions.items()}
    records.send("ws.orders", user, order("o1", status="cancelled"))
    records.send("ws.fills", user, fill(2), fill(3, OTHER_MARKET))
    records.send("ws.fills", other, fill(7))
    last = {channel: {"seq": 1, "epoch": epoch} for channel, epoch in epochs.items()}
    with connected(hub, issuer.token(user)) as client:
        client.subscribe("orders", "fills", lastSeq=last)
        (cancelled,) = client.take("orders")
        assert (cancelled["seq"], cancelled["data"]["status"]) == (2, "cancelled")
        missed = client.take("fills", 2)
        assert [(frame["seq"], frame["data"]["tradeId"]) for frame in missed] == [(2, 2), (3, 3)]
    with connected(hub, issuer.token(other)) as thief:
        thief.subscribe("orders", "fills", lastSeq=last)
        records.send("ws.fills", other, fill(8))
        while thief.take("fills")[-1].get("data", {}).get("tradeId") != 8:
            pass
        assert "o1" not in thief.all_data()


def refused_counts(hub: HubProcess) -> dict[str, float]:
    text = httpx.get(f"{hub.admin_url}/metrics", trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith("hub_source_records_refused_total{")]
    return {line.split('topic="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


POISON: dict[str, list[tuple[str | None, Any]]] = {
    "ws.trades": [
        (OTHER_MARKET, {"price": "1.00"}),
        (OTHER_MARKET, [{"price": 1.5}]),
        (OTHER_MARKET, [{"side": "both"}]),
        (OTHER_MARKET, b"[{"),
        ("nope_tl", [TRADE]),
        (None, [TRADE]),
    ],
    "ws.orderbook.delta": [
        (OTHER_MARKET, {"bids": [["x", "1"]]}),
        (OTHER_MARKET, {"data": BOOK, "type": "delta", "lastUpdateId": "41"}),
        (OTHER_MARKET, {"bids": [["1", "1", "1"]]}),
        (OTHER_MARKET, []),
    ],
    "ws.ticker": [(OTHER_MARKET, {"last": 10.5}), (OTHER_MARKET, [TICKER])],
    "ws.kline": [
        (f"{OTHER_MARKET}:1m", {"open": "1"}),
        (f"{OTHER_MARKET}:7m", CANDLE),
        (OTHER_MARKET, CANDLE),
    ],
    "ws.bbo": [(OTHER_MARKET, {"bid": "-1"})],
    "ws.orders": [
        ("{user}", {"market": OTHER_MARKET}),
        ("{user}", order("o1", OTHER_MARKET, "flying")),
        ("{user}", order("o1", OTHER_MARKET, price=10.5)),
        (None, order("o1", OTHER_MARKET)),
    ],
    "ws.fills": [("{user}", {"market": 5}), ("{user}", "nothing")],
    "ws.balances": [("{user}", balance("TL", "1", "1", "3")), ("{user}", {"available": "1"})],
    "hub.events": [(f"orderbook.5@{OTHER_MARKET}", BOOK), ("nowhere", 1), ("orders", order("o1"))],
}
GOOD: dict[str, tuple[str, Any, str]] = {
    "ws.trades": (OTHER_MARKET, [TRADE], f"trades@{OTHER_MARKET}"),
    "ws.orderbook.delta": (OTHER_MARKET, CHANGE, f"orderbook@{OTHER_MARKET}"),
    "ws.ticker": (OTHER_MARKET, TICKER, f"ticker@{OTHER_MARKET}"),
    "ws.kline": (f"{OTHER_MARKET}:1m", CANDLE, f"kline.1m@{OTHER_MARKET}"),
    "ws.bbo": (OTHER_MARKET, BBO, f"bbo@{OTHER_MARKET}"),
    "ws.orders": ("{user}", order("o2", OTHER_MARKET), f"orders@{OTHER_MARKET}"),
    "ws.fills": ("{user}", fill(1, OTHER_MARKET), f"fills@{OTHER_MARKET}"),
    "ws.balances": ("{user}", balance("TL", "1", "1", "2"), "balances"),
}


def test_poison_takes_no_number(hub: HubProcess, records: Records, issuer: Issuer, name: Naming) -> None:
    """It is counted, told with its place, and skipped; what follows it has the next number."""
    user = name("u")
    before = refused_counts(hub)
    channels = [channel for _, _, channel in GOOD.values()]
    with connected(hub, issuer.token(user)) as client:
        heads = {channel: position["seq"] for channel, position in client.subscribe(*channels).items()}
        for topic, poison in POISON.items():
            for key, value in poison:
                records.send(topic, user if key == "{user}" else key, value, traceId="t-1")
        for topic, (key, value, channel) in GOOD.items():
            records.send(topic, user if key == "{user}" else key, value)
            frame = client.take(channel)[0]
            while frame["seq"] == heads[channel]:  # the state that a newcomer gets
                (frame,) = client.take(channel)
            assert (frame["seq"], frame["data"]) == (heads[channel] + 1, value), channel
    records.send("hub.events", "job:after-poison", 1)
    query = {"channels": "job:after-poison", "lastSeq": '{"job:after-poison":0}'}
    assert httpx.get(f"{hub.public_url}/poll", params=query, timeout=PATIENCE, trust_env=False).json()[
        "events"
    ]
    after = refused_counts(hub)
    assert {topic: after[topic] - before.get(topic, 0) for topic in after} == {
        topic: len(poison) for topic, poison in POISON.items()
    }
    told = [line for line in hub.log if line.get("event") == REFUSED]
    assert {line["topic"] for line in told} == set(POISON)
    for line in told:
        assert line["partition"] == 0 and line["offset"] >= 0 and line["count"] >= 1 and line["reason"]
        assert line["traceId"] == "t-1"
