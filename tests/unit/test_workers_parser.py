"""The grammar of what clients send, rule by rule."""

import pytest

from workers.parser import parse_all

HEADERS = b"NATS/1.0\r\nA: b\r\n\r\n"


def one(data: bytes, **limits: int) -> tuple[object, ...]:
    """Return the only operation of some input that has nothing else."""
    operations, rest, error = parse_all(data, **limits)
    assert (rest, error) == (b"", None)
    (operation,) = operations
    return operation


def error_of(data: bytes, **limits: int) -> str | None:
    """Return the error that the first operation ends in."""
    operations, _, error = parse_all(data, **limits)
    assert operations == []
    return error


def test_pub() -> None:
    assert one(b"PUB foo 5\r\nhello\r\n") == ("PUB", b"foo", b"", -1, b"hello", b"5\r\nhello\r\n")


def test_pub_with_reply() -> None:
    assert one(b"PUB foo bar 2\r\nhi\r\n") == ("PUB", b"foo", b"bar", -1, b"hi", b"bar 2\r\nhi\r\n")


def test_pub_without_payload() -> None:
    assert one(b"PUB foo 0\r\n\r\n") == ("PUB", b"foo", b"", -1, b"", b"0\r\n\r\n")


def test_payload_may_hold_anything() -> None:
    payload = bytes(range(256)) + b"\r\nPUB x 1\r\n"
    assert one(b"PUB foo %d\r\n%b\r\n" % (len(payload), payload))[4] == payload


def test_hpub() -> None:
    tail = b"18 20\r\n" + HEADERS + b"hi\r\n"
    assert one(b"HPUB foo " + tail) == ("PUB", b"foo", b"", 18, HEADERS + b"hi", tail)


def test_hpub_with_reply() -> None:
    tail = b"bar 18 18\r\n" + HEADERS + b"\r\n"
    assert one(b"HPUB foo " + tail) == ("PUB", b"foo", b"bar", 18, HEADERS, tail)


def test_hpub_without_a_header_block_is_a_pub() -> None:
    assert one(b"HPUB foo 0 2\r\nhi\r\n") == ("PUB", b"foo", b"", -1, b"hi", b"2\r\nhi\r\n")


def test_header_block_is_not_looked_at() -> None:
    assert one(b"HPUB foo 4 6\r\nabcdhi\r\n")[3:5] == (4, b"abcdhi")


@pytest.mark.parametrize(
    ("data", "operation"),
    [
        (b"SUB foo 1\r\n", ("SUB", b"foo", b"", b"1")),
        (b"SUB foo.* workers 1\r\n", ("SUB", b"foo.*", b"workers", b"1")),
        (b"SUB foo any-token\r\n", ("SUB", b"foo", b"", b"any-token")),
        (b"UNSUB 1\r\n", ("UNSUB", b"1", -1)),
        (b"UNSUB 1 5\r\n", ("UNSUB", b"1", 5)),
        (b"UNSUB 1 0\r\n", ("UNSUB", b"1", 0)),
        (b"UNSUB 1 x\r\n", ("UNSUB", b"1", -1)),
        (b"UNSUB 1 -5\r\n", ("UNSUB", b"1", -1)),
        (b"PING\r\n", ("PING",)),
        (b"PONG\r\n", ("PONG",)),
        (b"+OK\r\n", ("+OK",)),
        (b'CONNECT {"verbose":false}\r\n', ("CONNECT", b'{"verbose":false}')),
        (b"CONNECT{}\r\n", ("CONNECT", b"{}")),
        (b"INFO {}\r\n", ("INFO", b"{}")),
        (b"-ERR 'what'\r\n", ("-ERR", b"'what'")),
    ],
)
def test_other_verbs(data: bytes, operation: tuple[object, ...]) -> None:
    assert one(data) == operation


@pytest.mark.parametrize("data", [b"PINGGG foo\r\n", b"PING extra\n", b"pong \x00\xff\r\n", b"+OKAY\r\n"])
def test_rest_of_a_line_without_arguments_is_ignored(data: bytes) -> None:
    assert len(one(data)) == 1


@pytest.mark.parametrize("verb", [b"PUB", b"pub", b"Pub", b"pUB"])
def test_verbs_are_read_in_any_case(verb: bytes) -> None:
    assert one(verb + b" foo 1\r\nx\r\n")[0] == "PUB"


@pytest.mark.parametrize("blank", [b" ", b"\t", b"  ", b" \t \t"])
@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_blanks_are_runs_and_tail_is_canonical(blank: bytes, line_end: bytes) -> None:
    line = blank.join([b"PUB", b"foo", b"bar", b"2"]) + line_end
    assert one(line + b"hi\r\n")[5] == b"bar 2\r\nhi\r\n"
    line = blank.join([b"HPUB", b"foo", b"bar", b"18", b"020"]) + blank + line_end
    assert one(line + HEADERS + b"hi\r\n")[5] == b"bar 18 020\r\n" + HEADERS + b"hi\r\n"


@pytest.mark.parametrize("data", [b"\r\n", b" PING\r\n", b"MSG foo 1 1\r\n", b"LS+ foo\r\n", b"\xff"])
def test_what_is_no_verb_is_unknown(data: bytes) -> None:
    assert error_of(data) == "unknown"


@pytest.mark.parametrize("data", [b"PUBX foo 1\r\n", b"SUB\r\n", b"UNSUB\r\n", b"-ERRX\r\n", b"HPUB1\r\n"])
def test_verb_needs_a_blank(data: bytes) -> None:
    assert error_of(data) == "unknown"


