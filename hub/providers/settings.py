"""What the operator says about the back ends that give first states: section ``[provider]``."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from hub.sansio.options import Seconds, Size, option

#: RFC 9110: a header's name is a token.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: Those that the client sets itself: another value would break the request or its bounds.
_OWN = frozenset({"accept-encoding", "connection", "content-length", "host", "te", "transfer-encoding"})


def _check_header_value(value: str) -> None:
    if not re.fullmatch(r"[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?", value):
        raise ValueError("expected printable ASCII on one line, not empty")


@attrs.frozen(kw_only=True)
class ProviderSettings:
    """Section ``[provider]``; which URL a channel's state comes from is ``provider`` of its namespace."""

    timeout: Seconds = option(
        Seconds(5.0),
        doc="time for a channel's first state, tries included; beyond: 50000 to who subscribes",
        at_least=0.01,
    )
    headers: Mapping[str, str] = option(
        factory=dict,
        doc="headers of each request, such as authorization; values are never printed",
        secret=True,
        check=_check_header_value,
    )
    answer_size: Size = option(
        Size(2 * 1024 * 1024), doc="longest answer of a back end; beyond: it is none", at_least=2
    )
    connections: int = option(
        20, doc="connections to all back ends together; further requests wait", at_least=1, at_most=10_000
    )

    def __repr__(self) -> str:
        """Without the values of ``headers``, among which are keys."""
        return f"ProviderSettings(timeout={self.timeout!r}, headers={list(self.headers)})"

    def __attrs_post_init__(self) -> None:
        for name in self.headers:
            if not _NAME.fullmatch(name):
                raise ValueError(f'headers: "{name}" is no name of a header')
            if name.lower() in _OWN:
                raise ValueError(f"headers.{name} is set by the hub and cannot be changed")
