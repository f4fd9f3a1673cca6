"""CBOR from outside: one item, its depth bounded, no key twice, and none of the tags that make a decoder work.

What stands behind a tag may be a pattern to compile, a message to parse or a number of a billion digits; none of that
is said by anything that we read.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from functools import cache
from typing import Any, Final, NoReturn

import cbor2

#: What cbor2 6.3 raises for hostile input beside its own errors.
CBOR_ERRORS: Final = (cbor2.CBORError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError)
#: The tags that cbor2 6.3 has decoders for. Others come to the tag hook.
_KNOWN_TAGS: Final = (
    *range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip
#: Integers of more than 64 bits; and besides decimal fractions.
INTEGER_TAGS: Final = frozenset({2, 3})
NUMBER_TAGS: Final = frozenset({2, 3, 4, 5})


def loads(data: bytes, *, max_depth: int, tags: Collection[int] = frozenset()) -> Any:
    """The value of the one item that ``data`` is. Raises CBOR_ERRORS for anything else, and for tags other than
    ``tags``."""
    stream = io.BytesIO(data)
    decoder = cbor2.CBORDecoder(
        stream,
        # cbor2 6.3 counts the outermost container as depth 0, and reads ahead unless told not to.
        max_depth=max_depth - 1,
        read_size=1,
        allow_duplicate_keys=False,
        semantic_decoders=_refusing(frozenset(tags)),
        tag_hook=_refuse,
    )
    value = decoder.decode()
    if stream.tell() != len(data):
        raise ValueError("more than one item")
    return value


@cache
def _refusing(tags: frozenset[int]) -> dict[int, Any]:
    return {tag: _refuse for tag in _KNOWN_TAGS if tag not in tags}


def _refuse(*_: object) -> NoReturn:
    raise ValueError("a tag that is not taken here")
