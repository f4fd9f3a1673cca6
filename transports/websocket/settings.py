"""The transport's section of the configuration."""

from __future__ import annotations

import attrs

from hub.sansio.options import Seconds, Size, option
from hub.sansio.permessage_deflate import LARGEST_WINDOW, LEAST_WINDOW


@attrs.frozen(kw_only=True)
class WebSocketSettings:
    message_size: Size = option(
        Size(4096),
        doc="largest message a client may send, all fragments together, compressed or not",
        at_least=128,
    )
    ping_interval: Seconds = option(
        Seconds(30.0),
        doc="how often the hub pings; a client that is silent for limits.idle_timeout is closed",
        at_least=1.0,
    )
    deflate: str = option(
        "shared",
        doc=(
            "compression for clients that offer it; shared: each message is compressed once for all of them;"
            " context: for each client with what it was sent before, which is smaller, but costs CPU and memory"
            " for every client"
        ),
        choices=("shared", "context", "off"),
    )
    deflate_level: int = option(
        5, doc="effort of compression; more than 6 is not worth it", at_least=1, at_most=9
    )
    deflate_min_size: Size = option(Size(128), doc="smaller messages are not compressed", at_least=1)
    deflate_window: int = option(
        12,
        doc=(
            "how far back compression looks, as a power of two; with deflate = context each client takes memory"
            " for it: about 20 KB at 10, 40 KB at 12, 70 KB at 13, 270 KB at 15"
        ),
        unit="bits",
        at_least=LEAST_WINDOW,
        at_most=LARGEST_WINDOW,
    )
