"""Garbage ends in operations, an unfinished rest, or one of four errors; it never ends in anything else."""

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.parser import parse_all

ERRORS = (None, "unknown", "arguments", "control line", "payload")
PIECES = (
    b"PUB ",
    b"HPUB ",
    b"SUB ",
    b"UNSUB ",
    b"CONNECT ",
    b"PING",
    b"INFO ",
    b"-ERR ",
    b"+OK",
    b"\r\n",
    b"\n",
)
pieces = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(PIECES),
    st.sampled_from([b" ", b"\t", b"0", b"5", b"999999999", b"9999999999", b"foo", b"\r"]),
)


@given(data=st.lists(pieces, max_size=30).map(b"".join), max_control_line=st.sampled_from([64, 100, 4096]))
@settings(max_examples=3000, deadline=None)
def test_garbage_ends_in_a_known_result(data: bytes, max_control_line: int) -> None:
    operations, rest, error = parse_all(data, max_control_line, 1000)
    assert error in ERRORS
    assert data.endswith(rest)
    assert len(operations) <= len(data)
    if error is None and rest:
        # What is kept is bounded: a control line, or a message whose sizes were accepted.
        assert len(rest) <= max_control_line + 1000 + 100 or rest[:4].upper() in (b"PING", b"PONG", b"+OK")


@given(data=st.binary(min_size=64, max_size=400))
@settings(max_examples=1000, deadline=None)
def test_bytes_after_a_verb_end_in_a_known_result(data: bytes) -> None:
    for verb in PIECES:
        assert parse_all(verb + data)[2] in ERRORS
