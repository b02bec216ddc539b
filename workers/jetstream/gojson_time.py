"""Times as Go's time package reads and writes them: RFC 3339 with up to nine decimals."""

import calendar
import re
import time

# What Go writes for a time that was never set.
ZERO_TIME = "0001-01-01T00:00:00Z"

_SECOND_NS = 1_000_000_000
_LAYOUT = "2006-01-02T15:04:05Z07:00"
_FORM = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d?):(\d\d):(\d\d)([.,]\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
# Layout elements in order, for the words about the first one that does not fit.
_ELEMENTS = (
    (r"\d{4}", "2006"),
    ("-", "-"),
    (r"\d\d", "01"),
    ("-", "-"),
    (r"\d\d", "02"),
    ("T", "T"),
    (r"\d\d?", "15"),
    (":", ":"),
    (r"\d\d", "04"),
    (":", ":"),
    (r"\d\d(?:[.,]\d+)?", "05"),
    (r"Z|[+-]\d\d:\d\d", "Z07:00"),
)


class TimeError(ValueError):
    """The text is no time; str() is Go's wording."""


def format_time(ns: int) -> str:
    """Write Unix nanoseconds as RFC 3339 in UTC without trailing zeros; 0 is the time never set."""
    if ns == 0:
        return ZERO_TIME
    seconds, fraction = divmod(ns, _SECOND_NS)
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    text = f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"
    if fraction:
        text += f".{fraction:09d}".rstrip("0")
    return text + "Z"


def parse_time(text: str) -> int:
    """Read RFC 3339 text as Unix nanoseconds; the zero time gives 0.

    Raises:
        TimeError: with Go's wording.
    """
    match = _match(text)
    if text == ZERO_TIME:
        return 0
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    zone = match[8]
    if zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= -offset if zone[0] == "-" else offset
    return seconds * _SECOND_NS + int(_decimals(match).ljust(9, "0"))


def normalize_time(text: str) -> str:
    """Return the text as Go writes the same time: zone kept, nine decimals at most, no trailing zeros."""
    match = _match(text)
    decimals = _decimals(match).rstrip("0")
    zone = "Z" if match[8] in ("+00:00", "-00:00") else match[8]
    clock = f"{match[4]:0>2}:{match[5]}:{match[6]}"
    return f"{text[:10]}T{clock}" + (f".{decimals}" if decimals else "") + zone


def _decimals(match: re.Match[str]) -> str:
    return (match[7] or ".")[1:10] or "0"


def _match(text: str) -> re.Match[str]:
    match = _FORM.fullmatch(text)
    if match is None:
        raise _misfit(text)
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    for name, is_wrong in (
        ("month", not 1 <= month <= 12),
        ("hour", hour > 23),
        ("minute", minute > 59),
        ("second", second > 59),
    ):
        if is_wrong:
            raise TimeError(f"parsing time {_quote(text)}: {name} out of range")
    if not 1 <= day <= calendar.monthrange(max(year, 1), month)[1]:
        raise TimeError(f"parsing time {_quote(text)}: day out of range")
    return match


def _misfit(text: str) -> TimeError:
    at = 0
    for pattern, element in _ELEMENTS:
        match = re.compile(pattern, re.ASCII).match(text, at)
        if match is None:
            return TimeError(
                f'parsing time {_quote(text)} as "{_LAYOUT}": cannot parse {_quote(text[at:])} as "{element}"'
            )
        at = match.end()
    return TimeError(f"parsing time {_quote(text)}: extra text: {_quote(text[at:])}")


def _quote(text: str) -> str:
    """Quote as Go's time package does: what is not ASCII byte by byte."""
    shown = ""
    for byte in text.encode("utf-8", "surrogateescape"):
        if byte < 0x20 or byte >= 0x80:
            shown += f"\\x{byte:02x}"
        else:
            shown += "\\" + chr(byte) if byte in b'"\\' else chr(byte)
    return f'"{shown}"'
