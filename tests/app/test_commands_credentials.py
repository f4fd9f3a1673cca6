"""``hub tail`` of channels that are not for everybody: credentials of the environment, and what becomes of them."""

from __future__ import annotations

import datetime
import json
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from hub.app.cli import main
from hub.app.commands.endings import Ending
from hub.app.commands.tail import PATHS, authorization
from hub.app.settings.problems import ConfigurationError
from hub.auth.key_file import ApiKey, change_keys, hash_key, make_key
from hub.auth.settings import AuthSettings
from hub.core.broker import Broker
from hub.core.session import Farewell
from hub.sansio.errors import CloseCode
from tests.app.following import Network, Told, open_hub, wait_for
from tests.auth.tokens import Issuer
from tests.hub_process import running_hub

transports = pytest.mark.parametrize("transport", list(PATHS))


@attrs.frozen
class Login:
    """A hub's settings, and credentials that it takes."""

    issuer: Issuer
    settings: AuthSettings
    key: str

    def headers(self, kind: str, user: str = "alice", **claims: Any) -> dict[str, str]:
        variable, credentials = ("HUB_API_KEY", self.key)
        if kind == "token":
            variable, credentials = ("HUB_TOKEN", self.issuer.token(user, **claims))
        return dict(authorization("http://hub.test", {variable: credentials}))


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Login:
    folder, issuer, key = tmp_path_factory.mktemp("login"), Issuer("ES256"), make_key()
    pem, keys = folder / "issuer.pem", folder / "keys.toml"
    pem.write_text(issuer.public_pem)
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    entry = ApiKey(id="k_00000001", hash=hash_key(key), user="alice", tier="retail", created=now)
    change_keys(keys, lambda _: [entry])
    settings = AuthSettings(jwt_algorithms=("ES256",), jwt_key_files=(str(pem),), api_key_file=str(keys))
    return Login(issuer, settings, key)


ORDER = b'{"market":"btc_tl","orderId":"%d"}'


@transports
@pytest.mark.parametrize("kind", ["token", "key"])
async def test_what_is_ones_own_is_followed_over_connections_that_break(
    transport: str, kind: str, login: Login, autojump_clock: trio.testing.MockClock
) -> None:
    """Each connection shows the credentials; nothing of them is told or said."""
    told = Told()
    async with (
        open_hub(login.settings) as (broker, url),
        Network(url, [2000, 300, 1500, 2000]).open() as address,
        trio.open_nursery() as nursery,
    ):
        headers = login.headers(kind)
        follower = told.follower("orders", headers=headers)
        nursery.start_soon(follower.run, partial(PATHS[transport], address))
        await wait_for(lambda: "connected" in told.said)
        for number in range(20):
            broker.publish("orders", ORDER % number, user="alice")
            broker.publish("orders", ORDER % -number, user="bob")
            await trio.sleep(3.0)
        await wait_for(lambda: len(told.events) >= 20)
        assert [event["data"]["orderId"] for event in told.events] == [str(number) for number in range(20)]
        assert any("connection lost" in words for words in told.said) or transport == "sse"
        assert told.said.count("connected") > 1
        assert not any(headers["authorization"].split()[1] in words for words in told.said)
        nursery.cancel_scope.cancel()


@transports
@pytest.mark.parametrize(
    "claims, code, reason",
    [
        ({}, CloseCode.UNAUTHENTICATED, "auth required (40100)"),
        ({"user": "alice", "expires_in": -3600}, CloseCode.UNAUTHENTICATED, "token expired"),
        ({"user": "alice", "issuer": Issuer("ES256")}, CloseCode.UNAUTHENTICATED, "invalid token"),
        ({"user": "alice", "channel": "staff:1"}, None, "staff:1: insufficient permissions (40102)"),
    ],
    ids=["nobody", "expired", "forged", "not for this one"],
)
async def test_credentials_that_are_not_taken_end_it(
    transport: str, claims: dict[str, Any], code: int | None, reason: str, login: Login,
    autojump_clock: trio.testing.MockClock,
) -> None:  # fmt: skip
    """Once and for all: the same credentials would be refused again."""
    claims = dict(claims)
    told, channel = Told(), claims.pop("channel", "orders")
    who = attrs.evolve(login, issuer=claims.pop("issuer", login.issuer))
    headers = who.headers("token", **claims) if claims else {}
    async with open_hub(login.settings) as (_, url), Network(url).open() as address:
        ending = await told.follower(channel, headers=headers).run(partial(PATHS[transport], address))
    assert ending.is_final and ending.code == code
    assert reason in ending.reason
    assert told.said in ([], ["connected"])


