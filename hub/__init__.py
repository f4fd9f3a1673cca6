"""A real-time hub: one log per channel, one cursor per subscription."""

from __future__ import annotations

__version__ = "0.1.0"
