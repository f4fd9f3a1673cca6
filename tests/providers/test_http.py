"""First states from a real server that is slow, fails first, answers junk, answers too much."""

from __future__ import annotations

import gc
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from hub.core.contracts import SnapshotProvider, SnapshotUnavailable
from hub.providers import HttpSnapshots, ProviderSettings
from tests.providers.backend import (
    Answer,
    BackEnd,
    cut,
    cut_short,
    endless,
    gibberish,
    late,
    ok,
    open_backend,
    text,
)

STATE = b'[{"orderId":"1"}]'
SECRET = "Bearer correct-horse"


@asynccontextmanager
async def open_pair(*script: Answer, **settings: Any) -> AsyncIterator[tuple[BackEnd, HttpSnapshots]]:
    provider = HttpSnapshots(ProviderSettings(**settings), jitter=lambda: 0.0)
    async with open_backend(*script) as backend, provider:
        yield backend, provider


async def refusal(provider: HttpSnapshots, url: str) -> str:
    with pytest.raises(SnapshotUnavailable) as refused, trio.fail_after(5):
        await provider.fetch(url)
    return str(refused.value)


def test_it_is_what_the_core_asks_for() -> None:
    provider: SnapshotProvider = HttpSnapshots(ProviderSettings())
    assert callable(provider.fetch)


async def test_a_state(clock: MockClock) -> None:
    async with open_pair(ok(), headers={"Authorization": SECRET}) as (backend, provider):
        with trio.fail_after(5):
            assert await provider.fetch(f"{backend.url}/open?user=a%2Fb%20c") == STATE
        (request,) = backend.requests
        head = request.decode().lower().split("\r\n")
        assert head[0] == "get /open?user=a%2fb%20c http/1.1"
        assert f"authorization: {SECRET.lower()}" in head
        assert {"accept: application/json", "accept-encoding: identity"} <= set(head)
        assert provider.statistics().answered == 1


async def test_line_breaks_are_taken_out(clock: MockClock) -> None:
    async with open_pair(ok(b'[\n {"amount": "1.10"}\n]\n')) as (backend, provider):
        assert await provider.fetch(backend.url) == b'[{"amount":"1.10"}]'


async def test_nothing_is_an_empty_list(clock: MockClock) -> None:
    async with open_pair(text("204 No Content")) as (backend, provider):
        assert [await provider.fetch(backend.url) for _ in range(3)] == [b"[]"] * 3
        assert backend.connections == 1


async def test_cookies_of_one_answer_do_not_go_with_the_next_request(clock: MockClock) -> None:
    async with open_pair(ok(STATE, "set-cookie: session=alice; path=/")) as (backend, provider):
        for user in ("alice", "bob"):
            assert await provider.fetch(f"{backend.url}/open?user={user}") == STATE
        assert [b"cookie" in head.lower() for head in backend.requests] == [False, False]


@pytest.mark.parametrize(
    "status", ["404 Not Found", "401 Unauthorized", "429 Too Many Requests", "302 Found", "201 Created"]
)
async def test_what_another_try_would_not_mend(clock: MockClock, status: str) -> None:
    answer = text(status, STATE, "location: http://127.0.0.1:1/", "retry-after: 1")
    async with open_pair(answer, headers={"authorization": SECRET}) as (backend, provider):
        why = await refusal(provider, f"{backend.url}/open/u1?user=u1")
        assert why == f"{backend.url.removeprefix('http://')}: HTTP {status[:3]}"
        assert len(backend.requests) == 1
        assert provider.statistics().failed["refused"] == 1


@pytest.mark.parametrize(
    "trouble",
    [text("500 Oops", b"x"), text("503 Service Unavailable"), cut, cut_short, gibberish],
    ids=["500", "503", "cut", "cut short", "gibberish"],
)
async def test_what_fails_first_is_asked_again(clock: MockClock, trouble: Answer) -> None:
    async with open_pair(trouble, trouble, ok()) as (backend, provider):
        with trio.fail_after(5):
            assert await provider.fetch(f"{backend.url}/open") == STATE
        assert [later - backend.times[0] for later in backend.times] == pytest.approx([0, 0.1, 0.3], abs=0.01)
        statistics = provider.statistics()
        assert (statistics.retried, statistics.answered, statistics.waiting) == (2, 1, 0)


async def test_no_more_tries_than_the_deadline_allows(clock: MockClock) -> None:
    """The reason comes at once, when there is no time for another try, and not when the time is up."""
    async with open_pair(text("503 Service Unavailable")) as (backend, provider):
        begin = trio.current_time()
        with pytest.raises(SnapshotUnavailable, match="HTTP 503"), trio.fail_after(1.0):
            await provider.fetch(backend.url)
        assert len(backend.requests) == 4
        assert trio.current_time() - begin == pytest.approx(0.7, abs=0.01)
        assert provider.statistics().failed["away"] == 1


