"""The load generator's parser: operations of a server, strictly, whatever the pieces they come in."""

import pytest

from loadtest.parser import LINE_BYTES_LIMIT, BrokenInput, operations

TRANSCRIPT = [
    (b'INFO {"server_id":"N"} \r\n', ("INFO", b"", b"", b"", b"", b'{"server_id":"N"} ')),
    (b"PONG\r\n", ("PONG", b"", b"", b"", b"", b"")),
    (b"MSG foo 1 5\r\nhello\r\n", ("MSG", b"foo", b"1", b"", b"", b"hello")),
    (b"MSG foo.bar 22 _INBOX.1 0\r\n\r\n", ("MSG", b"foo.bar", b"22", b"_INBOX.1", b"", b"")),
    (b"MSG foo 1 4\r\n\r\n\r\n\r\n", ("MSG", b"foo", b"1", b"", b"", b"\r\n\r\n")),
    (b"HMSG foo 1 12 15\r\nNATS/1.0\r\n\r\nabc\r\n", ("MSG", b"foo", b"1", b"", b"NATS/1.0\r\n\r\n", b"abc")),
    (
        b"HMSG foo 1 r 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
        ("MSG", b"foo", b"1", b"r", b"NATS/1.0 503\r\n\r\n", b""),
    ),
    (b"PING\r\n", ("PING", b"", b"", b"", b"", b"")),
    (b"+OK\r\n", ("+OK", b"", b"", b"", b"", b"")),
    (b"-ERR 'Stale Connection'\r\n", ("-ERR", b"", b"", b"", b"", b"'Stale Connection'")),
]


def test_each_operation_is_read_with_its_fields() -> None:
    data = b"".join(part for part, _ in TRANSCRIPT)
    assert operations(data) == ([operation for _, operation in TRANSCRIPT], len(data))


def test_any_prefix_gives_the_operations_that_are_complete_in_it() -> None:
    data = b"".join(part for part, _ in TRANSCRIPT)
    ends = [sum(len(part) for part, _ in TRANSCRIPT[: count + 1]) for count in range(len(TRANSCRIPT))]
    for size in range(len(data)):
        found, used = operations(data[:size])
        complete = sum(end <= size for end in ends)
        assert found == [operation for _, operation in TRANSCRIPT[:complete]]
        assert used == ([0, *ends][complete])


@pytest.mark.parametrize(
    "data",
    [
        b"MSG foo 1 5\r\nhello!\n\r\n",
        b"MSG foo 1  5\r\nhello\r\n",
        b"MSG foo 1 +5\r\nhello\r\n",
        b"MSG foo 5\r\nhello\r\n",
        b"MSG foo 1 r x 5\r\nhello\r\n",
        b"MSG foo 1 1000000000\r\n",
        b"HMSG foo 1 6 5\r\nhello\r\n",
        b"PING\n",
        b"\r\n",
        b"POUR\r\n",
        b"junk junk\r\n",
        b"x" * LINE_BYTES_LIMIT,
    ],
    ids=lambda data: data[:24].decode(),
)
def test_what_no_server_sends_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenInput, match="at byte 6"):
        operations(b"PING\r\n" + data)
