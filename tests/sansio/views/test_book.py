"""The book against a model that anybody would believe, and against a client that only knows the stream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.payload import BadPayload
from hub.sansio.views.book import LEVEL_SIZE, Book

Level = list[str]
Levels = dict[str, list[Level]]

#: Few prices, each in several spellings, so that levels meet; two that only the 40th digit tells apart.
NEAR = "1234567890123456789.1234567890123456789"
prices = st.builds(
    lambda cents, zeros, lead: f"{lead}{cents / 10:.1f}{zeros}",
    st.integers(1, 12),
    st.sampled_from(["", "0", "000"]),
    st.sampled_from(["", "0"]),
) | st.sampled_from(["1", "01", f"{NEAR}1", f"{NEAR}2"])  # fmt: skip
amounts = st.sampled_from(["0", "0.00", "00", "1", "2.50", "0.001", "10", "100.0"])
levels = st.lists(st.tuples(prices, amounts).map(list), max_size=4)
payloads = st.fixed_dictionaries({"bids": levels}, optional={"asks": levels}) | st.fixed_dictionaries(
    {"asks": levels}
)
kinds = st.sampled_from([None, "delta", None, "delta", None, "snapshot"])
publications = st.lists(st.tuples(kinds, payloads), max_size=8)
Publications = list[tuple[str | None, Levels]]


@attrs.define
class Model:
    """A dict a side, sorted when somebody asks. A client that holds the newest text of each level is the same."""

    max_levels: int = 10_000
    bids: dict[Decimal, Level] = attrs.field(factory=dict)
    asks: dict[Decimal, Level] = attrs.field(factory=dict)
    cut: int = 0

    def take(self, kind: str | None, payload: Levels) -> None:
        if kind == "snapshot":
            self.bids, self.asks = {}, {}
        for name, side in (("bids", self.bids), ("asks", self.asks)):
            for level in payload.get(name, []):
                side.pop(Decimal(level[0]), None)
                if Decimal(level[1]):
                    side[Decimal(level[0])] = level
        self._cut()

    def _cut(self) -> None:
        for side, is_bids in ((self.bids, True), (self.asks, False)):
            for price in sorted(side, reverse=is_bids)[self.max_levels :]:
                del side[price]
                self.cut += 1

    def state(self, depth: int | None = None) -> Levels:
        return {
            "bids": [self.bids[price] for price in sorted(self.bids, reverse=True)][:depth],
            "asks": [self.asks[price] for price in sorted(self.asks)][:depth],
        }


def dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def publish(book: Book, kind: str | None, payload: Levels) -> None:
    before = book.render()
    parsed = book.parse(dump(payload), kind)
    assert book.render() == before
    book.fold(parsed)


@given(publications, st.integers(1, 5) | st.just(10_000), st.booleans())
def test_against_the_model(publications: Publications, max_levels: int, starts_empty: bool) -> None:
    book, model = Book(max_levels=max_levels, starts_empty=starts_empty), Model(max_levels)
    is_known = starts_empty
    for kind, payload in publications:
        publish(book, kind, payload)
        is_known = is_known or kind == "snapshot"
        assert book.is_known == is_known
        if not is_known:
            assert book.render() is None
            continue
        model.take(kind, payload)
        assert book.render() == dump(model.state())
        assert book.levels == len(model.bids) + len(model.asks)
        assert book.size == book.levels * LEVEL_SIZE
    assert book.cut == model.cut


@given(publications, st.integers(1, 8))
def test_the_top_is_the_beginning_of_the_whole(publications: Publications, depth: int) -> None:
    book = Book(max_levels=100, starts_empty=True)
    for kind, payload in publications:
        publish(book, kind, payload)
    whole = json.loads(book.render() or b"")
    top = {side: whole[side][:depth] for side in ("bids", "asks")}
    assert book.top(depth) == dump(top)
    assert book.top(depth, 12) == dump({**top, "lastUpdateId": 12})
    assert book.top(depth, last_update_id=None) == dump(top)


@given(publications, st.data(), st.integers(1, 5) | st.just(10_000))
def test_a_client_that_comes_at_any_time_has_the_same_book(
    publications: Publications, data: st.DataObject, max_levels: int
) -> None:
    """It applies what it is sent, as docs and other languages would: a snapshot, then the deltas as published. It
    caps its book as the hub does, or has levels besides that the hub has cut."""
    book = Book(max_levels=max_levels, starts_empty=True)
    start = data.draw(st.integers(0, len(publications)))
    for kind, payload in publications[:start]:
        publish(book, kind, payload)
    client = Model(max_levels)
    client.take("snapshot", json.loads(book.render() or b""))
    for kind, payload in publications[start:]:
        assert dump(client.state()) == book.render()
        publish(book, kind, payload)
        client.take(kind, payload)
    assert dump(client.state()) == book.render()


@given(publications, publications, payloads)
def test_a_late_first_state(before: Publications, after: Publications, first: Levels) -> None:
    book, model = Book(max_levels=10_000, has_provider=True), Model()
    for kind, payload in before:
        publish(book, kind, payload)
    is_known = any(kind == "snapshot" for kind, _ in before)
    assert book.is_known == is_known
    book.seed(dump(first))
    for kind, payload in [("snapshot", first), *before, *after]:
        model.take(kind, payload)
    for kind, payload in after:
        publish(book, kind, payload)
    assert book.is_known
    # A level is found at its price whatever the order in which first state and changes were put together.
    assert book.render() == dump(model.state())


def test_what_is_remembered_for_a_first_state_has_bounds() -> None:
    book = Book(max_levels=2, has_provider=True)
    publish(
        book,
        None,
        {"bids": [["1", "1"], ["2", "0"], ["3", "1"]], "asks": [["5", "1"], ["4", "1"], ["6", "0"]]},
    )
    assert book.levels == 4 and book.cut == 0 and book.render() is None
    book.seed(b'{"bids":[["3","9"],["2","9"],["1.5","9"]],"asks":[["7","9"],["8","9"]]}')
    assert book.render() == b'{"bids":[["3","1"],["1.5","9"]],"asks":[["4","1"],["5","1"]]}'
    assert book.cut == 2


def test_a_book_without_a_provider_remembers_nothing() -> None:
    book = Book(max_levels=10)
    publish(book, None, {"bids": [["1", "1"]]})
    assert book.levels == 0 and not book.is_known


def test_forgotten_until_the_next_snapshot() -> None:
    book = Book(max_levels=10, starts_empty=True)
    publish(book, None, {"bids": [["1", "1"]]})
    book.forget()
    assert book.render() is None and book.size == 0
    publish(book, None, {"bids": [["2", "1"]]})
    assert not book.is_known and book.size == 0
    publish(book, "snapshot", {"asks": [["3", "1"], ["4", "0"]]})
    assert book.render() == b'{"bids":[],"asks":[["3","1"]]}'


def test_what_is_refused_changes_nothing() -> None:
    book = Book(max_levels=10, has_provider=True)
    for bad in (b"{}", b"[", b'{"bids":[["1","x"]]}'):
        with pytest.raises(BadPayload):
            book.parse(bad, None)
        with pytest.raises(BadPayload):
            book.seed(bad)
    assert not book.is_known
    with pytest.raises(BadPayload, match="asks"):
        Book(max_levels=10, is_complete=True).parse(b'{"bids":[]}', "delta")


def test_a_level_keeps_the_digits_of_its_publisher() -> None:
    book = Book(max_levels=10, starts_empty=True)
    for payload in (b'{"bids": [ [ "0100.10" , "1.50" ] ]}', b'{"bids":[["100.1","1.5000"]],"asks":[]}'):
        book.fold(book.parse(payload, None))
        (level,) = re.findall(rb'\[("[^\]]*)\]', book.render() or b"")
        assert json.loads(b"[%b]" % level) == json.loads(payload)["bids"][0]


def test_amounts_are_not_rounded_to_zero() -> None:
    book = Book(max_levels=10, starts_empty=True)
    tiny = "0." + "0" * 19 + "1"
    publish(book, None, {"bids": [["1", tiny]]})
    assert book.top(1) == dump({"bids": [["1", tiny]], "asks": []})


@pytest.mark.parametrize("count", [3000])
def test_many_levels_stay_in_order(count: int) -> None:
    """More than one chunk of the sorted container."""

    def spread(numbers: Iterable[int]) -> list[Level]:
        return [[str(number * 7919 % count), "1"] for number in numbers]

    book = Book(max_levels=count, starts_empty=True)
    publish(book, None, {"bids": spread(range(count)), "asks": spread(range(count))})
    state = json.loads(book.render() or b"")
    assert [level[0] for level in state["asks"]] == [str(number) for number in range(count)]
    assert state["bids"] == state["asks"][::-1]
    publish(book, "snapshot", {"bids": spread(range(count)), "asks": spread(range(count))})
    assert json.loads(book.render() or b"") == state
