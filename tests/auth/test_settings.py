"""Section [auth]: what is refused says where it stands and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.app.settings import ConfigurationError, load
from hub.auth import AuthConfigurationError, AuthSettings, HubAuthenticator


def problem_of(line: str, tmp_path: Path) -> str:
    path = tmp_path / "hub.toml"
    path.write_text(f"[auth]\n{line}\n")
    with pytest.raises(ConfigurationError) as caught:
        load(path, {}, [], {}, {})
    (problem,) = caught.value.problems
    return problem.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    "line, shown, right",
    [
        ('jwt_algorithms = ["HS256"]', 'auth.jwt_algorithms[0] = "HS256"', '"RS256"'),
        ('jwt_algorithms = ["none"]', 'auth.jwt_algorithms[0] = "none"', '"EdDSA"'),
        ('jwt_algorithms = []\njwt_key_files = ["k.pem"]', "jwt_algorithms is empty", '["RS256"]'),
        ('jwt_key_files = [""]', 'auth.jwt_key_files[0] = ""', "kid=path"),
        ('jwt_key_files = ["kid="]', 'auth.jwt_key_files[0] = "kid="', "kid=path"),
        ('gateway_networks = ["10.0.0.1/8"]', 'auth.gateway_networks[0] = "10.0.0.1/8"', "10.0.0.0/8"),
        ('gateway_networks = ["gateway"]', 'auth.gateway_networks[0] = "gateway"', "10.0.0.0/8"),
        ('gateway_networks = ["0.0.0.0/0"]', 'auth.gateway_networks[0] = "0.0.0.0/0"', "anybody"),
        ('gateway_networks = ["::/0"]', 'auth.gateway_networks[0] = "::/0"', "anybody"),
        ('gateway_networks = ["::ffff:10.0.0.0/104"]', "auth.gateway_networks[0]", "10.0.0.0/8"),
        ('user_claim = ""', 'auth.user_claim = ""', '"sub"'),
        ('default_tier = "anonymous"', 'auth.default_tier = "anonymous"', '"retail"'),
        ('on_expiry = "warn"', 'auth.on_expiry = "warn"', '"keep"'),
        ('ticket_age = "2h"', "auth.ticket_age", "1h"),
        ("tickets = 0", "auth.tickets = 0", "1"),
        ('jwks_refresh = "1s"', 'auth.jwks_refresh = "1s"', "10s"),
    ],
)
def test_what_is_wrong_is_told(line: str, shown: str, right: str, tmp_path: Path) -> None:
    problem = problem_of(line, tmp_path)
    assert shown in problem
    assert right in problem


@pytest.mark.parametrize(
    "url",
    [
        "http://login.test/jwks", "http://10.0.0.1/jwks", "http://0.0.0.0/", "ftp://localhost/", "https://", "https:///x",
        "login.test/jwks", "https://user:pw@login.test/", "https://login.test:x/", "https://[::1/", "https://a b/",
        "https://é.test/", f"https://{'a' * 64}.test/", "https://a..test/", "http://127.0.0.1.evil.test/",
    ],
)  # fmt: skip
def test_a_url_of_keys_is_safe(url: str, tmp_path: Path) -> None:
    problem = problem_of(f'jwks_url = "{url}"', tmp_path)
    assert "auth.jwks_url = " in problem
    assert "https://login.example.com/jwks.json" in problem
    assert "pw" not in problem.replace("password", "")


@pytest.mark.parametrize(
    "url",
    ["https://login.test/jwks?x=1", "https://[2001:db8::1]:8443/", "http://localhost:1/", "http://127.0.0.1/", "http://[::1]/"],
)  # fmt: skip
def test_urls_that_are(url: str, tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(f'[auth]\njwks_url = "{url}"\n')
    assert load(path, {}, [], {}, {}).auth.jwks_url == url


def test_by_default_nobody_is_known() -> None:
    assert not AuthSettings().takes_tokens
    HubAuthenticator(AuthSettings())


def test_a_path_may_have_an_equals_sign(tmp_path: Path) -> None:
    for entry in (f"={tmp_path}/a=b.pem", f"k1={tmp_path}/a=b.pem"):
        with pytest.raises(AuthConfigurationError, match="No such file"):
            HubAuthenticator(AuthSettings(jwt_key_files=(entry,)))
    (tmp_path / "a=b.pem").write_text("x")
    with pytest.raises(AuthConfigurationError, match="expected a PEM file"):
        HubAuthenticator(AuthSettings(jwt_key_files=(f"={tmp_path}/a=b.pem",)))
