"""Channel names: their alphabet, and the patterns that sort them into namespaces.

A pattern is a name with holes: ``{market}``, ``{interval}`` and ``{depth}`` take one of the configured
values, ``{user}`` takes the id of the only user who may have the channel, ``*`` takes anything.
``trades@{market}``, ``orderbook.{depth}@{market}``, ``user:{user}:*``, ``bench:*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import attrs

from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.policies import Policy

MAX_NAME_LENGTH = 64

_NAME = re.compile(rf"[A-Za-z0-9_.:@-]{{1,{MAX_NAME_LENGTH}}}")
_HOLE = re.compile(r"\{(\w+)\}|(\*)")

#: What each hole may hold, before it is looked up in the configured values.
_HOLES = {
    "market": "[a-z0-9]+_[a-z0-9]+",
    "interval": "[0-9]+[a-z]+",
    "depth": "[0-9]+",
    "user": "[A-Za-z0-9_.@-]+",
}


def is_channel_name(name: str) -> bool:
    """Whether a name can be a channel's at all (stream-v2.md, "Channel names")."""
    return _NAME.fullmatch(name) is not None


def channel_type(name: str) -> str:
    """The type of a channel, by which metrics are labelled: ``trades@btc_tl`` and ``job:42`` are trades and job."""
    return re.split(r"[@.:]", name, maxsplit=1)[0]


def check_pattern(pattern: str) -> None:
    """Raises ValueError for a pattern that could never match, or that has a hole nobody can fill."""
    for hole in _HOLE.finditer(pattern):
        if hole[1] and hole[1] not in _HOLES:
            raise ValueError(
                f"unknown hole {{{hole[1]}}}; known are {', '.join(f'{{{name}}}' for name in _HOLES)} and *"
            )
    holes = [hole[1] for hole in _HOLE.finditer(pattern) if hole[1]]
    if len(holes) != len(set(holes)):
        raise ValueError("a hole can be there once")
    # A user's id has all characters of a name but the colon, so only that can end it.
    if re.search(r"\{user\}[^:]*[{*]|[}*][^:]*\{user\}", pattern):
        raise ValueError(
            "there must be a colon between {user} and another hole, or it could be read in two ways"
        )
    literal = _HOLE.sub("", pattern)
    if not pattern or (literal and not re.fullmatch(r"[A-Za-z0-9_.:@-]+", literal)):
        raise ValueError("a channel's name has only the characters A-Z a-z 0-9 _ - . : @")


@attrs.frozen
class _Namespace:
    pattern: re.Pattern[str]
    policy: Policy


@attrs.frozen
class Match:
    """What is known of a channel by its name: its policy, and what is in the holes of the pattern."""

    policy: Policy
    holes: Mapping[str, str]


class Namespaces:
    """Finds the policy of a channel by its name. The first pattern that matches wins, in the configured order.

    ``values`` holds, by hole, the values that are allowed there; a hole without an entry takes any.
    """

    def __init__(self, policies: Iterable[Policy], values: Mapping[str, Iterable[str]]) -> None:
        self._namespaces = [_Namespace(_compile(policy.pattern), policy) for policy in policies]
        self._values = {hole: frozenset(allowed) for hole, allowed in values.items()}
        self._wholes = {
            namespace.policy.parts: namespace.policy.pattern
            for namespace in self._namespaces
            if namespace.policy.parts
        }

    def whole_of(self, policy: Policy) -> str | None:
        """The channel of which those of ``policy`` are parts, where they are."""
        return self._wholes.get(policy.pattern)

    def resolve(self, name: str) -> Policy:
        """The policy of channel ``name``. Raises RequestRefused like ``match``."""
        return self.match(name).policy

    def match(self, name: str) -> Match:
        """What is known of channel ``name``. Raises RequestRefused: 40001 for a name of no namespace, 40002 for a
        market that is not configured or a channel that is not available yet."""
        if not is_channel_name(name):
            raise RequestRefused(ErrorCode.INVALID_CHANNEL, "invalid channel name", channel=name)
        for namespace in self._namespaces:
            if (match := namespace.pattern.fullmatch(name)) is not None:
                self._check_holes(name, match)
                if not namespace.policy.available:
                    raise RequestRefused(
                        ErrorCode.UNAVAILABLE_CHANNEL, "channel not available yet", channel=name
                    )
                return Match(namespace.policy, match.groupdict())
        raise RequestRefused(ErrorCode.INVALID_CHANNEL, "no such channel", channel=name)

    def _check_holes(self, name: str, match: re.Match[str]) -> None:
        for hole, value in match.groupdict().items():
            if (allowed := self._values.get(hole)) is not None and value not in allowed:
                code = ErrorCode.UNAVAILABLE_CHANNEL if hole == "market" else ErrorCode.INVALID_CHANNEL
                raise RequestRefused(code, f"unknown {hole}", channel=name)


def _compile(pattern: str) -> re.Pattern[str]:
    check_pattern(pattern)
    parts, end = [], 0
    for hole in _HOLE.finditer(pattern):
        parts.append(re.escape(pattern[end : hole.start()]))
        parts.append(f"(?P<{hole[1]}>{_HOLES[hole[1]]})" if hole[1] else ".*")
        end = hole.end()
    parts.append(re.escape(pattern[end:]))
    return re.compile("".join(parts))