async def test_tries_come_to_an_end_without_a_deadline(clock: MockClock) -> None:
    async with open_pair(text("500 Oops")) as (backend, provider):
        with pytest.raises(SnapshotUnavailable, match="HTTP 500"):
            await provider.fetch(backend.url)
        assert len(backend.requests) == 6


async def test_nobody_is_there(clock: MockClock) -> None:
    async with open_pair(ok()) as (_, provider), open_backend(ok()) as gone:
        address = gone.url
    async with HttpSnapshots(ProviderSettings()) as provider:
        assert "ConnectError" in await refusal(provider, f"{address}/open?user=u1&key=secret")


async def test_a_back_end_that_is_too_slow(clock: MockClock) -> None:
    """Its connection is not left behind: with one connection for all, the next fetch would wait for ever."""
    async with open_pair(late(60, ok()), ok(), connections=1) as (backend, provider):
        with trio.move_on_after(5) as patience:
            await provider.fetch(backend.url)
        assert patience.cancelled_caught
        assert provider.statistics().failed["slow"] == 1
        with trio.fail_after(5):
            assert await provider.fetch(backend.url) == STATE
        assert backend.connections == 2


async def test_a_slow_answer_within_the_time_is_taken(clock: MockClock) -> None:
    async with open_pair(late(4.9, ok())) as (backend, provider):
        with trio.fail_after(5):
            assert await provider.fetch(backend.url) == STATE
        assert len(backend.requests) == 1


async def test_who_leaves_is_not_counted_as_slowness(clock: MockClock) -> None:
    async with open_pair(late(60, ok())) as (backend, provider), trio.open_nursery() as nursery:
        nursery.start_soon(provider.fetch, backend.url)
        await trio.sleep(1)
        assert provider.statistics().waiting == 1
        nursery.cancel_scope.cancel()
    assert provider.statistics().failed["slow"] == provider.statistics().waiting == 0


@pytest.mark.parametrize(
    "answer, why",
    [
        (ok(b""), "invalid JSON"),
        (ok(b"<html>hello</html>"), "invalid JSON"),
        (ok(b"[NaN]"), "invalid JSON"),
        (ok(b"\xff"), "invalid JSON"),
        (ok(b"[" * 65 + b"]" * 65), "nested deeper"),
        (ok(b"[]", "content-encoding: gzip"), "an encoded answer"),
        (ok(b'"' + b"x" * 5000 + b'"'), "more than 4096 bytes"),
        (endless, "more than 4096 bytes"),
    ],
    ids=["nothing", "html", "nan", "no utf-8", "deep", "encoded", "large", "endless"],
)
async def test_junk(clock: MockClock, answer: Answer, why: str) -> None:
    async with open_pair(answer, ok(), answer_size=4096, connections=1) as (backend, provider):
        assert why in await refusal(provider, backend.url)
        assert len(backend.requests) == 1
        assert provider.statistics().failed["bad"] == 1
        assert await provider.fetch(backend.url) == STATE
    gc.collect()  # nothing was left to the garbage collector, which would complain


async def test_connections_are_bounded_and_used_again(clock: MockClock) -> None:
    async with open_pair(late(1, ok()), connections=3) as (backend, provider):
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(provider.fetch, backend.url)
        assert (backend.connections, backend.most_open) == (3, 3)
        assert trio.current_time() - begin == pytest.approx(3, abs=0.1)


async def test_many_cancelled_at_once_leave_nothing_behind(clock: MockClock) -> None:
    async with open_pair(*[late(60, ok())] * 12, ok(), connections=4) as (backend, provider):
        for _ in range(3):
            with trio.move_on_after(1):
                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(provider.fetch, backend.url)
        with trio.fail_after(5):
            assert await provider.fetch(backend.url) == STATE
        assert provider.statistics().waiting == 0


async def test_a_certificate_nobody_signed(clock: MockClock) -> None:
    async with open_pair(gibberish) as (backend, provider):
        url = backend.url.replace("http:", "https:")
        assert await refusal(provider, url)


def test_whom_to_trust_can_be_told() -> None:
    assert HttpSnapshots(ProviderSettings(), tls=ssl.create_default_context()).statistics().answered == 0


async def test_what_is_no_url(clock: MockClock) -> None:
    async with HttpSnapshots(ProviderSettings()) as provider:
        assert "no URL" in await refusal(provider, "http://[::1/x")
