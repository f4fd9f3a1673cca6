from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.app.settings.redaction import names_secret, redact


@pytest.mark.parametrize(
    "text, safe",
    [
        ("GET /v2?token=abc.def&x=1", "GET /v2?token=***&x=1"),
        ("access_token = 'a b' and more", "access_token = *** and more"),
        ('api_key="abc", api-key=abc; apiKey=abc', "api_key=***, api-key=***; apiKey=***"),
        ("PASSWORD=hunter2", "PASSWORD=***"),
        ("ticket=42", "ticket=***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("Authorization: Basic dTpw", "Authorization: Basic ***"),
        ("(b'authorization', b'Bearer abc')", "(b'authorization', b'Bearer ***')"),
        ("ApiKey k-123,", "ApiKey ***,"),
        ('{"accessToken": "a \' b", "x": 1}', '{"accessToken": "***", "x": 1}'),
        ("{'password': 'correct horse'}", "{'password': '***'}"),
        (r'"{\"token\":\"abc\"}"', r'"{\"token\":\"***\"}"'),
        ("redis://user:p:w@host:1/0", "redis://***@host:1/0"),
        ("redis://:pw@host", "redis://***@host"),
        ("postgres://u:p@ss@host/db", "postgres://***@host/db"),
        ("got eyJhbGciOi.eyJzdWIi.c2ln_-x!", "got ***!"),
        ("got eyJhbGciOi.eyJzdWIi.", "got ***"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, safe: str) -> None:
    assert redact(text) == safe


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8080/sse?channels=a@b",
        "ws://[::1]:8080/v2",
        "invalid token: expired",
        "tokens=5 of the bucket",
        "token_consume_fail_total",
        "trades@btc_tl",
        "the bearer",
        "eyJust a word",
        "orders of user 42: 10 open",
    ],
)
def test_what_does_not_is_left_alone(text: str) -> None:
    assert redact(text) == text


@given(st.text(), st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8))
def test_a_token_in_a_query_never_comes_through(before: str, token: str) -> None:
    # What it stands among may hold the same text by chance.
    assert f"token={token}" not in redact(f"{before}token={token}&after")


@given(st.text())
def test_masking_twice_is_masking_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "key", ["token", "accessToken", "x-api-key", "password", "Authorization", "client_secret"]
)
def test_names_of_secrets(key: str) -> None:
    assert names_secret(key)


@pytest.mark.parametrize("key", ["tokens", "tokenConsumed", "key", "connId", ""])
def test_names_of_other_things(key: str) -> None:
    assert not names_secret(key)
