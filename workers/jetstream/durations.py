"""Durations as Go writes and reads them ("1m30s"), and the times to live of messages.

Source: Go's time.ParseDuration and Duration.String; nats-server server/stream.go, parseMessageTTL.
"""

import re

SECOND_NS = 1_000_000_000
_UNITS_NS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 1_000_000,
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3600 * SECOND_NS,
}
_PART = r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"([+-]?)((?:{_PART})+)")
_PARTS = re.compile(_PART)
_INT64_MAX = (1 << 63) - 1
_DIGITS = re.compile(rb"[0-9]+")

NEVER = -1
"""The time to live of a message that no age limit takes out."""


def parse_duration(text: str) -> int | None:
    """Return the nanoseconds of a text like "1.5s" or "-2h3m"; None: it is none, or too long."""
    if text in ("0", "+0", "-0"):
        return 0
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    total = 0
    for whole, fraction, unit in _PARTS.findall(match[2]):
        if not whole and not fraction:
            return None
        scale = _UNITS_NS[unit]
        total += int(whole or "0") * scale
        # Digits below a nanosecond are cut off.
        total += int(fraction or "0") * scale // 10 ** len(fraction)
    if match[1] == "-":
        return -total if total <= _INT64_MAX + 1 else None
    return total if total <= _INT64_MAX else None


def format_duration(ns: int) -> str:
    """Write a duration as Go does: `1h2m3.5s`, `100ms`, `0s`."""
    if abs(ns) < SECOND_NS:
        for unit, size in (("ms", 1_000_000), ("µs", 1000)):
            if abs(ns) >= size:
                return _decimal(ns, size) + unit
        return f"{ns}ns" if ns else "0s"
    sign = "-" if ns < 0 else ""
    minutes, rest = divmod(abs(ns), 60 * SECOND_NS)
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest, SECOND_NS) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(abs(value), unit)
    text = f"{'-' if value < 0 else ''}{whole}"
    return f"{text}.{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else text


def format_seconds(seconds: int) -> str:
    """Return whole seconds, not negative, as Go writes a duration: 0s, 2s, 1m0s, 1h0m0s."""
    minutes, rest = divmod(seconds, 60)
    if not minutes:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def parse_ttl(value: bytes) -> int | None:
    """Return the whole seconds of a Nats-TTL value, NEVER, or None: it is invalid.

    A duration must be a second or more; a plain number of 0 means no limit.
    """
    text = value.decode("utf-8", "surrogateescape")
    if text.lower() == "never":
        return NEVER
    nanoseconds = parse_duration(text)
    if nanoseconds is not None:
        return nanoseconds // SECOND_NS if nanoseconds >= SECOND_NS else None
    number = parse_int64(value)
    return number if number >= 0 else None


def parse_int64(digits: bytes) -> int:
    """Return a decimal number as nats-server reads it: -1 for all but digits, and what is too large wraps."""
    if _DIGITS.fullmatch(digits) is None:
        return -1
    # 10^64 is a multiple of 2^64: digits further left do not count.
    return (int(digits[-64:]) + (1 << 63)) % (1 << 64) - (1 << 63)


def parse_uint64(digits: bytes) -> int | None:
    """Return a decimal number below 2^64, or None."""
    if _DIGITS.fullmatch(digits) is None:
        return None
    number = int(digits.lstrip(b"0")[:21] or b"0")
    return number if number < 1 << 64 else None
