"""``POST /ticket``: for who has shown credentials, and not for who has shown a ticket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from hub.app.front.tickets import BODY_SECONDS, TicketHandler
from hub.core.contracts import Exchange
from hub.sansio.identity import Identity
from tests.wire.front_port import ALICE, Doorman, Served, serving
from tests.wire.rawpeer import Response, request

ALICES = "Authorization: Bearer alice"


@attrs.define
class Office:
    issued: list[Identity] = attrs.field(factory=list)
    was_asked: trio.Event = attrs.field(factory=trio.Event)

    def issue(self, identity: Identity) -> tuple[str, float]:
        self.issued.append(identity)
        return f"t+{len(self.issued)}/=", 30.0


@asynccontextmanager
async def serving_tickets() -> AsyncIterator[tuple[Served, Office]]:
    office = Office()
    handler = TicketHandler(office.issue)

    async def handle(exchange: Exchange) -> None:
        office.was_asked.set()
        await handler.handle(exchange)

    async with serving(authenticator=Doorman()) as served:
        served.port.mount_http("POST", "/ticket", handle)
        yield served, office


def check_refusal(response: Response, status: int, code: int) -> None:
    assert (response.status, response.json()["code"]) == (status, code) and response.json()["msg"]


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 1024])
async def test_a_user_gets_one(mock_clock: MockClock, body: bytes) -> None:
    async with serving_tickets() as (served, office):
        response = await served.ask(request("POST", "/ticket", ALICES, "Accept-Encoding: gzip", body=body))
        assert response.json() == {"ticket": "t+1/=", "expiresIn": 30, "url": "/sse?ticket=t%2B1%2F%3D"}
        assert response.headers["cache-control"] == "no-store"
        assert "content-encoding" not in response.headers
        assert office.issued == [ALICE]


async def test_who_gets_none(mock_clock: MockClock) -> None:
    async with serving_tickets() as (served, office), served.client() as client:
        check_refusal(await client.ask(request("POST", "/ticket")), 401, 40100)
        check_refusal(await client.ask(request("POST", "/ticket", "Authorization: Bearer none")), 401, 40100)
        check_refusal(await client.ask(request("POST", "/ticket", "Authorization: Bearer old")), 401, 40101)
        for query in ("ticket=t", "a=1&ticket=", "%74icket=t"):
            check_refusal(await client.ask(request("POST", f"/ticket?{query}", ALICES)), 403, 40102)
        check_refusal(await client.ask(request("GET", "/ticket", ALICES)), 405, 40006)
        assert office.issued == []
        assert (await client.ask(request("POST", "/ticket", ALICES))).status == 200


async def test_a_body_is_small_and_comes_soon(mock_clock: MockClock) -> None:
    async with serving_tickets() as (served, office):
        check_refusal(await served.ask(request("POST", "/ticket", ALICES, body=b"x" * 1025)), 413, 40005)
        office.was_asked = trio.Event()
        async with served.client() as client:
            await client.stream.send_all(request("POST", "/ticket", ALICES, "Content-Length: 2") + b"x")
            await office.was_asked.wait()
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(BODY_SECONDS)
            check_refusal(await client.read_response(), 408, 40005)
        assert office.issued == []
