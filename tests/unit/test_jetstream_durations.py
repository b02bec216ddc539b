"""Durations and times to live are read as Go and nats-server read them."""

import pytest

from workers.jetstream.durations import (
    NEVER,
    format_seconds,
    parse_duration,
    parse_int64,
    parse_ttl,
    parse_uint64,
)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("1.5s", 1_500_000_000),
        ("-1m2s", -62 * 10**9),
        ("1h1ms2us3ns", 3600 * 10**9 + 1_002_003),
        (".5s", 500_000_000),
        ("1.s", 10**9),
        ("2µs", 2000),
        ("", None),
        ("1", None),
        ("s", None),
        (".s", None),
        ("1 s", None),
        ("1d", None),
        ("9223372036854775808ns", None),
        ("-9223372036854775808ns", -(1 << 63)),
    ],
)
def test_a_duration_is_what_go_says(text: str, nanoseconds: int | None) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1", 1),
        (b"0", None),
        (b"-1", None),
        (b"10s", 10),
        (b"1h", 3600),
        (b"1999ms", 1),
        (b"500ms", None),
        (b"never", NEVER),
        (b"Never", NEVER),
        (b"abc", None),
    ],
)
def test_a_time_to_live_is_whole_seconds(value: bytes, seconds: int | None) -> None:
    assert parse_ttl(value) == seconds


def test_seconds_are_written_as_go_does() -> None:
    assert [format_seconds(value) for value in (0, 2, 60, 61, 3600, 7322)] == [
        *("0s", "2s", "1m0s", "1m1s", "1h0m0s", "2h2m2s"),
    ]


def test_numbers_are_digits_only() -> None:
    assert [parse_int64(value) for value in (b"", b"12", b"-1", b"x", b"18446744073709551615")] == [
        *(-1, 12, -1, -1, -1),
    ]
    assert [parse_uint64(value) for value in (b"", b"12", b"+1", b"18446744073709551616")] == [
        *(None, 12, None, None),
    ]
