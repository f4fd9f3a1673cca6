"""The frame guard against a model that sees the whole stream at once, however the stream is cut."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.errors import CloseCode, ProtocolViolated
from hub.sansio.websocket_guard import MAX_EMPTY_FRAGMENTS, FrameGuard

LIMIT = 300


@attrs.frozen
class Frame:
    """``form``: in how many bytes the length is written, also when fewer would do."""

    opcode: int
    is_last: bool
    is_masked: bool
    form: int
    size: int

    @property
    def is_control(self) -> bool:
        return self.opcode >= 8

    def header(self) -> bytes:
        first = (0x80 if self.is_last else 0) | self.opcode
        short = {0: self.size, 2: 126, 8: 127}[self.form]
        mask = b"mask" if self.is_masked else b""
        length = self.size.to_bytes(self.form, "big") if self.form else b""
        return bytes((first, (0x80 if self.is_masked else 0) | short)) + length + mask


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    form = draw(st.sampled_from((0, 2, 8)))
    common = st.sampled_from((0, 0, 1, 5, 100, 125))
    sizes = {
        0: common,
        2: common | st.sampled_from((126, 299, 300, 301, 65535)),
        8: common | st.sampled_from((300, 301, 65536, 2**32, 2**63, 2**64 - 1)),
    }
    opcode = draw(st.sampled_from((0, 0, 1, 2, 3, 8, 9, 10, 15)))
    return Frame(opcode, draw(st.booleans()), draw(st.booleans()), form, draw(sizes[form]))


def find_offence(stream: list[Frame]) -> tuple[bytes, int | None]:
    """The bytes of the stream up to the offending header, and where that ends; or all of it, and None."""
    data = b""
    sizes: list[int] = []
    for frame in stream:
        data += frame.header()
        if not frame.is_control:
            sizes.append(frame.size)
            if sum(sizes) > LIMIT or sizes.count(0) > MAX_EMPTY_FRAGMENTS:
                return data, len(data)
            if frame.is_last:
                sizes = []
        if frame.size > 70_000:  # a control frame that claims more than there will ever be
            return data, None
        data += b"\x81" * frame.size
    return data, None


def feed(guard: FrameGuard, data: bytes, cuts: list[int]) -> int | None:
    """Where the chunk began in which the guard objected."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(places):
        try:
            guard.feed(data[begin:end])
        except ProtocolViolated as violated:
            return begin if violated.code == CloseCode.TOO_BIG else -1
    return None


@given(st.lists(frames(), max_size=12), st.lists(st.integers(0, 5000), max_size=30), st.binary(max_size=20))
def test_it_objects_where_the_model_does(stream: list[Frame], cuts: list[int], rest: bytes) -> None:
    data, offence = find_offence(stream)
    if offence is None:
        assert feed(FrameGuard(LIMIT), data, cuts) is None
        return
    # Not a byte before the header is complete, and not one later.
    assert feed(FrameGuard(LIMIT), data[:-1], cuts) is None
    begin = feed(FrameGuard(LIMIT), data + rest, [*cuts, offence - 1])
    assert begin is not None and begin == offence - 1


@given(st.lists(frames(), max_size=8))
def test_byte_by_byte(stream: list[Frame]) -> None:
    data, offence = find_offence(stream)
    begin = feed(FrameGuard(LIMIT), data, list(range(len(data))))
    assert begin == (None if offence is None else offence - 1)


def fragment(size: int, *, is_last: bool = False) -> bytes:
    return Frame(0, is_last, True, 2, size).header() + b"x" * size


def test_fragments_add_up_and_control_frames_in_between_do_not_count() -> None:
    guard = FrameGuard(LIMIT)
    ping = Frame(9, True, True, 0, 125).header() + b"p" * 125
    for _ in range(3):
        guard.feed(fragment(100) + ping)
    guard.feed(fragment(0, is_last=True))
    guard.feed(fragment(300))
    with pytest.raises(ProtocolViolated):
        guard.feed(fragment(1)[:8])


def test_empty_fragments() -> None:
    guard = FrameGuard(LIMIT)
    for _ in range(3):  # each message has its own allowance
        for _ in range(MAX_EMPTY_FRAGMENTS - 1):
            guard.feed(fragment(0))
        guard.feed(fragment(0, is_last=True))
    guard.feed(fragment(0) * MAX_EMPTY_FRAGMENTS)
    with pytest.raises(ProtocolViolated):
        guard.feed(fragment(0))


def test_a_claim_is_enough() -> None:
    with pytest.raises(ProtocolViolated):
        FrameGuard(4096).feed(Frame(1, True, True, 8, 2**63).header())
    FrameGuard(4096).feed(
        Frame(9, True, True, 8, 4097).header()
    )  # a bad control frame is the library's to refuse
    FrameGuard(4096).feed(Frame(1, True, True, 2, 4096).header())
