"""Autobahn's cases against the link that serves `/v2`, on the hub's own port."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from hub.app.front.port import Port, PortSettings
from hub.core.broker import Broker
from hub.sansio.names import Namespaces
from tests.wire.echo_transport import EchoSettings, EchoTransport

#: All that is not about compression.
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
#: 12 and 13 are 216 cases of 1000 messages each, ten minutes of work: five kinds of content (12) and seven ways to
#: negotiate (13), in 18 sizes each. Here is each kind and each way in one size, and of the others a large message
#: and messages in fragments.
COMPRESSED = [
    *(f"12.{kind}.3" for kind in range(1, 6)),
    *(f"13.{way}.4" for way in range(1, 8)),
    "12.2.7",
    "12.1.11",
    "13.5.11",
]

# kosoku is asyncio's; in a process of its own it has a loop, and our Trio run goes on meanwhile. That process does
# not end as others do, because kosoku 0.1.0 now and then aborts while the interpreter is taken down.
RUNNER = """
import asyncio, json, os, sys
import kosoku

def describe(case):
    codes = {"code": case.remote_close_code, "expected": repr(case.expected_close)}
    return {"id": case.case_id, "behavior": case.behavior.value, "close": case.behavior_close.value,
            "result": case.result, "resultClose": case.result_close, "description": case.description, **codes}

async def main(url, chosen):
    try:
        results = await kosoku.run_fuzzingclient(url, chosen)
    except kosoku.FailureError as failure:
        results = failure.results
    print(json.dumps([describe(case) for case in results]))

asyncio.run(main(sys.argv[1], sys.argv[2:]))
sys.stdout.flush()
os._exit(0)
"""


async def run_cases(nursery: trio.Nursery, *chosen: str, deflate: str = "off") -> list[dict[str, Any]]:
    broker = Broker(Namespaces([], {}))
    port = Port("public", PortSettings())
    listeners = await nursery.start(open_listeners)
    transport = EchoTransport(EchoSettings(deflate=deflate))
    await nursery.start(broker.run)
    await nursery.start(transport.serve, broker, port)
    await nursery.start(port.serve, listeners)
    host, number = listeners[0].socket.getsockname()
    command = [sys.executable, "-c", RUNNER, f"ws://{host}:{number}/echo", *chosen]
    with trio.fail_after(300):
        finished = await trio.run_process(command, capture_stdout=True, cwd=Path(__file__).parent)
    results: list[dict[str, Any]] = json.loads(finished.stdout)
    nursery.cancel_scope.cancel()
    return results


async def open_listeners(*, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listeners)
    try:
        await trio.sleep_forever()
    finally:
        for listener in listeners:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await listener.aclose()


def check(results: list[dict[str, Any]]) -> None:
    bad = [
        case
        for case in results
        if case["behavior"] not in ("OK", "NON-STRICT", "INFORMATIONAL")
        or case["close"] not in ("OK", "INFORMATIONAL")
    ]
    assert not bad, "\n".join(json.dumps(case) for case in bad)


async def test_autobahn(nursery: trio.Nursery) -> None:
    results = await run_cases(nursery, *CASES)
    assert len(results) > 290
    check(results)


@pytest.mark.parametrize("deflate", ["shared", "context"])
async def test_compressed(nursery: trio.Nursery, deflate: str) -> None:
    results = await run_cases(nursery, *COMPRESSED, deflate=deflate)
    assert {case["id"] for case in results} == set(COMPRESSED)
    check(results)


@pytest.mark.parametrize("deflate", ["shared", "context"])
async def test_what_holds_without_compression_holds_with_it(nursery: trio.Nursery, deflate: str) -> None:
    """Reserved bits, text that is not UTF-8, closing: on a link that may be compressed."""
    results = await run_cases(nursery, "3.*", "6.*", "7.*", deflate=deflate)
    assert len(results) > 180
    check(results)