@pytest.mark.parametrize(
    "data",
    [
        b"PUB 1\r\n",
        b"PUB a b c 1\r\n",
        b"HPUB foo 1\r\n",
        b"HPUB a b c 1 2\r\n",
        b"SUB foo\r\n",
        b"SUB foo q 1 2\r\n",
        b"UNSUB 1 2 3\r\n",
    ],
)
def test_wrong_number_of_arguments(data: bytes) -> None:
    assert error_of(data) == "arguments"


@pytest.mark.parametrize("size", [b"+1", b"-1", b"abc", b"1.0", b"1x", b"0x1", b"1234567890", b"0000000001"])
def test_size_is_one_to_nine_digits(size: bytes) -> None:
    assert error_of(b"PUB foo %b\r\n" % size) == "arguments"
    assert error_of(b"HPUB foo %b 5\r\n" % size) == "arguments"
    assert error_of(b"HPUB foo 1 %b\r\n" % size) == "arguments"


def test_leading_zeros_are_kept_as_they_are() -> None:
    assert one(b"PUB foo 000000002\r\nhi\r\n")[5] == b"000000002\r\nhi\r\n"
    assert one(b"HPUB foo 01 0003\r\nabc\r\n")[3:] == (1, b"abc", b"01 0003\r\nabc\r\n")


def test_header_block_longer_than_the_whole_is_refused() -> None:
    assert error_of(b"HPUB foo 6 5\r\n") == "arguments"


def test_hpub_is_refused_without_header_support() -> None:
    assert parse_all(b"HPUB foo 1 1\r\nx\r\n", headers=False)[2] == "arguments"


def test_payload_limit_counts_headers_and_payload() -> None:
    assert len(one(b"PUB foo 10\r\n0123456789\r\n", max_payload=10)) == 6
    assert error_of(b"PUB foo 11\r\n", max_payload=10) == "payload"
    assert error_of(b"HPUB foo 5 11\r\n", max_payload=10) == "payload"
    assert error_of(b"PUB foo 999999999\r\n") == "payload"


@pytest.mark.parametrize("ends", [b"\n", b"xx", b"\rx", b"\r\r\n", b"x\r\n"])
def test_payload_must_end_with_cr_lf(ends: bytes) -> None:
    assert error_of(b"PUB foo 2\r\nhi" + ends + b"PING\r\n") == "unknown"


def test_wrong_first_byte_after_the_payload_is_found_at_once() -> None:
    assert error_of(b"PUB foo 2\r\nhix") == "unknown"
    assert error_of(b"PUB foo 2\r\nhi\r") is None


@pytest.mark.parametrize("subject_length", range(40, 72))
@pytest.mark.parametrize("reply", [b"", b"r "])
def test_lines_around_the_end_of_the_64_byte_scan(subject_length: int, reply: bytes) -> None:
    subject = b"s" * subject_length
    tail = reply + b"3\r\nabc\r\n"
    line = b"PUB %b %b" % (subject, tail)
    assert one(line) == ("PUB", subject, reply.strip(), -1, b"abc", tail)
    for cut in range(len(line)):
        assert parse_all(line[:cut]) == ([], line[:cut], None)


@pytest.mark.parametrize("limit", [64, 100, 4096])
@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_control_line_limit_is_of_the_arguments(limit: int, line_end: bytes) -> None:
    for verb, more in (
        (b"SUB ", b" 1"),
        (b"PUB ", b" 0"),
        (b"CONNECT ", b""),
        (b"INFO ", b""),
        (b"-ERR ", b""),
    ):
        payload = b"\r\n" if verb == b"PUB " else b""
        fits = b"s" * (limit - len(more)) + more
        assert one(verb + fits + line_end + payload, max_control_line=limit)
        assert error_of(verb + b"s" + fits + line_end + payload, max_control_line=limit) == "control line"


@pytest.mark.parametrize("verb", [b"SUB ", b"PUB ", b"CONNECT ", b"UNSUB "])
def test_line_of_the_largest_size_may_come_in_any_pieces(verb: bytes) -> None:
    line = verb + b"s" * 98 + b" 1"
    for data in (line, line + b"\r"):
        assert parse_all(data, max_control_line=100) == ([], data, None)


def test_line_that_never_ends_is_refused() -> None:
    assert error_of(b"SUB " + b"s" * 200, max_control_line=100) == "control line"
    assert error_of(b"SUB " + b" " * 200, max_control_line=100) == "control line"


def test_ping_that_never_ends_needs_no_memory() -> None:
    """The data plane keeps the verb alone."""
    assert parse_all(b"PING" + b"x" * 100_000, max_control_line=100)[2] is None


def test_operations_follow_each_other() -> None:
    data = b"PING\r\nSUB foo 1\r\nPUB foo 2\r\nhi\r\nPUB foo bar 0\r\n\r\nUNSUB 1\r\nPUB fo"
    operations, rest, error = parse_all(data)
    assert [operation[0] for operation in operations] == ["PING", "SUB", "PUB", "PUB", "UNSUB"]
    assert (rest, error) == (b"PUB fo", None)


def test_operations_before_an_error_count() -> None:
    operations, rest, error = parse_all(b"PING\r\nNONSENSE\r\nPING\r\n")
    assert operations == [("PING",)]
    assert (rest, error) == (b"NONSENSE\r\nPING\r\n", "unknown")


def test_stray_cr_belongs_to_its_word_in_pub() -> None:
    assert one(b"PUB fo\ro 1\r\nx\r\n")[1] == b"fo\ro"
    assert error_of(b"PUB foo 1\r\r\n") == "arguments"


def test_stray_cr_parts_words_in_sub() -> None:
    assert one(b"SUB foo\rq\r1\r\n") == ("SUB", b"foo", b"q", b"1")
