"""Wholes and parts: an event of ``orders`` about a market is an event of ``orders@{market}`` too."""

from __future__ import annotations

from functools import cache

import msgspec

from hub.sansio.views.payloads import field_of

_items = msgspec.json.Decoder(list[msgspec.Raw])


class Parts:
    """Finds the part that an event belongs to, by ``template``: a channel's name with one hole for a field of the
    payload."""

    def __init__(self, template: str) -> None:
        self._before, _, rest = template.partition("{")
        self._field, _, self._after = rest.partition("}")

    def name_of(self, item: bytes) -> str | None:
        """The part of an event that is not a list; None where the event does not say."""
        value = field_of(item, self._field)
        return None if value is None else f"{self._before}{value}{self._after}"

    def only(self, data: bytes, name: str) -> bytes:
        """The items of a list that belong to the part ``name``, or do not say where they belong."""
        items = [bytes(item) for item in _items.decode(data)] if is_list(data) else [data]
        return b"[%b]" % b",".join(item for item in items if self.name_of(item) in (None, name))

    def group(self, data: bytes) -> dict[str | None, bytes]:
        """The items of a payload by part, each group as a list; a payload that is no list is a list of one."""
        groups: dict[str | None, list[bytes]] = {}
        for item in _items.decode(data) if is_list(data) else [data]:
            groups.setdefault(self.name_of(bytes(item)), []).append(bytes(item))
        return {name: b"[%b]" % b",".join(items) for name, items in groups.items()}


@cache
def parts_of(template: str) -> Parts:
    """The Parts of a template; there are as many as there are namespaces."""
    return Parts(template)


def is_list(data: bytes) -> bool:
    """Whether a payload, which is JSON, is a list."""
    return data.lstrip()[:1] == b"["
