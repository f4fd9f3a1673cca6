"""What can go wrong, by whose fault it is.

::

    HubError
    ├── RequestRefused      the client asked for what it cannot have; the connection lives on
    ├── ProtocolViolated    the client broke the protocol; the connection ends with a close code
    └── PublishRefused      a publisher sent what no channel can take; the item is skipped

Configuration errors are the operator's and live where configuration is read (``hub.app.settings``).
"""

from __future__ import annotations

import enum


class ErrorCode(enum.IntEnum):
    """Error codes in answers (stream-v2.md, "Error codes in answers")."""

    INVALID_CHANNEL = 40001
    UNAVAILABLE_CHANNEL = 40002
    TOO_MANY_SUBSCRIPTIONS = 40003
    RATE_LIMITED = 40004
    INVALID_REQUEST = 40005
    INVALID_METHOD = 40006
    UNAUTHENTICATED = 40100
    TOKEN_EXPIRED = 40101
    FORBIDDEN = 40102
    INTERNAL = 50000
    UNAVAILABLE = 50001


class CloseCode(enum.IntEnum):
    """WebSocket close codes that the hub sends (stream-v2.md, "Leaving"). ABNORMAL is never sent: it stands for
    a peer that vanished (RFC 6455, section 7.4.1)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    ABNORMAL = 1006
    INVALID_UTF8 = 1007
    TOO_BIG = 1009
    INTERNAL = 4000
    INVALID_MESSAGE = 4001
    UNAUTHENTICATED = 4003
    RATE_LIMITED = 4029
    TOO_MANY_CONNECTIONS = 4030
    MAINTENANCE = 4040


class HubError(Exception):
    """Root of all errors that the hub raises on purpose."""


class RequestRefused(HubError):
    """The client's fault: one request cannot be served. Carries the code and text of the answer."""

    def __init__(
        self, code: ErrorCode, msg: str, *, channel: str | None = None, request_id: int | None = None
    ) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.channel = channel
        self.request_id = request_id


class ProtocolViolated(HubError):
    """The client's fault: the connection cannot go on. Carries the close code and its reason."""

    def __init__(self, code: CloseCode, msg: str) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg


class PublishRefused(HubError):
    """The publisher's fault: this item has no channel to go to. It takes no sequence number."""

    def __init__(self, code: ErrorCode, msg: str) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
