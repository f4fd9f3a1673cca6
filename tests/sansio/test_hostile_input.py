"""Requests that were made to hurt: each is refused or ends the connection, and none escapes as another error."""

from __future__ import annotations

import cbor2
import pytest

from hub.sansio.commands import Subscribe, Subscribed, Unsubscribe
from hub.sansio.errors import CloseCode, ErrorCode, ProtocolViolated, RequestRefused
from hub.sansio.live import LiveEnvelope
from hub.sansio.names import check_pattern
from hub.sansio.payload import BadPayload, check_payload
from hub.sansio.protocol import Limits, Protocol
from hub.sansio.stream_v2 import StreamV2Cbor, StreamV2Json

LIMITS = Limits(params=200, cursor_size=2048)

SURROGATES = (
    (StreamV2Json(), r'{"method":"subscribe","id":1,"params":["\ud800"]}'),
    (StreamV2Json(), r'{"method":"unsubscribe","id":1,"params":["\ud800"]}'),
    (LiveEnvelope(), r'{"type":"subscribe","channels":["a\udfff"]}'),
    (LiveEnvelope(), r'{"type":"unsubscribe","channels":["a\udfff"]}'),
)


@pytest.mark.parametrize("protocol, message", SURROGATES)
def test_a_lone_surrogate_in_a_name_can_be_answered(protocol: Protocol, message: str) -> None:
    try:
        command = protocol.parse(message, LIMITS)
    except (RequestRefused, ProtocolViolated):
        return
    if isinstance(command, Subscribe):
        refusal = RequestRefused(
            ErrorCode.INVALID_CHANNEL, "invalid channel name", channel=command.channels[0]
        )
        assert protocol.subscribed(command, Subscribed((), (refusal,), {}), 1)
    assert not isinstance(command, Unsubscribe) or protocol.unsubscribed(command, 1)


def _nested(depth: int) -> bytes:
    return b"\x81" * (depth - 1) + b"\x80"


def test_cbor_is_nested_at_most_32_levels() -> None:
    with pytest.raises(RequestRefused):
        StreamV2Cbor().parse(_nested(32), LIMITS)
    with pytest.raises(ProtocolViolated) as violated:
        StreamV2Cbor().parse(_nested(33), LIMITS)
    assert violated.value.code == CloseCode.INVALID_MESSAGE


def test_cbor_is_one_item() -> None:
    with pytest.raises(ProtocolViolated):
        StreamV2Cbor().parse(cbor2.dumps({"method": "ping", "id": 1}) + b"\x00", LIMITS)


@pytest.mark.parametrize("number", [b"1" * 309 + b"0", b"-" + b"9" * 400, b"1e999", b"1" * 5000])
def test_numbers_beyond_a_double_are_refused(number: bytes) -> None:
    with pytest.raises(BadPayload):
        check_payload(number)


def test_a_hole_twice_in_a_pattern_is_the_operators_error() -> None:
    with pytest.raises(ValueError):
        check_pattern("{market}:{market}")
