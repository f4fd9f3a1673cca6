from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sansio.options import (
    Seconds,
    Size,
    find_option,
    format_seconds,
    format_size,
    option,
    parse_seconds,
    parse_size,
)


@pytest.mark.parametrize(
    "written, seconds",
    [
        (5, 5.0),
        (0, 0.0),
        (2.5, 2.5),
        ("250ms", 0.25),
        ("5s", 5.0),
        ("5 s", 5.0),
        ("5m", 300.0),
        ("1.5h", 5400.0),
        ("0s", 0.0),
        ("0.1s", 0.1),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert parse_seconds(written) == seconds


@pytest.mark.parametrize(
    "written, size", [(0, 0), (100, 100), ("512B", 512), ("64KB", 65536), ("1.5MB", 1572864), ("1GB", 2**30)]
)
def test_sizes(written: object, size: int) -> None:
    assert parse_size(written) == size


NEITHER: list[object] = [
    True, None, -1, "", "5", "m", "-5s", "5x", "5S", "1h30m", "5\n", "٥s", "5 seconds", "1e3s", [], {},
]  # fmt: skip


@pytest.mark.parametrize("written", [*NEITHER, -0.5, math.nan, math.inf, 10**400, f"{10**400}h", "64MB"])
def test_not_a_duration(written: object) -> None:
    with pytest.raises(ValueError):
        parse_seconds(written)


@pytest.mark.parametrize("written", [*NEITHER, 1.0, 1.5, math.nan, "0.5B", "1.0001KB", "64kb", "64KiB", "5m"])
def test_not_a_size(written: object) -> None:
    with pytest.raises(ValueError):
        parse_size(written)


@given(st.floats(min_value=0, allow_infinity=False))
def test_a_duration_survives_being_written(seconds: float) -> None:
    assert parse_seconds(format_seconds(seconds)) == seconds
    assert parse_seconds(seconds) == seconds


@given(st.integers(min_value=0))
def test_a_size_survives_being_written(size: int) -> None:
    assert parse_size(format_size(size)) == size
    assert parse_size(size) == size


@given(
    st.integers(min_value=0, max_value=10**9),
    st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)]),
)
def test_a_duration_is_the_number_times_its_unit(count: int, unit: tuple[str, float]) -> None:
    assert parse_seconds(f"{count}{unit[0]}") == pytest.approx(count * unit[1])


@given(st.text())
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    for parse in (parse_seconds, parse_size):
        try:
            assert parse(text) >= 0
        except ValueError:
            pass


@pytest.mark.parametrize(
    "seconds, text", [(0, "0s"), (0.25, "250ms"), (90, "90s"), (300, "5m"), (3600, "1h"), (0.0005, "0.0005s")]
)
def test_durations_are_written_in_the_largest_unit_that_is_exact(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    "size, text", [(0, "0B"), (1000, "1000B"), (1024, "1KB"), (2**26, "64MB"), (2**40, "1024GB")]
)
def test_sizes_are_written_in_the_largest_unit_that_is_exact(size: int, text: str) -> None:
    assert format_size(size) == text


@attrs.frozen(kw_only=True)
class Example:
    needed: str = option(doc="has no default", secret=True)
    rate: float = option(100.0, doc="events per second", unit="events", at_least=0.0, at_most=1e4)
    mode: str = option("a", doc="how", choices=("a", "b"))
    table: Mapping[str, int] = option(factory=dict, doc="made anew each time")
    age: Seconds = option(Seconds(5), doc="a duration")
    room: Size = option(Size(5), doc="a size", check=str)
    plain: int = 0


def _option(name: str) -> Any:
    return find_option(attrs.fields_dict(Example)[name])


def test_an_option_is_an_attrs_field_that_knows_what_it_is_for() -> None:
    assert Example(needed="x") == Example(
        needed="x", rate=100.0, mode="a", table={}, age=Seconds(5), room=Size(5)
    )
    assert Example(needed="x").table is not Example(needed="x").table
    with pytest.raises(TypeError, match="needed"):
        Example()
    assert _option("needed").secret
    assert (_option("rate").unit, _option("rate").at_least, _option("rate").at_most) == ("events", 0.0, 1e4)
    assert _option("mode").choices == ("a", "b")
    assert _option("room").check is str
    assert _option("plain") is None