@transports
async def test_credentials_that_end_meanwhile(
    transport: str, login: Login, autojump_clock: trio.testing.MockClock
) -> None:
    """The hub's warning is said, its farewell is final; neither is told as an event."""
    told = Told()
    async with open_hub(login.settings) as (broker, url), trio.open_nursery() as nursery:
        wall = broker.now_ms
        broker.now_ms = lambda: wall() + int(trio.current_time() * 1000)
        headers = login.headers("token", expires_in=120)
        endings: list[Ending] = []

        async def follow() -> None:
            endings.append(await told.follower("orders", headers=headers).run(partial(PATHS[transport], url)))

        nursery.start_soon(follow)
        await wait_for(lambda: "connected" in told.said)
        if transport == "poll":  # whose every request is judged, by a clock that is not the test's
            broker.publish("orders", ORDER % 1, user="alice")
            await wait_for(lambda: told.events)
            nursery.cancel_scope.cancel()
        else:
            await wait_for(lambda: endings)
            (ending,) = endings
            assert (ending.code, ending.is_final) == (CloseCode.UNAUTHENTICATED, True)
            assert "token expired (4003)" in ending.reason
            assert told.events == []
            assert (
                len([words for words in told.said if words.startswith("the credentials expire at 20")]) == 1
            )
            assert told.said[-1].startswith("the credentials expire at 20")


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_who_is_revoked_stays_away(
    transport: str, login: Login, autojump_clock: trio.testing.MockClock
) -> None:
    told = Told()
    async with open_hub(login.settings) as (broker, url), trio.open_nursery() as nursery:
        nursery.start_soon(_revoke, broker)
        follower = told.follower("orders", headers=login.headers("key"))
        ending = await follower.run(partial(PATHS[transport], url))
        assert (ending.code, ending.is_final) == (CloseCode.UNAUTHENTICATED, True)
        assert "token_revoked" in ending.reason and told.said == ["connected"]


async def _revoke(broker: Broker) -> None:
    await wait_for(lambda: any(session.subscriptions for session in broker.sessions.values()))
    await trio.sleep(1)
    for session in list(broker.sessions.values()):
        session.disconnect(Farewell(4003, "token_revoked"))


@transports
async def test_an_event_of_a_whole_and_its_part_is_told_once(
    transport: str, login: Login, autojump_clock: trio.testing.MockClock
) -> None:
    """What is covered counts for the progress alone: nobody sees it, nor does it count as one of `--count`."""
    told = Told()
    async with (
        open_hub(login.settings) as (broker, url),
        Network(url, [3000, 2500, 2000]).open() as address,
        trio.open_nursery() as nursery,
    ):
        endings: list[Ending] = []

        async def follow() -> None:
            follower = told.follower("orders", "orders@btc_tl", count=20, headers=login.headers("token"))
            endings.append(await follower.run(partial(PATHS[transport], address)))

        nursery.start_soon(follow)
        await wait_for(lambda: "connected" in told.said)
        for number in range(20):
            broker.publish("orders", ORDER % number, user="alice")
            await trio.sleep(3.0)
        await wait_for(lambda: endings)
    assert [event["data"]["orderId"] for event in told.events] == [str(number) for number in range(20)]
    assert {event["event"] for event in told.events} == {"message"}


