"""Publishing to a hub under test, over its operators' port."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx

from tests.hub_process import HubProcess


class Publisher:
    """``POST /publish``, one request a call."""

    def __init__(self, hub: HubProcess) -> None:
        self._client = httpx.Client(base_url=hub.admin_url, timeout=60.0, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def post(self, body: bytes | str, **headers: str) -> httpx.Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.post("/publish", content=body, headers=fields)

    def publish(self, channel: str, *values: Any, **fields: Any) -> list[dict[str, Any]]:
        """Publishes ``values`` in order; the results, all of which must be good."""
        return self.publish_items({"channel": channel, "data": value, **fields} for value in values)

    def publish_items(self, items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        body = "\n".join(map(json.dumps, items))
        response = self.post(body, content_type="application/x-ndjson")
        assert response.status_code == 200, response.text
        results: list[dict[str, Any]] = response.json()["results"]
        assert all("seq" in result for result in results), results
        return results
