"""Follows over plain HTTP: Server-Sent Events, or long-poll."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus

import httpx
import msgspec
import trio

from hub.app.commands.endings import ENOUGH, Ending
from hub.app.commands.envelopes import PollAnswer
from hub.app.commands.following import Follower
from hub.sansio.sse_parser import ServerSentEvent, SseParser

#: A comment comes at least every 15 s (live-envelope.md); after this many seconds the hub is not there.
SILENCE = 30.0
#: A hub may be configured to let a poll wait for a minute; by default it is 25 s.
POLL_SILENCE = 90.0
#: A hub that answers a poll with nothing, sooner than this, is not asked again before.
POLL_PACE = 1.0
_CONNECT_SECONDS = 10.0


async def follow_sse(base: str, follower: Follower) -> Ending:
    """One stream of ``/sse``, from its begin to its end."""
    follower.ask(1)
    try:
        async with (
            _client(SILENCE, follower) as client,
            client.stream("GET", f"{base}/sse", params=_query(follower)) as response,
        ):
            if response.status_code != HTTPStatus.OK:
                return _refused(follower, response, await response.aread())
            return follower.ended(await _read_events(response, follower))
    except httpx.HTTPError as error:
        return follower.ended(_lost(error))


async def _read_events(response: httpx.Response, follower: Follower) -> Ending:
    parser = SseParser()
    ending = None
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_bytes():
            ending = ending or _take_events(parser.feed(chunk), follower)
            if ending is not None:
                # Not `break`: httpx's generators would be left to the garbage collector. Cancelled, they end.
                scope.cancel()
    return ending or Ending(reason="the hub ended the stream")


def _take_events(events: Iterable[ServerSentEvent], follower: Follower) -> Ending | None:
    for event in events:
        if (ending := follower.take(event.data.encode())) is not None:
            return ending
        follower.reach(event.id)
        if not follower.wants_more:
            return ENOUGH
    return None


async def follow_poll(base: str, follower: Follower) -> Ending:
    """Polls ``/poll``, one answer after another, until one fails."""
    follower.ask(0)
    try:
        async with _client(POLL_SILENCE, follower) as client:
            while follower.wants_more:
                begin, is_resumed = trio.current_time(), follower.progress.cursor is not None
                response = await client.get(f"{base}/poll", params=_query(follower))
                if response.status_code != HTTPStatus.OK:
                    return _refused(follower, response, response.content)
                answer = msgspec.json.decode(response.content, type=PollAnswer)
                follower.connected()
                for raw in answer.events:
                    follower.take(bytes(raw))
                follower.reach(answer.cursor)
                if is_resumed and not answer.events:
                    await trio.sleep_until(begin + POLL_PACE)
    except httpx.HTTPError as error:
        return _lost(error)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Ending(reason=f"not the answer of a hub: {error}", is_final=True)
    return ENOUGH


@cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads some hundred files, so not for each connection


def _client(silence: float, follower: Follower) -> httpx.AsyncClient:
    # As on the WebSocket: the system's certificates, nobody's proxy, and credentials for this hub alone: whoever
    # a redirect would name is not asked.
    return httpx.AsyncClient(
        verify=_certificates(),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(silence, connect=_CONNECT_SECONDS),
        headers={"accept-encoding": "identity", "cache-control": "no-store", **follower.headers},
    )


def _query(follower: Follower) -> dict[str, str]:
    query = {"channels": ",".join(follower.channels)}
    if follower.progress.cursor is not None:
        query["cursor"] = follower.progress.cursor
    if follower.progress.last_seq:
        query["lastSeq"] = msgspec.json.encode(follower.progress.last_seq).decode()
    return query


def _refused(follower: Follower, response: httpx.Response, body: bytes) -> Ending:
    headers = {name.lower(): text for name, text in response.headers.items()}
    return follower.refused(response.status_code, headers, body)


def _lost(error: httpx.HTTPError) -> Ending:
    what = "cannot connect" if isinstance(error, httpx.ConnectError) else "connection lost"
    return Ending(reason=f"{what}: {_describe(error)}")


def _describe(error: BaseException) -> str:
    """The first words in the chain of causes: for TLS, httpx has none of its own."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__ if cause is None else str(cause)
