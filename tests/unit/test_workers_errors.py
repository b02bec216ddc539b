"""Errors of clients and reasons of closing are the same numbers in Python and in the data plane."""

import re
from pathlib import Path

import pytest

from workers import errors
from workers.errors import CloseReason, ProtocolError

MODEL = Path(errors.__file__).with_name("model.pxd")


# The data plane's names, in the order of CloseReason.
NAMES = [
    *("CLIENT", "AUTH_TIMEOUT", "AUTH_FAILURE", "SLOW_PENDING", "SLOW_DEADLINE", "WRITE_ERROR", "READ_ERROR"),
    *(
        "PARSE_ERROR",
        "STALE",
        "PROTOCOL",
        "BAD_VERSION",
        "MAX_CONNECTIONS",
        "MAX_PAYLOAD",
        "MAX_CONTROL_LINE",
    ),
    *("NO_RESPONDERS_HEADERS", "SHUTDOWN"),
]


def test_reasons_are_numbered_as_in_the_data_plane() -> None:
    block = re.search(r"cdef enum CloseReason:.*\n((?:    \w.*\n)+)", MODEL.read_text())
    assert block
    assert re.findall(r"^    CLOSE_(\w+)", block[1], re.MULTILINE) == NAMES
    assert [int(reason) for reason in CloseReason] == list(range(len(NAMES)))


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (CloseReason.CLIENT_CLOSED, "Client Closed"),
        (CloseReason.SLOW_CONSUMER_PENDING_BYTES, "Slow Consumer (Pending Bytes)"),
        (CloseReason.SLOW_CONSUMER_WRITE_DEADLINE, "Slow Consumer (Write Deadline)"),
        (CloseReason.MAXIMUM_MESSAGE_PAYLOAD_EXCEEDED, "Maximum Message Payload Exceeded"),
        (CloseReason.STALE_CONNECTION, "Stale Connection"),
    ],
)
def test_reasons_have_nats_servers_words(reason: CloseReason, text: str) -> None:
    assert reason.text == text


def test_every_protocol_error_says_what_is_written_and_why_it_closes() -> None:
    found = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ProtocolError)
    ]
    assert len(found) >= 5
    for each in found:
        assert isinstance(each.close_reason, CloseReason)
        assert "'" not in each.wire_text
        assert each.wire_text.isascii()
