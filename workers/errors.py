"""What a client can do wrong, and why connections end."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class CloseReason(IntEnum):
    """Why a connection was closed; the numbers are CloseReason of model.pxd."""

    CLIENT_CLOSED = 0
    AUTHENTICATION_TIMEOUT = 1
    AUTHENTICATION_FAILURE = 2
    SLOW_CONSUMER_PENDING_BYTES = 3
    SLOW_CONSUMER_WRITE_DEADLINE = 4
    WRITE_ERROR = 5
    READ_ERROR = 6
    PARSE_ERROR = 7
    STALE_CONNECTION = 8
    PROTOCOL_VIOLATION = 9
    BAD_CLIENT_PROTOCOL_VERSION = 10
    MAXIMUM_CONNECTIONS_EXCEEDED = 11
    MAXIMUM_MESSAGE_PAYLOAD_EXCEEDED = 12
    MAXIMUM_CONTROL_LINE_EXCEEDED = 13
    NO_RESPONDERS_REQUIRES_HEADERS = 14
    SERVER_SHUTDOWN = 15

    @property
    def text(self) -> str:
        """The words that nats-server uses in logs and monitoring."""
        return _SPECIAL.get(self, self.name.replace("_", " ").title())


_SPECIAL = {
    CloseReason.SLOW_CONSUMER_PENDING_BYTES: "Slow Consumer (Pending Bytes)",
    CloseReason.SLOW_CONSUMER_WRITE_DEADLINE: "Slow Consumer (Write Deadline)",
}


class ProtocolError(Exception):
    """A client broke the protocol; its connection is closed after the answer is written."""

    wire_text: ClassVar[str] = ""
    """What -ERR says; "" closes without a word."""
    close_reason: ClassVar[CloseReason] = CloseReason.PROTOCOL_VIOLATION


class BadConnect(ProtocolError):
    """CONNECT is not a JSON object, or a field has the wrong type."""


class AuthorizationViolation(ProtocolError):
    """Bad or missing credentials."""

    wire_text = "Authorization Violation"
    close_reason = CloseReason.AUTHENTICATION_FAILURE


class BadClientProtocol(ProtocolError):
    """CONNECT asks for a protocol other than 0 and 1."""

    wire_text = "invalid client protocol"
    close_reason = CloseReason.BAD_CLIENT_PROTOCOL_VERSION


class NoRespondersRequiresHeaders(ProtocolError):
    """CONNECT asks for no_responders without headers."""

    wire_text = "no responders requires headers support"
    close_reason = CloseReason.NO_RESPONDERS_REQUIRES_HEADERS


class MaximumConnectionsExceeded(ProtocolError):
    """The server has as many connections as it may."""

    wire_text = "maximum connections exceeded"
    close_reason = CloseReason.MAXIMUM_CONNECTIONS_EXCEEDED
