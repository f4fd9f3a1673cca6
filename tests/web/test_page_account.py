"""Signing in on the page: one's own channels over every transport, and the key nowhere but in headers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hub_process import ROOT, HubProcess, running_hub
from tests.web.browser import Browser, Page
from tests.web.steps import TRANSPORTS, row, switch, wait_connected

pytestmark = pytest.mark.needs("node", "node packages", "chromium")

OWN = ("orders", "fills", "balances")
#: Notes all that the page opens a connection to.
SPY = """window.opened = [];
for (const name of ["WebSocket", "EventSource"]) {
    window[name] = new Proxy(window[name], {
        construct(target, [url, ...rest]) { opened.push(String(url)); return new target(url, ...rest); },
    });
}
const ask = window.fetch;
window.fetch = (url, ...rest) => { opened.push(String(url)); return ask(url, ...rest); };
"""


def hub_keys(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hub", "keys", *arguments, "--file", str(file)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)


def add_key(file: Path, user: str) -> tuple[str, str]:
    """A new key, and the id by which it is revoked."""
    added = hub_keys(file, "add", "--user", user)
    found = re.search(r"k_\w+", added.stderr)
    assert found is not None
    return added.stdout.strip(), found[0]


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.toml"


@pytest.fixture(scope="module")
def key(key_file: Path) -> str:
    return add_key(key_file, "demo-alice")[0]


@pytest.fixture(scope="module")
def market(key_file: Path, key: str) -> Iterator[HubProcess]:
    settings = (f'auth.api_key_file="{key_file}"', "server.drain_window=0")
    with running_hub(ROOT / "conf" / "demo.toml", *settings) as hub:
        yield hub


def sign_in(page: Page, credentials: str) -> None:
    page.wait_for("live.state === 'connected'")
    page.click("#account summary")
    page.call("fill", "#credentials", credentials)
    page.click("#account .enter")


def wait_signed_in(page: Page, user: str) -> None:
    page.wait_for(f"document.querySelector('#account')?.dataset.user === '{user}'")


def wait_signed_out(page: Page) -> None:
    page.wait_for("document.querySelector('#account')?.dataset.user === '' && live.state === 'connected'")


def test_own_channels_over_every_transport(browser: Browser, market: HubProcess, key: str) -> None:
    with browser.open(market.public_url, script=SPY) as page:
        page.wait_for("live.listing !== null")
        assert not page.evaluate(
            "[...live.listing.channels.keys()].some((name) => name.startsWith('orders'))"
        )
        sign_in(page, key)
        wait_signed_in(page, "demo-alice")
        for transport in TRANSPORTS:
            switch(page, transport)
            wait_connected(page, transport)
            before = page.evaluate("live.position('balances')?.seq ?? 0")
            page.wait_for(f"live.position('balances')?.seq > {before} && store.open('orders').value !== null")
            assert not page.evaluate("live.refused.size")
        assert page.attributes("#proof") == {"lost": "0", "repeated": "0"}
        for channel in OWN:
            page.click(f"{row(channel)} button")
            page.wait_for("document.querySelector('#detail .entry') !== null")
        opened = page.evaluate("opened")
        assert {url.partition("?")[0].rpartition("/")[2] for url in opened} >= {
            "live",
            "sse",
            "poll",
            "ticket",
        }
        assert not [url for url in (*opened, page.evaluate("location.href")) if key in url]
        assert key not in "\n".join(market.raw_log)
        page.click("#account summary")
        page.click("#account .leave")
        wait_signed_out(page)
        assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]
        assert page.evaluate("[...store.channels.values()].every(({ name }) => name !== 'orders')")


@pytest.mark.parametrize("wrong", ["hub_nobody", "a.b.c", "no key at all", "<b>ğ</b>"])
def test_what_is_nobodys_is_refused_in_words(browser: Browser, market: HubProcess, wrong: str) -> None:
    with browser.open(market.public_url) as page:
        sign_in(page, wrong)
        page.wait_for("document.querySelector('#account .refusal').textContent.startsWith('Not accepted')")
        assert page.evaluate("sessionStorage.length") == 0
        assert page.evaluate("live.state") == "connected"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_who_is_put_out_goes_on_as_nobody(
    browser: Browser, market: HubProcess, key_file: Path, transport: str
) -> None:
    key, key_id = add_key(key_file, "demo-bob")
    with browser.open(market.public_url) as page:
        sign_in(page, key)
        wait_signed_in(page, "demo-bob")
        switch(page, transport)
        wait_connected(page, transport)
        hub_keys(key_file, "revoke", key_id)
        httpx.post(f"{market.admin_url}/admin/disconnect?userId=demo-bob&code=4003", trust_env=False)
        wait_signed_out(page)
        page.wait_for("document.querySelector('#account .refusal').textContent.startsWith('Signed out')")
        assert page.evaluate("sessionStorage.length") == 0
        assert not page.evaluate("live.watched.has('orders')")
