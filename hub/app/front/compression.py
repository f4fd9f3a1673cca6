"""gzip for whole answers (RFC 9110, sections 8.4.1.3 and 12.5.3).

An endless answer is never compressed, and neither is a small one; tickets are in small ones.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Final

import trio

#: Below, an answer fits a packet anyway.
SMALLEST: Final = 1024
#: Above, it is compressed beside the loop: 64 KB take about a millisecond.
LARGEST_INLINE: Final = 64 * 1024
LEVEL: Final = 6
#: zlib's window bits for a gzip header and trailer.
_GZIP: Final = 31
#: At most this many at once; whoever comes then is answered uncompressed, rather than late.
_THREADS: Final = trio.CapacityLimiter(2)

_TEXT_TYPES: Final = re.compile(
    r"application/(json|javascript|x-ndjson)|image/svg\+xml|text/(?!event-stream)"
)
_WEIGHT: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


def is_compressible(status: int, size: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer is worth the work, wherever its client takes it."""
    return (
        status == 200
        and size >= SMALLEST
        and _TEXT_TYPES.match(headers["content-type"]) is not None
        and "content-encoding" not in headers
    )


def accepts_gzip(accepted: str) -> bool:
    """Whether ``Accept-Encoding`` allows gzip, and does not like it less than no encoding."""
    weights = dict(map(_parse_coding, accepted.lower().split(",")))
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _parse_coding(item: str) -> tuple[str, float]:
    """A coding and its weight; with a weight that cannot be read it is not wanted."""
    coding, _, parameter = (part.strip() for part in item.partition(";"))
    weight = _WEIGHT.fullmatch(parameter)
    return coding, float(weight[1]) if weight else 0.0 if parameter else 1.0


async def compress(body: bytes) -> bytes | None:
    """``body`` as gzip; None where that would have to wait for others."""
    if len(body) <= LARGEST_INLINE:
        return zlib.compress(body, LEVEL, _GZIP)
    if not _THREADS.available_tokens:
        return None
    return await trio.to_thread.run_sync(zlib.compress, body, LEVEL, _GZIP, limiter=_THREADS)


def encoded_headers(headers: Mapping[str, str], size: int) -> dict[str, str]:
    """The headers of an answer that was compressed to ``size`` bytes. Its ETag gets weak: these are other bytes."""
    fields = {**headers, "content-encoding": "gzip", "content-length": str(size)}
    if "etag" in fields:
        fields["etag"] = f"W/{fields['etag'].removeprefix('W/')}"
    return fields
