"""Cron patterns come when they should, clock changes included."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from workers.jetstream.cron import CronError, Pattern

START = datetime(2026, 3, 10, 12, 30, 15, tzinfo=UTC)  # a Tuesday


def next_after(pattern: str, start: datetime = START, zone: str = "UTC") -> str:
    seconds = Pattern.parse(pattern).next_after(int(start.timestamp()), ZoneInfo(zone))
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("pattern", "time"),
    [
        ("* * * * * *", "2026-03-10 12:30:16"),
        ("*/20 * * * * *", "2026-03-10 12:30:20"),
        ("15 30 12 * * *", "2026-03-11 12:30:15"),
        ("0 0 0 * * *", "2026-03-11 00:00:00"),
        ("0 0 0 1 * *", "2026-04-01 00:00:00"),
        ("0 0 0 1 jan *", "2027-01-01 00:00:00"),
        ("0 0 0 * * SUN", "2026-03-15 00:00:00"),
        ("0 0 9-17/4 * * *", "2026-03-10 13:00:00"),
        ("0 0 20/2 * * ?", "2026-03-10 20:00:00"),
        ("0 0 0 13 * fri", "2026-03-13 00:00:00"),
        ("0 0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 5,45 12 * * *", "2026-03-10 12:45:00"),
    ],
)
def test_the_next_time_matches_every_field(pattern: str, time: str) -> None:
    assert next_after(pattern) == time


def test_one_of_two_day_fields_is_enough_when_neither_is_a_star() -> None:
    assert next_after("0 0 0 12 * fri", datetime(2026, 3, 11, tzinfo=UTC)) == "2026-03-12 00:00:00"
    assert next_after("0 0 0 12 * fri", datetime(2026, 3, 12, tzinfo=UTC)) == "2026-03-13 00:00:00"


def test_a_zone_moves_the_hour() -> None:
    assert next_after("0 0 9 * * *", zone="Asia/Tokyo") == "2026-03-11 00:00:00"


def test_an_hour_that_the_clock_leaves_out_is_passed_over() -> None:
    """In Berlin 02:30 does not exist on 29 March 2026."""
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert next_after("0 30 2 * * *", start, "Europe/Berlin") == "2026-03-30 00:30:00"


def test_an_hour_that_comes_twice_counts_twice() -> None:
    """In Berlin the clock shows 02:30 twice on 25 October 2026."""
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert next_after("0 30 2 * * *", first, "Europe/Berlin") == "2026-10-25 01:30:00"


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "* * * * *", "* * * * * * *", "60 * * * * *", "* * 24 * * *", "* * * 0 * *", "* * * * 13 *"),
        *(
            "* * * * * 7",
            "a * * * * *",
            "5-1 * * * * *",
            "1-2-3 * * * * *",
            "*/0 * * * * *",
            "*/1/1 * * * * *",
        ),
        *("*/-1 * * * * *", "- * * * * *", "0 0 0 31 2 *", ", * * * * *"),
    ],
)
def test_a_pattern_that_makes_no_sense_is_refused(pattern: str) -> None:
    with pytest.raises(CronError):
        Pattern.parse(pattern).next_after(0)