@pytest.mark.parametrize("transport", ["sse", "poll"])
async def test_credentials_are_for_one_hub(
    transport: str, login: Login, autojump_clock: trio.testing.MockClock
) -> None:
    """A redirect is no hub's answer: nobody it names is asked, least of all with credentials."""
    asked: list[str] = []

    async def redirect(stream: trio.SocketStream) -> None:
        head = bytes(await stream.receive_some(65536))
        asked.append(head.split(b" ", 2)[1].decode())
        place = f"http://{stream.socket.getsockname()[0]}:{stream.socket.getsockname()[1]}/elsewhere"
        answer = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"
        await stream.send_all(answer.encode())

    async with trio.open_nursery() as nursery:
        serve: Any = partial(trio.serve_tcp, redirect, 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        follower = Told().follower("orders", headers=login.headers("token"))
        ending = await follower.run(partial(PATHS[transport], url))
        assert ending.is_final and "HTTP 307" in ending.reason
        assert len(asked) == 1 and not asked[0].startswith("/elsewhere")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "environ, header",
    [
        ({}, {}),
        ({"HUB_TOKEN": "", "HUB_API_KEY": " "}, {}),
        ({"HUB_TOKEN": "a.b.c\n"}, {"authorization": "Bearer a.b.c"}),
        ({"HUB_API_KEY": "hk_x"}, {"authorization": "ApiKey hk_x"}),
        ({"HUB_TOKEN": "", "HUB_API_KEY": "hk_x"}, {"authorization": "ApiKey hk_x"}),
    ],
)
def test_credentials_of_the_environment(environ: dict[str, str], header: dict[str, str]) -> None:
    assert authorization("http://hub.test", environ) == header


@pytest.mark.parametrize(
    "url, environ",
    [
        ("http://hub.test", {"HUB_TOKEN": "s3cr3t", "HUB_API_KEY": "s3cr3t"}),
        ("http://hub.test", {"HUB_TOKEN": "s3cr3t s3cr3t"}),
        ("http://hub.test", {"HUB_TOKEN": "s3cr3t\r\nX-User-Id: bob"}),
        ("http://hub.test", {"HUB_API_KEY": "s3cr3t\u00e4"}),
        ("http://user:pass@hub.test", {"HUB_TOKEN": "s3cr3t"}),
    ],
)
def test_credentials_that_cannot_be_any_are_not_repeated(url: str, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        authorization(url, environ)
    assert "s3cr3t" not in str(refused.value) and "HUB_" in str(refused.value)


@transports
def test_the_exit_status_of_who_may_not(
    transport: str, login: Login, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As a shell sees it, with a hub of its own process and a token that it does not take."""
    monkeypatch.delenv("HUB_API_KEY", raising=False)
    settings = [
        f"auth.jwt_key_files={json.dumps(login.settings.jwt_key_files)}",
        'auth.jwt_algorithms=["ES256"]',
    ]
    with running_hub(None, *settings) as hub:
        command = ["tail", hub.public_url, "orders", "--transport", transport]
        for token, reason, advice in (
            (Issuer("ES256").token("alice"), "invalid token", "the credentials are those in HUB_TOKEN"),
            (
                login.issuer.token("alice", expires_in=-3600),
                "token expired",
                "the credentials are those in HUB_TOKEN",
            ),
            ("", "auth required (40100)", "set HUB_TOKEN or HUB_API_KEY"),
        ):
            monkeypatch.setenv("HUB_TOKEN", token)
            assert main(command) == 1
            out, err = capfd.readouterr()
            assert out == "" and reason in err and err.endswith(f"; {advice}\n")
            assert not token or token not in err
            assert "reconnecting" not in err
        monkeypatch.setenv("HUB_TOKEN", "two words")
        assert main(command) == 2
        assert capfd.readouterr().err == "HUB_TOKEN: expected printable ASCII without spaces\n"
        assert "eyJ" not in "\n".join(hub.raw_log)
