from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sources.kafka.templates import KeyPattern, Template, check_key_pattern, check_template

part = st.text(string.ascii_lowercase + string.digits + "_-", min_size=1, max_size=12)


@pytest.mark.parametrize("separator", [":", ",", "|", "."])
@given(market=part, interval=part)
def test_a_pattern_takes_a_key_apart(separator: str, market: str, interval: str) -> None:
    pattern = KeyPattern(f"{{market}}{separator}{{interval}}")

    assert pattern.match(f"{market}{separator}{interval}") == {"market": market, "interval": interval}


@pytest.mark.parametrize("key", ["", "btc_tl", "btc_tl:", ":1m", "btc_tl:1m:", "a:b:c", "btc_tl,1m"])
def test_a_key_of_another_form_does_not_match(key: str) -> None:
    assert KeyPattern("{market}:{interval}").match(key) is None


def test_a_pattern_may_have_text_around_its_parts() -> None:
    assert KeyPattern("v1/{market}!").match("v1/btc_tl!") == {"market": "btc_tl"}


def test_a_part_may_hold_anything_when_nothing_stands_between() -> None:
    assert KeyPattern("{all}").match("a:b\nc") == {"all": "a:b\nc"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "btc_tl",
        "{}",
        "{key}",
        "{data}",
        "{data.market}",
        "{market}{interval}",
        "{market}:{market}",
        "{market}:{",
        "{Market}",
        "}{market}",
    ],
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError):
        check_key_pattern(text)


@given(key=st.text(), field=st.text())
def test_a_template_is_filled_with_the_values_as_they_are(key: str, field: str) -> None:
    template = Template("100%-{key}-%(key)s-{data.market.name}")

    filled = template.fill({"key": key, "data.market.name": field})

    assert filled == f"100%-{key}-%(key)s-{field}"
    assert template.fields == ("data.market.name",)


def test_a_template_without_holes_is_a_name() -> None:
    assert Template("balances").fill({}) == "balances"


@pytest.mark.parametrize("text", ["", "{", "a}", "{}", "{0}", "{data}", "{data.}", "{key!r}", "{a b}"])
def test_what_is_no_template(text: str) -> None:
    with pytest.raises(ValueError):
        check_template(text)
