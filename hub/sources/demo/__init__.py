"""A small simulated exchange as a source: no set-up, and every kind of market channel."""

from hub.sources.demo.source import DemoSettings, DemoSource

__all__ = ["DemoSettings", "DemoSource"]
