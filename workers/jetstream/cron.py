"""Cron patterns of six fields: second minute hour day-of-month month day-of-week, in a time zone.

A field is `*` or `?`, a number, a range `a-b`, any of them with `/step`, or several with commas; months and
days of the week have names (jan, mon), a week begins with Sunday, 0. A day counts when both day fields match,
or, when neither is a star, when one does. An hour that a clock change leaves out is passed over.

Source: nats-server server/cron.go (its rules are those of robfig/cron).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

# A pattern that does not match within so many years (the 31st of February) is invalid.
YEARS_MAX = 5
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


class CronError(ValueError):
    """A pattern that is not understood, or that never comes."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What values a field may have, and their names."""

    low: int
    high: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        """Return a value by number or name.

        Raises:
            CronError: neither.
        """
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.low
        return _number(text)


SECOND, MINUTE, HOUR = Bounds(0, 59), Bounds(0, 59), Bounds(0, 23)
DAY_OF_MONTH = Bounds(1, 31)
MONTH = Bounds(1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
DAY_OF_WEEK = Bounds(0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"))


@dataclass(frozen=True, slots=True)
class Field:
    """The values that match; `is_star` if the field was a star with no step."""

    values: frozenset[int]
    is_star: bool


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that was understood."""

    second: Field
    minute: Field
    hour: Field
    day_of_month: Field
    month: Field
    day_of_week: Field

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read a pattern.

        Raises:
            CronError: it is not understood.
        """
        parts = text.split()
        bounds = (SECOND, MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK)
        if len(parts) != len(bounds):
            raise CronError(f"pattern requires {len(bounds)} fields, got {len(parts)}")
        return cls(*(_field(part, bound) for part, bound in zip(parts, bounds, strict=True)))

    def next_after(self, seconds: int, zone: tzinfo = UTC) -> int:
        """Return the first time after a Unix time, both in seconds, at which all fields match.

        Raises:
            CronError: there is none within YEARS_MAX years.
        """
        moment = datetime.fromtimestamp(seconds + 1, zone)
        limit = moment.year + YEARS_MAX
        while moment.year <= limit:
            for matches, skip in (
                (self._month_matches, _next_month),
                (self._day_matches, _next_day),
                (self._hour_matches, _next_hour),
                (self._minute_matches, _next_minute),
                (self._second_matches, _next_second),
            ):
                if not matches(moment):
                    moment = _skip_until(moment, matches, skip, limit)
                    break
            else:
                return int(moment.timestamp())
        raise CronError(f"pattern does not match within {YEARS_MAX} years")

    def _month_matches(self, moment: datetime) -> bool:
        return moment.month in self.month.values

    def _day_matches(self, moment: datetime) -> bool:
        by_month = moment.day in self.day_of_month.values
        by_week = moment.isoweekday() % 7 in self.day_of_week.values
        if self.day_of_month.is_star or self.day_of_week.is_star:
            return by_month and by_week
        return by_month or by_week

    def _hour_matches(self, moment: datetime) -> bool:
        return moment.hour in self.hour.values

    def _minute_matches(self, moment: datetime) -> bool:
        return moment.minute in self.minute.values

    def _second_matches(self, moment: datetime) -> bool:
        return moment.second in self.second.values


def _skip_until(
    moment: datetime,
    matches: Callable[[datetime], bool],
    skip: Callable[[datetime], datetime],
    limit: int,
) -> datetime:
    """Go on to the beginning of the next month, day, ... that matches; the caller checks the rest again."""
    while not matches(moment) and moment.year <= limit:
        moment = skip(moment)
    return moment


def _next_month(moment: datetime) -> datetime:
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
    return _later(datetime(year, month, 1, tzinfo=moment.tzinfo), 0)


def _next_day(moment: datetime) -> datetime:
    day = datetime(moment.year, moment.month, moment.day, tzinfo=moment.tzinfo) + timedelta(days=1)
    return _later(day, 0)


def _next_hour(moment: datetime) -> datetime:
    return _later(moment, 3600 - moment.minute * 60 - moment.second)


def _next_minute(moment: datetime) -> datetime:
    return _later(moment, 60 - moment.second)


def _next_second(moment: datetime) -> datetime:
    return _later(moment, 1)


def _later(moment: datetime, seconds: int) -> datetime:
    """Add real seconds: adding to a time with a zone would move the clock's hands and miss its changes.

    With 0 a time that a clock change leaves out becomes the one that the clock shows instead.
    """
    return datetime.fromtimestamp(moment.timestamp() + seconds, moment.tzinfo)


def _field(text: str, bounds: Bounds) -> Field:
    values: set[int] = set()
    is_star = False
    for part in text.split(","):
        if part:
            more, star = _range(part, bounds)
            values |= more
            is_star |= star
    if not values:
        raise CronError(f"no value in {text!r}")
    return Field(frozenset(values), is_star)


def _range(text: str, bounds: Bounds) -> tuple[set[int], bool]:
    """Return the values of `*`, `a`, `a-b`, each with or without `/step`; and whether it is a plain star."""
    span, *steps = text.split("/")
    ends = span.split("-")
    if len(steps) > 1:
        raise CronError(f"too many slashes: {text}")
    is_star = ends[0] in ("*", "?")
    if is_star:
        low, high = bounds.low, bounds.high
    else:
        if len(ends) > 2:
            raise CronError(f"too many hyphens: {text}")
        low = bounds.number(ends[0])
        high = bounds.number(ends[-1])
    step = 1
    if steps:
        step = _number(steps[0])
        if len(ends) == 1:
            high = bounds.high
    if low < bounds.low or high > bounds.high or low > high or step == 0:
        raise CronError(f"range out of bounds {bounds.low}-{bounds.high}: {text}")
    return set(range(low, high + 1, step)), is_star and step == 1


def _number(text: str) -> int:
    if _NUMBER.fullmatch(text) is None or int(text) < 0:
        raise CronError(f"not a number: {text}")
    return int(text)
