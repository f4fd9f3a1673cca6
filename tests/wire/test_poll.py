"""live-envelope.md over the wire: `/poll`, `/snapshot` and `/history`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.hub_process import HubProcess
from tests.wire.publishing import Publisher
from tests.wire.rawpeer import RawPeer, request

Naming = Callable[[str], str]


def poll(http: httpx.Client, channels: str, **query: Any) -> Any:
    response = http.get("/poll", params={"channels": channels, **query})
    assert response.status_code == 200, response.text
    body = response.json()
    assert body.keys() == {"cursor", "events"} and len(body["cursor"]) <= 2048
    return body


def values(body: Any) -> list[Any]:
    return [event["data"] for event in body["events"]]


def test_without_a_cursor_it_is_the_state_of_now_at_once(
    http: httpx.Client, publisher: Publisher, name: Naming
) -> None:
    plain, state, empty = name("ev"), name("state"), name("state")
    publisher.publish(plain, 1, 2)
    publisher.publish(state, "old", "new")
    body = poll(http, f"{plain},{state},{empty}", wait=60)
    assert [(event["event"], event["channel"], event["seq"], event["data"]) for event in body["events"]] == [
        ("snapshot", state, 2, "new")
    ]
    publisher.publish(plain, 3)
    publisher.publish(empty, "first")
    later = poll(http, f"{plain},{state},{empty}", cursor=body["cursor"], wait=60)
    assert sorted(map(str, values(later))) == ["3", "first"]


def test_wait_0_and_the_end_of_waiting(http: httpx.Client, name: Naming) -> None:
    channel = name("ev")
    cursor = poll(http, channel)["cursor"]
    for wait in ("0", "0.0", "1"):
        body = poll(http, channel, cursor=cursor, wait=wait)
        assert body == {"cursor": cursor, "events": []}


@pytest.mark.parametrize("format_", ["live", "v2"])
def test_a_poll_wakes_on_news(
    hub: HubProcess, http: httpx.Client, publisher: Publisher, name: Naming, format_: str
) -> None:
    channel = name("ev")
    cursor = poll(http, channel)["cursor"]
    got: list[Any] = []

    def wait() -> None:
        with httpx.Client(base_url=hub.public_url, timeout=70, trust_env=False) as client:
            got.append(poll(client, channel, cursor=cursor, wait=60, format=format_))

    thread = threading.Thread(target=wait)
    thread.start()
    hub_has_polls(hub, 1)
    publisher.publish(channel, "news")
    thread.join(30)
    assert got and values(got[0]) == ["news"]
    assert ("ch" in got[0]["events"][0]) == (format_ == "v2")


def test_a_channel_that_joins_waits_from_the_request_on(
    hub: HubProcess, http: httpx.Client, publisher: Publisher, name: Naming
) -> None:
    """The cursor knows one of two channels: what comes in the other while the poll waits is in its answer."""
    known, new = name("ev"), name("ev")
    cursor = poll(http, known)["cursor"]
    publisher.publish(new, "before")
    got: list[Any] = []

    def wait() -> None:
        with httpx.Client(base_url=hub.public_url, timeout=70, trust_env=False) as client:
            got.append(poll(client, f"{known},{new}", cursor=cursor, wait=60))

    thread = threading.Thread(target=wait)
    thread.start()
    hub_has_polls(hub, 1)
    publisher.publish(new, "meanwhile")
    publisher.publish(known, "news")
    thread.join(30)
    later = poll(http, f"{known},{new}", cursor=got[0]["cursor"], wait=0)
    assert sorted(values(got[0]) + values(later)) == ["meanwhile", "news"]


def hub_has_polls(hub: HubProcess, count: int) -> None:
    """Returns when so many polls wait."""
    text = ""
    with httpx.Client(trust_env=False) as client:
        for _ in range(3000):
            text = client.get(f"{hub.admin_url}/metrics").text
            if any(
                line.startswith("hub_polls_waiting") and float(line.split()[-1]) == count
                for line in text.splitlines()
            ):
                return
    raise AssertionError(
        f"not {count} polls:\n" + "\n".join(line for line in text.splitlines() if "poll" in line)
    )


def test_a_client_that_leaves_while_it_waits_leaves_nothing(
    hub: HubProcess, http: httpx.Client, name: Naming
) -> None:
    channel = name("ev")
    cursor = poll(http, channel)["cursor"]
    before = hub.descriptors()
    peers = [RawPeer(hub.address) for _ in range(20)]
    for peer in peers:
        peer.send(request("GET", f"/poll?channels={channel}&cursor={cursor}&wait=60"))
    hub_has_polls(hub, 20)
    for peer in peers[:10]:
        peer.close()
    for peer in peers[10:]:
        peer.reset()
    hub_has_polls(hub, 0)
    for _ in range(2000):
        if hub.descriptors() <= before + 1:
            break
        http.get("/history/ev:1")
    assert hub.descriptors() <= before + 1


def test_etag(http: httpx.Client, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    cursor = poll(http, channel)["cursor"]
    query = {"channels": channel, "cursor": cursor, "wait": "0"}
    first = http.get("/poll", params=query)
    same = http.get("/poll", params=query, headers={"If-None-Match": first.headers["etag"]})
    weak = http.get("/poll", params=query, headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})
    publisher.publish(channel, 1)
    changed = http.get("/poll", params=query, headers={"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
    assert weak.status_code == 304
    assert changed.status_code == 200 and values(changed.json()) == [1]


def test_paging(http: httpx.Client, publisher: Publisher, name: Naming) -> None:
    channels = [name("replay"), name("replay")]
    for channel in channels:
        for start in range(1, 2501, 500):
            publisher.publish(channel, *range(start, start + 500))
    got: dict[str, list[int]] = {channel: [] for channel in channels}
    body = poll(http, ",".join(channels), lastSeq=json.dumps(dict.fromkeys(channels, 0)), wait=0)
    pages = 0
    while body["events"]:
        for event in body["events"]:
            got[event["channel"]].append(event["seq"])
        pages += 1
        body = poll(http, ",".join(channels), cursor=body["cursor"], wait=0)
    assert pages > 2
    assert list(got.values()) == [list(range(1, 2501))] * 2


def test_pages_are_bounded_in_bytes_too(http: httpx.Client, publisher: Publisher, name: Naming) -> None:
    channel = name("ev")
    for number in range(1, 31):
        publisher.publish(channel, [number, "x" * 200_000])
    body = poll(http, channel, lastSeq=json.dumps({channel: 0}), wait=0)
    got = []
    while body["events"]:
        assert len(body["events"]) < 30
        got += [event["seq"] for event in body["events"]]
        body = poll(http, channel, cursor=body["cursor"], wait=0)
    assert got == list(range(1, 31))


@pytest.mark.parametrize(
    "namespace, seen, reason, to_seq, rest",
    [
        ("small", 3, "evicted", 20, list(range(21, 31))),
        ("ev", 99, "ahead", None, []),
        ("ev", {"seq": 1, "epoch": "x"}, "epoch", None, []),
        ("state", {"seq": 1, "epoch": "x"}, "epoch", None, ["snapshot"]),
    ],
)
def test_gaps_are_told_once(
    http: httpx.Client,
    publisher: Publisher,
    name: Naming,
    namespace: str,
    seen: Any,
    reason: str,
    to_seq: Any,
    rest: Any,
) -> None:
    channel = name(namespace)
    (*_, last) = publisher.publish(channel, *range(1, 31))
    body = poll(http, channel, lastSeq=json.dumps({channel: seen}), wait=60)
    gap, *others = body["events"]
    from_seq = (seen["seq"] if isinstance(seen, dict) else seen) + 1
    assert (gap["event"], gap["channel"]) == ("gap", channel)
    assert gap["data"] == {"reason": reason, "fromSeq": from_seq, "toSeq": to_seq, "epoch": last["epoch"]}
    assert [event["event"] if event["event"] == "snapshot" else event["seq"] for event in others] == rest
    assert poll(http, channel, cursor=body["cursor"], wait=0)["events"] == []


def test_last_seq_wins_over_an_old_cursor_and_survives_the_url(
    http: httpx.Client, publisher: Publisher, name: Naming
) -> None:
    channel = name("ev")
    cursor = poll(http, channel)["cursor"]
    publisher.publish(channel, 1, 2, 3)
    body = poll(http, channel, cursor=cursor, lastSeq=json.dumps({channel: 2}), wait=0)
    assert values(body) == [3]


# --- /snapshot, /history ------------------------------------------------------------------------------------


def test_snapshot(http: httpx.Client, publisher: Publisher, name: Naming) -> None:
    channel = name("state")
    (*_, last) = publisher.publish(channel, 1, {"a": "1.10"}, ts=5)
    response = http.get(f"/snapshot/{channel}")
    body = response.json()
    cursor = body.pop("cursor")
    assert body == {"channel": channel, "seq": 2, "epoch": last["epoch"], "ts": 5, "data": {"a": "1.10"}}
    assert response.headers["etag"] and "cache-control" in response.headers
    assert (
        http.get(f"/snapshot/{channel}", headers={"If-None-Match": response.headers["etag"]}).status_code
        == 304
    )
    publisher.publish(channel, 3)
    assert values(poll(http, channel, cursor=cursor, wait=60)) == [3]


def test_history(http: httpx.Client, publisher: Publisher, name: Naming) -> None:
    channel = name("small")
    (*_, last) = publisher.publish(channel, *range(1, 16))
    body = http.get(f"/history/{channel}", params={"limit": "4"}).json()
    assert body.keys() == {"channel", "epoch", "firstSeq", "seq", "events", "cursor", "more"}
    assert (body["channel"], body["epoch"], body["firstSeq"], body["seq"]) == (channel, last["epoch"], 6, 15)
    got, pages = [], 0
    while True:
        pages += 1
        got += [event["seq"] for event in body["events"]]
        if not body["more"]:
            break
        after = body["cursor"] if pages % 2 else str(body["events"][-1]["seq"])
        body = http.get(f"/history/{channel}", params={"limit": "4", "after": after}).json()
    assert got == list(range(6, 16)) and pages == 3
    publisher.publish(channel, 16)
    assert values(poll(http, channel, cursor=body["cursor"], wait=60)) == [16]


@pytest.mark.parametrize(
    "after, first, more",
    [("0", 6, False), ("5", 6, False), ("14", 15, False), ("15", None, False), ("99", None, False)],
)
def test_history_after(
    http: httpx.Client, publisher: Publisher, name: Naming, after: str, first: int | None, more: bool
) -> None:
    channel = name("small")
    publisher.publish(channel, *range(1, 16))
    body = http.get(f"/history/{channel}", params={"after": after}).json()
    assert [event["seq"] for event in body["events"]][:1] == ([first] if first else [])
    assert body["more"] is more


def test_history_of_nothing(http: httpx.Client, name: Naming) -> None:
    channel = name("ev")
    body = http.get(f"/history/{channel}").json()
    assert (body["seq"], body["firstSeq"], body["events"], body["more"]) == (0, 1, [], False)


@pytest.mark.parametrize("target", ["/history/{}", "/snapshot/{}", "/poll?channels={}"])
def test_asking_for_channels_that_do_not_exist_leaves_none_behind(
    hub: HubProcess, http: httpx.Client, name: Naming, target: str
) -> None:
    def channels() -> int:
        return int(httpx.get(f"{hub.admin_url}/admin/channels", trust_env=False).json()["total"])

    before = channels()
    for _ in range(50):
        http.get(target.format(name("state")))
    assert channels() == before
