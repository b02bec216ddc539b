"""Times as Go's time package reads and writes them: RFC 3339 with up to nine decimals."""

import calendar
import re
import time
from functools import lru_cache

# Go looks at the hours of a zone before it knows whether the minutes are digits.
_FAR_ZONE = re.compile(r"[+-]\d\d:..", re.ASCII | re.DOTALL)
# What Go writes for a time that was never set.
ZERO_TIME = "0001-01-01T00:00:00Z"

_SECOND_NS = 1_000_000_000
_LEAP_YEAR = 400
_CYCLE_YEARS, _CYCLE_S = 400, 146_097 * 86_400
_LAYOUT = "2006-01-02T15:04:05Z07:00"
_FORM = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d?):(\d\d):(\d\d)([.,]\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
# Layout elements in order, with what Go calls a number that is out of range and the largest that is not.
_ELEMENTS = (
    (r"\d{4}", "2006", "", 0),
    ("-", "-", "", 0),
    (r"\d\d", "01", "month", 12),
    ("-", "-", "", 0),
    (r"\d\d", "02", "", 0),
    ("T", "T", "", 0),
    (r"\d\d?", "15", "hour", 23),
    (":", ":", "", 0),
    (r"\d\d", "04", "minute", 59),
    (":", ":", "", 0),
    (r"\d\d(?:[.,]\d+)?", "05", "second", 59),
    (r"Z|[+-]\d\d:\d\d", "Z07:00", "", 0),
)


class TimeError(ValueError):
    """The text is no time; str() is Go's wording."""


def format_time(ns: int) -> str:
    """Write Unix nanoseconds as RFC 3339 in UTC without trailing zeros; 0 is the time never set."""
    if ns == 0:
        return ZERO_TIME
    seconds, fraction = divmod(ns, _SECOND_NS)
    text = _format_seconds(seconds)
    if fraction:
        text += f".{fraction:09d}".rstrip("0")
    return text + "Z"


@lru_cache(maxsize=256)  # answers tell the time, most of them the same second
def _format_seconds(seconds: int) -> str:
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"


def parse_time(text: str) -> int:
    """Read RFC 3339 text as Unix nanoseconds; the zero time gives 0.

    Raises:
        TimeError: with Go's wording.
    """
    match = _match(text)
    if text == ZERO_TIME:
        return 0
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    # The year 0 is moved by a whole cycle of the calendar, because Python knows years 1 to 9999 only.
    cycles = 1 if year == 0 else 0
    moved = (year + cycles * _CYCLE_YEARS, month, day, hour, minute, second)
    seconds = calendar.timegm(moved) - cycles * _CYCLE_S
    seconds -= _zone_minutes(match[8]) * 60
    return seconds * _SECOND_NS + int(_decimals(match).ljust(9, "0"))


def normalize_time(text: str) -> str:
    """Return the text as Go writes the same time: zone kept, nine decimals at most, no trailing zeros."""
    match = _match(text)
    decimals = _decimals(match).rstrip("0")
    minutes = _zone_minutes(match[8])
    zone = (
        f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "Z"
    )
    clock = f"{match[4]:0>2}:{match[5]}:{match[6]}"
    return f"{text[:10]}T{clock}" + (f".{decimals}" if decimals else "") + zone


def _zone_minutes(zone: str) -> int:
    """Return how far a zone is ahead of UTC."""
    if zone == "Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    return -minutes if zone[0] == "-" else minutes


def _decimals(match: re.Match[str]) -> str:
    return (match[7] or ".")[1:10] or "0"


def _match(text: str) -> re.Match[str]:
    match = _FORM.fullmatch(text)
    if match is None or not _is_in_range(match):
        raise TimeError(f"parsing time {_quote(text)}{_fault(text)}")
    return match


def _is_in_range(match: re.Match[str]) -> bool:
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    zone = match[8]
    return (
        1 <= month <= 12
        and 1 <= day <= calendar.monthrange(year or _LEAP_YEAR, month)[1]
        and hour < 24
        and minute < 60
        and second < 60
        and (zone == "Z" or (int(zone[1:3]) <= 24 and int(zone[4:6]) <= 60))
    )


def _fault(text: str) -> str:
    """Say what is wrong first, element by element as Go reads them; the day comes last."""
    at = 0
    for pattern, element, name, highest in _ELEMENTS:
        match = re.compile(pattern, re.ASCII).match(text, at)
        if match is None:
            if element == "Z07:00" and _FAR_ZONE.match(text, at) and int(text[at + 1 : at + 3]) > 24:
                return ": time zone offset hour out of range"
            return f' as "{_LAYOUT}": cannot parse {_quote(text[at:])} as "{element}"'
        number = int(match[0][:2]) if name else 0
        if name and (number > highest or (name == "month" and number == 0)):
            return f": {name} out of range"
        if element == "Z07:00" and match[0] != "Z":
            if int(match[0][4:6]) > 60:
                return ": time zone offset minute out of range"
            if int(match[0][1:3]) > 24:
                return ": time zone offset hour out of range"
        at = match.end()
    if at < len(text):
        return f": extra text: {_quote(text[at:])}"
    return ": day out of range"


def _quote(text: str) -> str:
    """Quote as Go's time package does: what is not ASCII byte by byte."""
    shown = ""
    for byte in text.encode("utf-8", "surrogateescape"):
        if byte < 0x20 or byte >= 0x80:
            shown += f"\\x{byte:02x}"
        else:
            shown += "\\" + chr(byte) if byte in b'"\\' else chr(byte)
    return f'"{shown}"'
