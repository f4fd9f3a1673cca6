"""Puts a transport's links to the test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hub.core.contracts import FastPath
from hub.sansio.encodings import Framing
from hub.sansio.stream_v2 import StreamV2Json
from hub.testing import fast_path_checks, link_checks, session_checks
from hub.testing.expectations import first_assertion
from hub.testing.far_end import LinkMaker, Talking
from hub.testing.messages import Speech


async def check_transport(
    maker: LinkMaker,
    clogged_maker: LinkMaker | None = None,
    *,
    framing: Framing,
    protocol: StreamV2Json | None = None,
) -> None:
    """Checks all that the links of a transport promise; returns if they keep it.

    Args:
      maker: opens a link and a client's end of it; called for each check anew. A client without ``send`` makes
        it a link that only sends.
      clogged_maker: the same over a path that holds little, so that the link has to wait soon when the client
        does not read (a socket pair, ``trio.testing.lockstep_stream_pair``). None: ``maker`` will do.
      framing: how the transport delimits messages.
      protocol: what is spoken in the session: ``StreamV2Json()``, or ``StreamV2Cbor()`` where messages are
        bytes.

    Nothing here depends on how fast the machine is. Not for Trio's ``autojump_clock`` where there are sockets:
    it jumps while the kernel is at work. Raises AssertionError, whose first words are the promise that was
    broken.
    """
    speech = Speech(protocol or StreamV2Json(), framing)
    clogged = clogged_maker or maker
    async with maker() as (link, far):
        is_fast, is_talking = isinstance(link, FastPath), isinstance(far, Talking)
    checks = [*_LINK, _TALKING if is_talking else _SILENT, *(_FAST_PATH if is_fast else ()), *_SESSION]
    for check, path in checks:
        await _run(check(clogged if path == "clogged" else maker, speech))


Check = Callable[[LinkMaker, Speech], Awaitable[None]]

_LINK: tuple[tuple[Check, str], ...] = (
    (link_checks.check_attributes, "open"),
    (link_checks.check_messages_arrive, "open"),
    (link_checks.check_joined_messages_arrive, "open"),
    (link_checks.check_send_waits, "clogged"),
    (link_checks.check_peer_vanishes, "open"),
    (link_checks.check_send_breaks, "clogged"),
    (link_checks.check_aclose, "open"),
    (link_checks.check_aclose_cancelled, "open"),
    (link_checks.check_aclose_unanswered, "clogged"),
)
_TALKING: tuple[Check, str] = (link_checks.check_receive, "open")
_SILENT: tuple[Check, str] = (link_checks.check_only_end_is_received, "open")
_FAST_PATH: tuple[tuple[Check, str], ...] = (
    (fast_path_checks.check_idle_link_takes_all, "open"),
    (fast_path_checks.check_cut_messages, "clogged"),
    (fast_path_checks.check_wait_writable, "clogged"),
    (fast_path_checks.check_wait_writable_breaks, "clogged"),
    (fast_path_checks.check_peer_vanishes, "open"),
    (fast_path_checks.check_aclose_when_full, "clogged"),
)
_SESSION: tuple[tuple[Check, str], ...] = (
    (session_checks.check_session, "open"),
    (session_checks.check_slow_client, "clogged"),
    (session_checks.check_abrupt_end, "open"),
    (session_checks.check_abrupt_end_of_slow_client, "clogged"),
    (session_checks.check_drain, "open"),
    (session_checks.check_drain_of_slow_client, "clogged"),
)


async def _run(check: Awaitable[None]) -> None:
    """What a check found has come out of several nurseries; its user shall read it plain."""
    try:
        await check
    except BaseExceptionGroup as group:
        found = first_assertion(group)
        if found is None:
            raise
        raise found from None
