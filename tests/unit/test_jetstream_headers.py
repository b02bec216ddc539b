"""Header blocks keep their bytes but for the lines that are asked for."""

import pytest

from workers.jetstream import headers

BLOCK = b"NATS/1.0\r\nNats-Msg-Id: a b \r\nx:1\r\nNats-Msg-Id: second\r\nEmpty:\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Nats-Msg-Id", b"a b "),
        (b"x", b"1"),
        (b"Empty", b""),
        (b"X", None),
        (b"Nats-Msg", None),
        (b"Msg-Id", None),
    ],
)
def test_the_first_line_of_exactly_this_name_counts(name: bytes, value: bytes | None) -> None:
    assert headers.get(BLOCK, name) == value
    assert headers.get(b"", name) is None


def test_add_puts_a_line_at_the_end() -> None:
    assert headers.add(b"", b"a", b"1") == b"NATS/1.0\r\na: 1\r\n\r\n"
    assert headers.add(b"NATS/1.0\r\nb:2\r\n\r\n", b"a", b" 1\r\n ") == b"NATS/1.0\r\nb:2\r\na: 1\r\n\r\n"


def test_replace_keeps_the_place_and_the_blank() -> None:
    block = b"NATS/1.0\r\na: 1\r\nb:2\r\n\r\n"
    assert headers.replace(block, b"a", b"33") == b"NATS/1.0\r\na: 33\r\nb:2\r\n\r\n"
    assert headers.replace(block, b"b", b"") == b"NATS/1.0\r\na: 1\r\nb:\r\n\r\n"
    assert headers.replace(block, b"c", b"3") == block[:-2] + b"c: 3\r\n\r\n"


def test_remove_takes_out_every_line_of_the_name() -> None:
    assert headers.remove(BLOCK, b"Nats-Msg-Id") == b"NATS/1.0\r\nx:1\r\nEmpty:\r\n\r\n"
    assert headers.remove(BLOCK, b"Nats-Msg") == BLOCK
    assert headers.remove(b"NATS/1.0\r\na: 1\r\n\r\n", b"a") == b""


def test_remove_prefix_takes_out_every_name_that_begins_so() -> None:
    block = b"NATS/1.0\r\nNats-Schedule: x\r\nk: Nats-Schedule\r\nNats-Scheduler: y\r\n\r\n"
    assert headers.remove_prefix(block, b"Nats-Schedule") == b"NATS/1.0\r\nk: Nats-Schedule\r\n\r\n"


@pytest.mark.parametrize(
    ("block", "without"),
    [
        (b"NATS/1.0 503\r\n\r\n", b""),
        (b"NATS/1.0 100 Idle\r\na: 1\r\n\r\n", b"NATS/1.0\r\na: 1\r\n\r\n"),
        (b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\n\r\n"),
        (b"", b""),
    ],
)
def test_a_status_is_not_stored(block: bytes, without: bytes) -> None:
    assert headers.remove_status(block) == without


def test_markers_are_known() -> None:
    assert headers.is_delete_marker(b"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\n\r\n")
    assert headers.is_delete_marker(b"NATS/1.0\r\nKV-Operation: PURGE\r\n\r\n")
    assert not headers.is_delete_marker(b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n")
