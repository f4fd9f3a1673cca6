"""Names, patterns and which namespace a name falls into."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.names import Match, Namespaces, channel_type, check_pattern, is_channel_name
from hub.sansio.policies import Policy

ALPHABET = string.ascii_letters + string.digits + "_-.:@"
VALUES = {"market": ("btc_tl", "eth_usdt"), "interval": ("1m", "1h"), "depth": ("5", "20")}
NAMESPACES = Namespaces(
    (
        Policy(pattern="ticker@{market}", event="price_tick"),
        Policy(pattern="orderbook@{market}", snapshot="last"),
        Policy(pattern="orderbook.{depth}@{market}", event="top"),
        Policy(pattern="kline.{interval}@{market}"),
        Policy(pattern="orders", private=True),
        Policy(pattern="orders@{market}", private=True),
        Policy(pattern="positions", available=False),
        Policy(pattern="job:special", event="special"),
        Policy(pattern="job:*"),
        Policy(pattern="*:*:1m", event="candle"),
    ),
    VALUES,
)


@given(st.text(max_size=70) | st.text(ALPHABET, max_size=70))
def test_names(name: str) -> None:
    assert is_channel_name(name) == (1 <= len(name) <= 64 and all(char in ALPHABET for char in name))


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "a\n", "\na", "ä", "a/b", "a,b", "a\0", "٥"])
def test_not_a_name(name: str) -> None:
    assert not is_channel_name(name)
    with pytest.raises(RequestRefused) as refused:
        NAMESPACES.resolve(name)
    assert refused.value.code == ErrorCode.INVALID_CHANNEL
    assert refused.value.channel == name


@pytest.mark.parametrize(
    "name, kind",
    [("trades@btc_tl", "trades"), ("orderbook.20@btc_tl", "orderbook"), ("job:42", "job"), ("balances", "balances"),
     ("binance:BTCUSDT:1m", "binance"), ("@x", "")],
)  # fmt: skip
def test_types(name: str, kind: str) -> None:
    assert channel_type(name) == kind


@pytest.mark.parametrize(
    "name, pattern",
    [
        ("ticker@btc_tl", "ticker@{market}"),
        ("orderbook@eth_usdt", "orderbook@{market}"),
        ("orderbook.20@btc_tl", "orderbook.{depth}@{market}"),
        ("kline.1h@btc_tl", "kline.{interval}@{market}"),
        ("orders", "orders"),
        ("orders@btc_tl", "orders@{market}"),
        ("job:special", "job:special"),
        ("job:specials", "job:*"),
        ("job:", "job:*"),
        ("job:a:1m", "job:*"),
        ("binance:BTCUSDT:1m", "*:*:1m"),
    ],
)
def test_the_first_namespace_that_fits(name: str, pattern: str) -> None:
    assert NAMESPACES.resolve(name).pattern == pattern


@pytest.mark.parametrize(
    "name, code",
    [
        ("ticker@doge_tl", ErrorCode.UNAVAILABLE_CHANNEL),
        ("positions", ErrorCode.UNAVAILABLE_CHANNEL),
        ("orderbook.7@btc_tl", ErrorCode.INVALID_CHANNEL),
        ("orderbook.7@doge_tl", ErrorCode.INVALID_CHANNEL),
        ("orderbook.20@doge_tl", ErrorCode.UNAVAILABLE_CHANNEL),
        ("kline.2m@btc_tl", ErrorCode.INVALID_CHANNEL),
        ("ticker@BTC_TL", ErrorCode.INVALID_CHANNEL),
        ("ticker@btc", ErrorCode.INVALID_CHANNEL),
        ("ticker@btc_tl_", ErrorCode.INVALID_CHANNEL),
        ("ticker", ErrorCode.INVALID_CHANNEL),
        ("tickers@btc_tl", ErrorCode.INVALID_CHANNEL),
        ("orderbookx20@btc_tl", ErrorCode.INVALID_CHANNEL),
        ("xorders", ErrorCode.INVALID_CHANNEL),
    ],
)
def test_refused_names(name: str, code: ErrorCode) -> None:
    with pytest.raises(RequestRefused) as refused:
        NAMESPACES.resolve(name)
    assert refused.value.code == code
    assert refused.value.channel == name


def test_a_hole_without_configured_values_takes_any() -> None:
    namespaces = Namespaces((Policy(pattern="trades@{market}"),), {})
    assert namespaces.resolve("trades@any_thing").pattern == "trades@{market}"
    with pytest.raises(RequestRefused):
        namespaces.resolve("trades@anything")


def test_what_is_in_the_holes() -> None:
    policies = (
        Policy(pattern="kline.{interval}@{market}"),
        Policy(pattern="user:{user}:*"),
        Policy(pattern="box.{user}"),
        Policy(pattern="job:*"),
    )
    namespaces = Namespaces(policies, VALUES)
    assert namespaces.match("kline.1h@btc_tl") == Match(policies[0], {"interval": "1h", "market": "btc_tl"})
    assert namespaces.match("user:anna:news") == Match(policies[1], {"user": "anna"})
    assert namespaces.match("user:a.b@c-d_1:") == Match(policies[1], {"user": "a.b@c-d_1"})
    assert namespaces.match("user:a:b:c").holes == {"user": "a"}, (
        "no id reaches into the next part of the name"
    )
    assert namespaces.match("job:1") == Match(policies[3], {})
    for name in ("user::news", "user:anna", "user:an:"[:7]):
        with pytest.raises(RequestRefused):
            namespaces.match(name)


def test_the_whole_of_a_part() -> None:
    whole, part = (
        Policy(pattern="orders", private=True, parts="orders@{market}"),
        Policy(pattern="orders@{market}"),
    )
    namespaces = Namespaces((whole, part), {})
    assert namespaces.whole_of(part) == "orders"
    assert namespaces.whole_of(whole) is None


def test_no_namespace_takes_no_name() -> None:
    with pytest.raises(RequestRefused):
        Namespaces((), {}).resolve("a")


@given(pattern=st.text("ab.@:*", min_size=1, max_size=8), name=st.text("ab.@:", min_size=1, max_size=10))
def test_a_star_takes_anything_and_all_else_itself(pattern: str, name: str) -> None:
    expected = re.fullmatch(
        "".join(".*" if char == "*" else re.escape(char) for char in pattern), name, re.DOTALL
    )
    try:
        found = Namespaces((Policy(pattern=pattern),), {}).resolve(name).pattern == pattern
    except RequestRefused:
        found = False
    assert found == (expected is not None)


@given(
    st.lists(st.sampled_from(("a*", "*b", "ab", "*", "{market}", "a.*")), min_size=1, max_size=4),
    st.text("ab._", min_size=1, max_size=4),
)
def test_order_decides(patterns: list[str], name: str) -> None:
    def resolves(pattern: str) -> bool:
        try:
            Namespaces((Policy(pattern=pattern),), {}).resolve(name)
        except RequestRefused:
            return False
        return True

    fitting = [pattern for pattern in patterns if resolves(pattern)]
    assume(fitting)
    together = Namespaces([Policy(pattern=pattern) for pattern in patterns], {})
    assert together.resolve(name).pattern == fitting[0]


@pytest.mark.parametrize(
    "pattern",
    ["a", "*", "**", "{market}", "orderbook.{depth}@{market}", "A-Z_.:@", "*{depth}*", "user:{user}:*"],
)
def test_patterns(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["", " ", "a b", "{}", "{market", "market}", "{owner}", "{Market}", "{market}{market}", "{user}:{user}", "a/{market}", "ä*", "{a-b}", "a\n"],
)  # fmt: skip
def test_patterns_that_can_never_match(pattern: str) -> None:
    with pytest.raises(ValueError):
        check_pattern(pattern)
    with pytest.raises(ValueError):
        Namespaces((Policy(pattern=pattern),), {})


@pytest.mark.parametrize(
    "pattern", ["{user}*", "box.{user}.*", "*.{user}", "{market}{user}", "a@{user}-{depth}"]
)
def test_a_user_ends_with_a_colon_or_with_the_name(pattern: str) -> None:
    with pytest.raises(ValueError, match="colon"):
        check_pattern(pattern)
    for fine in ("user:{user}:*", "{user}", "box.{user}", "*:{user}:{market}"):
        check_pattern(fine)
