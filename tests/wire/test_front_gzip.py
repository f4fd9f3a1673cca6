"""Whole answers are compressed for who takes that."""

from __future__ import annotations

import gzip
import json
import random
import zlib

import httpx
import pytest
import trio
from trio.testing import MockClock

from hub.app.front import compression
from hub.core.contracts import Exchange
from tests.wire.front_port import Served, serving
from tests.wire.rawpeer import Response, request

SMALL = json.dumps(list(range(100))).encode()
LARGE = json.dumps(list(range(1000))).encode()
HUGE = json.dumps(random.Random(1).choices(range(10**6), k=30_000)).encode()
ETAG = '"abc"'
BODIES = {"/small": SMALL, "/large": LARGE, "/huge": HUGE}


@pytest.mark.parametrize(
    "accepted, is_gzip",
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip;q=0.001", True),
        ("gzip; q=0.5", True),
        ("gzip;Q=1.000", True),
        ("*", True),
        ("deflate, *;q=0.5", True),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("identity;q=0, gzip;q=0.1", True),
        ("", False),
        ("identity", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *", False),
        ("*;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("gzip;q=2", False),
        ("gzip;q=-1", False),
        ("gzip;q=", False),
        ("gzip;q=nan", False),
        ("gzip;level=9", False),
        ("gzipped", False),
        (",;,=;q", False),
    ],
)
def test_accept_encoding(accepted: str, is_gzip: bool) -> None:
    assert compression.accepts_gzip(accepted) == is_gzip


@pytest.mark.parametrize(
    "content_type, is_text",
    [
        ("application/json", True),
        ("text/html; charset=utf-8", True),
        ("text/css", True),
        ("text/javascript; charset=utf-8", True),
        ("text/plain; version=0.0.4", True),
        ("image/svg+xml", True),
        ("text/event-stream", False),
        ("image/png", False),
        ("application/octet-stream", False),
    ],
)
def test_types(content_type: str, is_text: bool) -> None:
    assert compression.is_compressible(200, 2000, {"content-type": content_type}) == is_text


@pytest.mark.parametrize(
    "status, size, encoding", [(200, 1023, ""), (404, 2000, ""), (304, 0, ""), (200, 2000, "br")]
)
def test_what_is_left_as_it_is(status: int, size: int, encoding: str) -> None:
    headers = {"content-type": "application/json", **({"content-encoding": encoding} if encoding else {})}
    assert not compression.is_compressible(status, size, headers)


# --- at the port ----------------------------------------------------------------------------------------------


async def answer(exchange: Exchange) -> None:
    if exchange.request.headers.get("if-none-match", "").removeprefix("W/") == ETAG:
        await exchange.respond(304, b"", {"etag": ETAG})
    else:
        await exchange.respond(200, BODIES[exchange.request.path], {"etag": ETAG})


def mount_bodies(served: Served) -> None:
    for path in BODIES:
        served.port.mount_http("GET", path, answer)
        served.port.mount_http("HEAD", path, answer)


def ask(method: str, path: str, accepted: str | None, *headers: str) -> bytes:
    return request(method, path, *(() if accepted is None else (f"Accept-Encoding: {accepted}",)), *headers)


def check_plain(response: Response, body: bytes) -> None:
    assert response.body == body and "content-encoding" not in response.headers
    assert response.headers["etag"] == ETAG


def check_gzip(response: Response, body: bytes) -> None:
    assert gzip.decompress(response.body) == body and len(response.body) < len(body)
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["content-length"] == str(len(response.body))
    assert response.headers["etag"] == f"W/{ETAG}"
    assert response.headers["vary"] == "accept-encoding"


async def test_answers_on_one_connection(mock_clock: MockClock) -> None:
    async with serving() as served, served.client() as client:
        mount_bodies(served)
        check_gzip(await client.ask(ask("GET", "/large", "gzip, br")), LARGE)
        for accepted in ("br", "gzip;q=0", None):
            response = await client.ask(ask("GET", "/large", accepted))
            check_plain(response, LARGE)
            assert response.headers["vary"] == "accept-encoding"
        response = await client.ask(ask("GET", "/small", "gzip"))
        check_plain(response, SMALL)
        assert "vary" not in response.headers
        check_gzip(await client.ask(ask("GET", "/large", "gzip")), LARGE)


async def test_what_was_compressed_is_known_again(mock_clock: MockClock) -> None:
    async with serving() as served, served.client() as client:
        mount_bodies(served)
        etag = (await client.ask(ask("GET", "/large", "gzip"))).headers["etag"]
        response = await client.ask(ask("GET", "/large", "gzip", f"If-None-Match: {etag}"))
        assert (response.status, response.body) == (304, b"")
        assert "content-encoding" not in response.headers


async def test_a_head_tells_what_get_would(mock_clock: MockClock) -> None:
    async with serving() as served, served.client() as client:
        mount_bodies(served)
        got = await client.ask(ask("GET", "/large", "gzip"))
        head = await client.ask(ask("HEAD", "/large", "gzip"))
        for name in ("content-length", "content-encoding", "etag", "vary"):
            assert head.headers[name] == got.headers[name]


async def test_caches_are_told_of_both_differences(mock_clock: MockClock) -> None:
    async with serving(cors_origins=("https://app.example.com",)) as served:
        mount_bodies(served)
        assert (await served.ask(ask("GET", "/large", "gzip"))).headers["vary"] == "accept-encoding, origin"
        assert (await served.ask(ask("GET", "/small", "gzip"))).headers["vary"] == "origin"


async def test_an_endless_answer_is_not_compressed(mock_clock: MockClock) -> None:
    async with serving() as served, served.client() as client:
        response = await client.ask(ask("GET", "/stream", "gzip"))
        assert response.status == 200 and "content-encoding" not in response.headers
        assert await client.read(10) == b"5\r\n: hi\n\r\n"


async def test_huge_answers_are_compressed_beside_the_loop() -> None:
    async with serving() as served:
        mount_bodies(served)
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(check_huge, served)


async def check_huge(served: Served) -> None:
    """When all threads are busy it comes as it is."""
    response = await served.ask(ask("GET", "/huge", "gzip"))
    is_gzip = "content-encoding" in response.headers
    check_gzip(response, HUGE) if is_gzip else check_plain(response, HUGE)
    assert response.headers["vary"] == "accept-encoding"


async def test_with_all_threads_busy_nobody_waits(mock_clock: MockClock) -> None:
    threads = compression._THREADS
    async with serving() as served:
        mount_bodies(served)
        holders = [object() for _ in range(int(threads.total_tokens))]
        for holder in holders:
            threads.acquire_on_behalf_of_nowait(holder)
        try:
            check_plain(await served.ask(ask("GET", "/huge", "gzip")), HUGE)
            check_gzip(await served.ask(ask("GET", "/large", "gzip")), LARGE)
        finally:
            for holder in holders:
                threads.release_on_behalf_of(holder)


async def test_a_stock_client(mock_clock: MockClock) -> None:
    async with serving() as served, httpx.AsyncClient(trust_env=False) as client:
        mount_bodies(served)
        response = await client.get(f"http://127.0.0.1:{served.number}/large")
        assert response.headers["content-encoding"] == "gzip" and response.content == LARGE


def test_the_header_is_that_of_gzip() -> None:
    packed = trio.run(compression.compress, LARGE)
    assert packed is not None and zlib.decompress(packed, 16 + zlib.MAX_WBITS) == LARGE
