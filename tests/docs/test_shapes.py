"""The comparison finds what is not as documented, or the other tests here would prove nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.docs.shapes import Bindings, difference, parse
from tests.docs.transcripts import Mismatch, Transcript, join_lines


@pytest.mark.parametrize(
    "documented, actual",
    [
        ('{"seq":1,"data":{"a":"x"}}', {"seq": 7, "data": {"a": "y"}}),
        ('{"seq":1,...}', {"seq": 7, "ts": 1}),
        ('{"data":{...}}', {"data": {"whatever": 1}}),
        ('{"data":[...]}', {"data": []}),
        ('[["1","2"],...]', [["3", "4"], 5]),
        ('{"toSeq":null}', {"toSeq": None}),
    ],
)
def test_the_same_shape(documented: str, actual: Any) -> None:
    assert difference(parse(documented), actual, Bindings({})) is None


@pytest.mark.parametrize(
    "documented, actual",
    [
        ('{"seq":1}', {"seq": "1"}),
        ('{"seq":1}', {"seq": True}),
        ('{"seq":1}', {"seq": 1, "ts": 1}),
        ('{"seq":1,...}', {"ts": 1}),
        ('{"code":40001}', {"code": 40002}),
        ('{"subscribed":["a"]}', {"subscribed": ["b"]}),
        ("[1,2]", [1]),
        ("[1]", [1, 2]),
        ("[1,2,...]", [1]),
        ('{"toSeq":null}', {"toSeq": 1}),
    ],
)
def test_another_shape(documented: str, actual: Any) -> None:
    assert difference(parse(documented), actual, Bindings({})) is not None


def test_opaque_values_stay_the_same() -> None:
    bindings = Bindings({})
    assert difference({"epoch": "doc"}, {"epoch": "real"}, bindings) is None
    assert difference({"epoch": "doc"}, {"epoch": "other"}, bindings) is not None
    assert bindings.apply('{"epoch":"doc"}') == '{"epoch":"real"}'


def test_names_of_things_are_opaque_and_numbers_of_requests_are_not() -> None:
    bindings = Bindings({})
    assert difference({"id": "k_doc"}, {"id": "k_real"}, bindings) is None
    assert bindings.apply("hub keys revoke k_doc") == "hub keys revoke k_real"
    assert difference({"id": 1}, {"id": 2}, bindings) is not None


def check(documented: str, *came: str) -> Transcript:
    transcript = Transcript(join_lines(documented), Bindings({}), "here")
    for line in came:
        transcript.feed(line)
    transcript.close()
    return transcript


def test_lines_are_compared_in_order() -> None:
    check(
        'HTTP/1.1 200\netag: "x"\n{"seq":\n  1}', "HTTP/1.1 200 ", "date: today", 'etag: "y"', "", '{"seq":2}'
    )
    check('first\n...\n{"code":1}', "first", "x", "y", json.dumps({"code": 1}))
    assert check("first\n...", "first", "second").is_open


def test_a_key_that_is_shown_once_stands_for_the_documented_one() -> None:
    transcript = check("hub keys: k_1 for carol\nhub_DOCUMENTED", "hub keys: k_9 for carol", "hub_real")
    assert transcript.bindings.apply("ApiKey hub_DOCUMENTED, k_1") == "ApiKey hub_real, k_9"
    with pytest.raises(Mismatch):
        check("hub keys: k_1 for carol", "hub keys: k_1 for dave")


@pytest.mark.parametrize("came", [(), ("second",), ("first", "x", "second"), ("first", "second", "third")])
def test_lines_that_are_not_as_documented(came: tuple[str, ...]) -> None:
    with pytest.raises(Mismatch):
        check("first\nsecond", *came)
