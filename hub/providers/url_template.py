"""URLs with holes, as ``https://orders.internal/open?user={user}&market={market}``. Pure: no I/O.

A value comes from a client (its user id, the name it subscribes to), so it may never become more than one segment
of the path or one value of the query.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

_HOLE = re.compile(r"\{([^{}]*)\}")
_URL = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<rest>(?:[/?].*)?)",
    re.DOTALL,
)
#: RFC 3986: what may stand in a path and a query as it is, besides escapes.
_PLAIN = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
#: What a client or a server on the way takes out of a path together with its neighbour.
_DOT_SEGMENT = re.compile(r"(?:\.|%2[eE]){1,2}")


def check_template(template: str, *, pattern: str, is_private: bool) -> None:
    """Raises ValueError unless ``template`` gives a URL for each channel of the namespace with ``pattern``.

    Known are {channel}, the holes that ``pattern`` names, and where the namespace is private {user}.
    """
    known = dict.fromkeys(["channel", *filter(None, _HOLE.findall(pattern))])
    if is_private:
        known["user"] = None
    for hole in _HOLE.findall(template):
        if hole not in known:
            names = ", ".join(f"{{{name}}}" for name in known)
            raise ValueError(f"{{{hole}}} is not known for channels {pattern}; known are {names}")
    _check_form(template)


def _check_form(template: str) -> None:
    match = _URL.fullmatch(template)
    if match is None or int(match["port"] or 80) not in range(1, 65536):
        raise ValueError(
            'expected a URL such as "https://orders.internal/open?user={user}"; no hole before its path, '
            "and no credentials, because it may be shown: those are provider.headers"
        )
    if not _PLAIN.fullmatch(_HOLE.sub("", match["rest"])):
        raise ValueError("a URL has no fragment, no spaces, and no braces but those of holes")


def fill_template(template: str, *, user: str | None, channel: str, holes: Mapping[str, str]) -> str:
    """The URL of one channel. ``holes``: what stands in those of the namespace's pattern; ``user``: whose it is.

    Raises ValueError for a hole without a value, and for values that would change the path itself ("..").
    """
    values = {**holes, "channel": channel}
    if user is not None:
        values["user"] = user

    def fill(hole: re.Match[str]) -> str:
        if not (value := values.get(hole[1])):
            raise ValueError(f"there is no {hole[1]} for {channel}")
        return quote(value, safe="")

    url = _HOLE.sub(fill, template)
    path = url.partition("://")[2].partition("?")[0]
    if any(map(_DOT_SEGMENT.fullmatch, path.split("/")[1:])):
        raise ValueError(f"the path for {channel} has a segment of dots")
    return url
