from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.providers import check_template, fill_template

ORDERS = "https://orders.internal:8443/v1/users/{user}/open?market={market}&channel={channel}"
PATTERN = "orders@{market}"


@pytest.mark.parametrize(
    "template",
    [
        ORDERS,
        "http://127.0.0.1/open",
        "http://[::1]:80/open?{user}",
        "http://h?u={user}",
        "http://h/{market}.{user}/%20/~a",
    ],
)
def test_templates(template: str) -> None:
    check_template(template, pattern=PATTERN, is_private=True)
    url = fill_template(template, user="u1", channel="orders@btc_tl", holes={"market": "btc_tl"})
    assert httpx.URL(url).raw_path.decode().lstrip("/") in url


@pytest.mark.parametrize(
    "template, why",
    [
        ("https://h/{owner}", r"\{owner\} is not known .* known are \{channel\}, \{market\}, \{user\}"),
        ("https://h/{depth}", r"\{depth\} is not known"),
        ("https://h/{}", r"\{\} is not known"),
        ("", "expected a URL"),
        ("h/open", "expected a URL"),
        ("ftp://h/open", "expected a URL"),
        ("https:///open", "expected a URL"),
        ("https://h:0/", "expected a URL"),
        ("https://h:65536/", "expected a URL"),
        ("https://h:x/", "expected a URL"),
        ("https://[::1/", "expected a URL"),
        ("https://a b/", "expected a URL"),
        ("https://u:p@h/", "credentials"),
        ("https://{user}.h/", "expected a URL"),
        ("https://h:{user}/", "expected a URL"),
        ("https://h/#", "fragment"),
        ("https://h/#{user}", "fragment"),
        ("https://h/a b", "no spaces"),
        ("https://h/a\n", "no spaces"),
        ("https://h/ü", "no spaces"),
        ("https://h/{user", "no braces"),
        ("https://h/user}", "no braces"),
        ("https://h/%zz", "no spaces"),
    ],
)
def test_what_is_no_template(template: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_template(template, pattern=PATTERN, is_private=True)


def test_a_public_channel_has_no_user() -> None:
    with pytest.raises(ValueError, match=r"known are \{channel\}, \{market\}$"):
        check_template("https://h/{user}", pattern="orderbook@{market}", is_private=False)
    check_template("https://h/{user}", pattern="user:{user}:*", is_private=False)


@pytest.mark.parametrize(
    "user",
    ["a/b", "../admin", "a?x=1", "a#b", "a&market=x", "a b", "a%2Fb", "ü", "a\r\nx", "{market}", "\\", "@h"],
)
def test_a_user_stays_one_segment_and_one_value(user: str) -> None:
    for template in ("https://h/u/{user}/open?m={market}", "https://h/open?user={user}&m={market}"):
        parts = urlsplit(fill_template(template, user=user, channel="c", holes={"market": "btc_tl"}))
        query = parse_qs(parts.query, strict_parsing=True)
        assert query.pop("m") == ["btc_tl"]
        assert (unquote(parts.path), query) in ((f"/u/{user}/open", {}), ("/open", {"user": [user]}))
        assert (parts.netloc, parts.fragment) == ("h", "")


@pytest.mark.parametrize("user", [".", "..", ""])
def test_a_user_that_would_change_the_path(user: str) -> None:
    with pytest.raises(ValueError):
        fill_template("https://h/u/{user}/open", user=user, channel="c", holes={})


def test_dots_in_a_query_are_only_dots() -> None:
    assert fill_template("https://h/?u={user}", user="..", channel="c", holes={}) == "https://h/?u=.."
    assert fill_template("https://h/x{user}", user="..", channel="c", holes={}) == "https://h/x.."


def test_dots_may_not_come_together_either() -> None:
    with pytest.raises(ValueError, match="dots"):
        fill_template("https://h/{user}{market}/x", user=".", channel="c", holes={"market": "."})


@pytest.mark.parametrize("hole", ["user", "market"])
def test_a_hole_without_a_value(hole: str) -> None:
    with pytest.raises(ValueError, match=f"there is no {hole} for orders"):
        fill_template(f"https://h/{{{hole}}}", user=None, channel="orders", holes={})


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_what_comes_out_is_what_went_in(user: str) -> None:
    """As the client library sends it: nothing is taken out, and nothing is read twice."""
    template = "https://h/u/{user}/open?v={user}"
    if user in (".", ".."):
        return
    url = httpx.URL(fill_template(template, user=user, channel="c", holes={}))
    assert (
        url.raw_path == fill_template(template, user=user, channel="c", holes={}).encode()[len("https://h") :]
    )
    assert url.params["v"] == user


def test_a_user_that_is_no_text() -> None:
    with pytest.raises(ValueError):
        fill_template("https://h/{user}", user="\ud800", channel="c", holes={})
