"""What a hub holds in memory and descriptors: before, during and after."""

from __future__ import annotations

import time
from typing import Any

import httpx

from tests.hub_process import HubProcess

#: Connections of ours that may still be open at the operators' port.
KEPT_ALIVE = 2
#: How much a run may add to a process's memory where nothing grows: the allocator's own business.
MEMORY_SLACK = 24 * 2**20
#: For a hub to let go of clients that have left, in seconds.
PATIENCE = 60.0


class Footprint:
    """What a hub holds: without clients, while they are there, and after they have left."""

    def __init__(self, hub: HubProcess) -> None:
        self._hub = hub
        self._began = time.monotonic()
        self._published = self._count_published()
        self._descriptors = hub.descriptors()
        self._most_descriptors = self._descriptors
        self._memory: list[int] = []
        self._left_descriptors = self._left_memory = self._left_connections = 0
        self.rate = 0.0

    def look(self) -> None:
        self._most_descriptors = max(self._most_descriptors, self._hub.descriptors())
        self._memory.append(self._hub.resident_bytes())

    def settle(self) -> None:
        """Waits for the hub to let go of clients that have left."""
        self.rate = (self._count_published() - self._published) / (time.monotonic() - self._began)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self._left_descriptors = self._hub.descriptors()
            self._left_connections = len(self._get("/admin/connections")["connections"])
            if not self._left_connections and self._left_descriptors <= self._descriptors + KEPT_ALIVE:
                break
            time.sleep(0.5)
        self._left_memory = self._hub.resident_bytes()

    def failures(self) -> list[str]:
        found = []
        if self._left_connections:
            found.append(f"{self._left_connections} connections are left in the hub")
        if self._left_descriptors > self._descriptors + KEPT_ALIVE:
            found.append(f"descriptors: {self._descriptors} before, {self._left_descriptors} after")
        if self._left_memory > self._height() + MEMORY_SLACK:
            found.append(f"memory: {self._height()} in the middle, {self._left_memory} after")
        return found

    def _height(self) -> int:
        """The most memory in the first half, when all that is buffered is there."""
        return max(self._memory[: len(self._memory) // 2 + 1])

    def _count_published(self) -> int:
        return int(self._get("/readyz")["sources"]["demo"]["published"])

    def _get(self, path: str) -> Any:
        return httpx.get(self._hub.admin_url + path, timeout=30, trust_env=False).json()

    def __str__(self) -> str:
        tenth = max(1, len(self._memory) // 10)
        memory = [max(self._memory[at : at + tenth]) for at in range(0, len(self._memory), tenth)]
        course = " ".join(f"{size / 2**20:.0f}" for size in memory)
        return (
            f"hub: {self.rate:.0f} events/s; descriptors {self._descriptors} before, up to {self._most_descriptors}, "
            f"{self._left_descriptors} after; memory in MB, tenth by tenth: {course}; "
            f"{self._left_memory / 2**20:.0f} after\n"
        )
