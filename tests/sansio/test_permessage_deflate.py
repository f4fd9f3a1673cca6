"""Compression: what is agreed on (RFC 7692, section 7.1), and messages, read by zlib itself."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.errors import CloseCode, ProtocolViolated
from hub.sansio.permessage_deflate import Deflater, Parameters, agree, inflate, parse_extensions

CLIENT, SERVER = "client_no_context_takeover", "server_no_context_takeover"
SHARED = f"permessage-deflate; {CLIENT}; {SERVER}"
CONTEXT = f"permessage-deflate; {CLIENT}"


def response(header: str, *, window: int = 12, keeps_context: bool = False) -> str | None:
    agreement = agree(header, window=window, keeps_context=keeps_context)
    return None if agreement is None else agreement.response


# --- the handshake ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header, expected",
    [
        ("permessage-deflate", SHARED),
        ("permessage-deflate; client_max_window_bits", SHARED),  # browsers, Python's websockets, ws
        ("permessage-deflate; client_max_window_bits=8", SHARED),
        ("permessage-deflate;client_max_window_bits=15;server_no_context_takeover", SHARED),
        (f"permessage-deflate; {SERVER}; {CLIENT}", SHARED),
        ("permessage-deflate; server_max_window_bits=15", f"{SHARED}; server_max_window_bits=12"),
        ('permessage-deflate; server_max_window_bits="12"', f"{SHARED}; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=9", f"{SHARED}; server_max_window_bits=9"),
        ("x-webkit-deflate-frame, permessage-deflate", SHARED),
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10",
            f"{SHARED}; server_max_window_bits=10",
        ),
        (" , \tpermessage-deflate\t;\tclient_max_window_bits = 10 ,, ", SHARED),
    ],
)
def test_offers_that_are_taken(header: str, expected: str) -> None:
    assert response(header) == expected


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ,\t, ",
        "permessage-bzip2",
        "Permessage-Deflate",
        "permessage-deflate; server_max_window_bits=8",  # zlib has no such window
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; client_max_window_bits=99999999999999999999",
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover=true",
        "permessage-deflate; x",
        "permessage-deflate; x=y",
        f"permessage-deflate; {SERVER}; {SERVER}",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=15",
    ],
)
@pytest.mark.parametrize("keeps_context", [False, True])
def test_offers_that_are_declined(header: str, keeps_context: bool) -> None:
    assert response(header, keeps_context=keeps_context) is None
    # The next offer has its chance.
    assert response(f"{header}, permessage-deflate", keeps_context=keeps_context) is not None


@pytest.mark.parametrize(
    "header",
    [
        ";",
        "permessage-deflate;",
        "permessage-deflate; ",
        "permessage-deflate; , permessage-deflate",
        "permessage-deflate; =9",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate=1",
        "permessage-deflate; a b",
        "permessage-deflate permessage-deflate",
        'permessage-deflate; client_max_window_bits="12',
        'permessage-deflate; client_max_window_bits="1 2"',
        'permessage-deflate; client_max_window_bits=""',
        'permessage-deflate; client_max_window_bits="12"3',
        'permessage-deflate; client_max_window_bits="12\\',
        "permessage-deflate; ä",
        "permessage-deflate\n",
        "(permessage-deflate)",
    ],
)
def test_malformed_headers(header: str) -> None:
    with pytest.raises(ValueError, match=r"^malformed Sec-WebSocket-Extensions"):
        agree(header, window=12, keeps_context=False)


def test_with_context_the_client_may_still_refuse_it() -> None:
    assert response("permessage-deflate", keeps_context=True) == CONTEXT
    assert response(f"permessage-deflate; {CLIENT}", keeps_context=True) == CONTEXT
    taken = agree(f"permessage-deflate; {SERVER}", window=12, keeps_context=True)
    assert taken is not None and (taken.response, taken.keeps_context) == (SHARED, False)
    taken = agree("permessage-deflate; server_max_window_bits=11", window=12, keeps_context=True)
    assert taken is not None and (taken.window, taken.keeps_context) == (11, True)
    taken = agree("permessage-deflate", window=12, keeps_context=False)
    assert taken is not None and (taken.window, taken.keeps_context) == (12, False)


tokens = st.text("abcxyz-_.0189!~", min_size=1, max_size=8)
extensions = st.lists(
    st.tuples(tokens, st.lists(st.tuples(tokens, st.none() | tokens), max_size=4)), max_size=4
)


@given(extensions, st.sampled_from(["", " ", "\t "]), st.booleans())
def test_what_is_written_is_read(written: list[tuple[str, Parameters]], space: str, is_quoted: bool) -> None:
    def render(name: str, value: str | None) -> str:
        if value is None:
            return name
        return f'{name}{space}={space}"\\{value}"' if is_quoted else f"{name}{space}={space}{value}"

    parts = [[name, *(render(*parameter) for parameter in parameters)] for name, parameters in written]
    header = f"{space},{space}".join(f"{space};{space}".join(part) for part in parts)
    assert parse_extensions(space + header + space) == written


@given(st.text('ab;,="\\ \t9', max_size=30))
def test_any_header_is_read_or_refused(header: str) -> None:
    try:
        names = [name for name, _ in parse_extensions(header)]
    except ValueError:
        return
    assert len(names) <= header.count(",") + 1 and all(names)


# --- messages ---------------------------------------------------------------------------------------------

messages = st.lists(
    st.binary(min_size=1, max_size=3000)
    | st.text('01.,:{}"abc', min_size=1, max_size=3000).map(str.encode)
    | st.integers(1, 9).map(lambda n: random.Random(n).randbytes(20_000)),
    min_size=1,
    max_size=6,
)


@given(messages, st.integers(1, 9), st.integers(9, 15))
def test_without_context_every_message_stands_alone(sent: list[bytes], level: int, window: int) -> None:
    deflater = Deflater(level=level, window=window, keeps_context=False)
    payloads = [deflater.deflate(message) for message in sent]
    for message, payload in zip(sent, payloads, strict=True):
        assert zlib.decompressobj(-window).decompress(payload + b"\x00\x00\xff\xff") == message
        assert inflate(payload, len(message)) == message
        if window == 12:  # whoever was served before
            assert Deflater(level=level, window=12, keeps_context=False).deflate(message) == payload


@given(messages, st.integers(1, 9), st.integers(9, 15))
def test_with_context_they_are_one_stream(sent: list[bytes], level: int, window: int) -> None:
    deflater = Deflater(level=level, window=window, keeps_context=True)
    inflater = zlib.decompressobj(-window)
    for message in sent:
        assert inflater.decompress(deflater.deflate(message) + b"\x00\x00\xff\xff") == message


def test_context_pays_for_messages_that_are_alike() -> None:
    sent = [b'{"ch":"trades@btc_tl","seq":%d,"data":{"price":"4150000.00"}}' % n for n in range(50)]
    alone, stream = (Deflater(level=5, window=12, keeps_context=keeps) for keeps in (False, True))
    assert sum(len(stream.deflate(m)) for m in sent) < sum(len(alone.deflate(m)) for m in sent) / 2


def payload_of(message: bytes, *, level: int = 9) -> bytes:
    return Deflater(level=level, window=15, keeps_context=False).deflate(message)


def test_nothing_beyond_the_limit_is_made() -> None:
    assert inflate(payload_of(bytes(4096)), 4096) == bytes(4096)
    with pytest.raises(ProtocolViolated) as caught:
        inflate(payload_of(bytes(4097)), 4096)
    assert caught.value.code == CloseCode.TOO_BIG
    bomb = payload_of(bytes(4_000_000))
    assert len(bomb) < 4096
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolViolated):
            inflate(bomb, 4096)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("payload", [b"\xff" * 10, b"\x07", payload_of(b"x" * 500)[:3] + b"\xff" * 8])
def test_what_is_no_deflated_data(payload: bytes) -> None:
    with pytest.raises(ProtocolViolated) as caught:
        inflate(payload, 4096)
    assert caught.value.code == 1007


@pytest.mark.parametrize(
    "payload, message",
    [  # RFC 7692, section 7.2.3
        ("f2 48 cd c9 c9 07 00", b"Hello"),
        ("00 05 00 fa ff 48 65 6c 6c 6f 00", b"Hello"),  # a block that is not compressed
        ("f3 48 cd c9 c9 07 00 00", b"Hello"),  # a last block
        ("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", b"Hello"),  # two blocks
        ("00", b""),
    ],
)
def test_examples_of_the_rfc(payload: str, message: bytes) -> None:
    assert inflate(bytes.fromhex(payload), 4096) == message
    assert inflate(bytes.fromhex(payload), len(message)) == message


def test_nothing_follows_a_last_block() -> None:
    last = bytes.fromhex("f3 48 cd c9 c9 07 00")
    for payload in (last, last + b"\x01", last + bytes.fromhex("f2 48 cd c9 c9 07 00")):
        with pytest.raises(ProtocolViolated) as caught:
            inflate(payload, 4096)
        assert caught.value.code == 1007


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_payload_is_inflated_or_refused(payload: bytes, limit: int) -> None:
    try:
        message = inflate(payload, limit)
    except ProtocolViolated:
        return
    assert len(message) <= limit
