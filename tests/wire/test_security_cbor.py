"""CBOR from strangers: its tags would have a library work for whoever sends them, so that none is ever obeyed.

Tag 35 alone is a regular expression, which is compiled: a cursor of 150 characters could take half a minute.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator

import cbor2
import pytest

from tests.wire.rawpeer import BINARY, Response
from tests.wire.security import DIALECTS, Estate, open_estate, talking

#: Takes a second or two of a processor, per kilobyte, to compile.
EXPRESSION = "(?i)" + "[\u0100-\U0001ffff]" * 250


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with open_estate(tmp_path_factory.mktemp("estate"), "logging.level=info") as estate:
        yield estate


def tagged(tag: int, content: object) -> bytes:
    """By hand: the library would turn some of it into something else."""
    head = cbor2.dumps(cbor2.CBORTag(tag, 0))[:-1]
    return head + cbor2.dumps(content)


POISONS = {
    "a regular expression": tagged(35, EXPRESSION),
    "a mail": tagged(36, "A: b\n" * 400),
    "a large decimal": tagged(4, [10**9, 3]),
    "a large binary": tagged(5, [10**6, 3]),
    "a fraction": tagged(30, [10**900, 10**900 + 1]),
    "a date": tagged(0, "2020-01-01T00:00:00Z"),
    "a moment": tagged(1, 1_740_000_000),
    "a large number": tagged(2, b"\xff" * 1500),
    "a shared list": tagged(28, [1]),
    "a reference": tagged(29, 0),
    "texts by number": tagged(256, ["aaaa"]),
    "a set": tagged(258, [1, 2]),
    "an address": tagged(260, b"\x7f\x00\x00\x01"),
    "an identifier": tagged(37, bytes(16)),
    "an unknown tag": tagged(4711, "x"),
    "a mark": tagged(55799, "subscribe"),
}

#: What a message may have, though it means nothing there: it takes no work.
HARMLESS = {"a large number"}


def cursor(raw: bytes, *, is_deflated: bool) -> str:
    data = zlib.compress(raw, 9) if is_deflated else raw
    return ("z" if is_deflated else "") + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("name", POISONS)
def test_no_tag_is_obeyed_in_a_message(estate: Estate, name: str) -> None:
    poison = POISONS[name]
    for dialect in (DIALECTS["v2 cbor"], DIALECTS["v2 cbor deflated"]):
        for field in ("method", "params", "id", "lastSeq", "nonsense"):
            fields = {"method": b"isubscribe", "params": b"\x81dev:1", "id": b"\x01", field: poison}
            message = bytes((0xA0 | len(fields),))
            message += b"".join(cbor2.dumps(key) + value for key, value in fields.items())
            with talking(estate, dialect) as talk:
                talk.peer.send_frame(BINARY, message)
                if name in HARMLESS:
                    assert talk.read()["code"] in (0, 40005), field
                else:
                    assert talk.read_to_close().code == 4001, field


@pytest.mark.parametrize("is_deflated", [False, True], ids=["plain", "deflated"])
@pytest.mark.parametrize("name", POISONS)
def test_no_tag_is_obeyed_in_a_cursor(estate: Estate, name: str, is_deflated: bool) -> None:
    poison = POISONS[name]
    for raw in (poison, b"\x82\x01" + poison, b"\x82" + poison + b"\xa0", b"\x82\x01\xa1" + poison + b"\xa0"):
        text = cursor(raw, is_deflated=is_deflated)
        for response in ask_everywhere(estate, text):
            assert (response.status, response.json()["code"]) == (400, 40005)
        for dialect in (DIALECTS["live"], DIALECTS["live deflated"]):
            with talking(estate, dialect) as talk:
                assert talk.subscribe("ev:1", cursor=text).errors == {None: 40005}


def ask_everywhere(estate: Estate, text: str) -> list[Response]:
    return [
        estate.ask("GET", f"/poll?channels=ev:1&wait=0&cursor={text}"),
        estate.ask("GET", f"/sse?channels=ev:1&cursor={text}"),
        estate.ask("GET", "/sse?channels=ev:1", f"Last-Event-ID: {text}"),
        estate.ask("GET", f"/history/ev:1?after={text}"),
    ]


def test_maps_and_lists_are_as_large_as_they_come(estate: Estate) -> None:
    """A head that claims more than there is costs nothing; neither does a map made to collide."""
    resident = estate.hub.resident_bytes()
    modulus = (1 << 61) - 1  # of Python's hash of integers
    colliding = b"\xb9\x01\x2c" + b"".join(
        cbor2.dumps(number * modulus) + b"\x00" for number in range(1, 301)
    )
    for raw in (b"\x9b" + b"\x7f" * 8, b"\xbb" + b"\x7f" * 8, b"\x5b" + b"\x00" * 3 + b"\x7f" * 5, b"\x9a\x7f\xff\xff\xff",
                b"\x9f" * 30, b"\xbf" * 30, b"\x7f" * 30, colliding):  # fmt: skip
        with talking(estate, DIALECTS["v2 cbor"]) as talk:
            talk.peer.send_frame(BINARY, raw)
            assert talk.read()["code"] in (40005, 4001)
        for response in ask_everywhere(estate, cursor(b"\x82\x01" + raw, is_deflated=True)):
            assert response.status == 400
    assert estate.hub.resident_bytes() - resident < 32 * 1024 * 1024
