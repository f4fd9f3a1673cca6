"""What tests of the page do again and again."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.hub_process import HubProcess
from tests.web.browser import Page

TRANSPORTS = ("websocket", "sse", "poll")


def publish(hub: HubProcess, *items: dict[str, Any]) -> None:
    body = "\n".join(map(json.dumps, items))
    headers = {"content-type": "application/x-ndjson"}
    with httpx.Client(trust_env=False, timeout=60.0) as client:
        answer = client.post(f"{hub.admin_url}/publish", content=body, headers=headers)
    assert answer.status_code == 200, answer.text


def numbered(channels: list[str], numbers: range) -> list[dict[str, Any]]:
    return [{"channel": channel, "data": {"n": n}} for n in numbers for channel in channels]


def switch(page: Page, transport: str) -> None:
    page.click(f"#transports label:has([value={transport}])")


def wait_connected(page: Page, using: str) -> None:
    page.wait_for(f"document.querySelector('#status[data-state=connected][data-using={using}]') !== null")


def wait_followed(page: Page, channels: list[str]) -> None:
    page.wait_for(f"{json.dumps(channels)}.every((name) => live.watched.has(name) && live.position(name))")


def row(channel: str) -> str:
    return f"[data-channel='{channel}']"
