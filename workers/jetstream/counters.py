"""Counters: streams whose messages are sums (allow_msg_counter).

A client publishes an empty message with `Nats-Incr: +3`; stored is `{"val":"45"}`, the sum so far of its
subject. Numbers have no bounds. A sourced message carries the sum of its origin instead; the header
Nats-Counter-Sources keeps what every origin said last, so that only the difference is added.

Source: nats-server server/stream.go, processJetStreamMsg.
"""

import json
import re
from dataclasses import dataclass, field

from workers.jetstream import apierrors, gojson, headers

_INTEGER = re.compile(rb"[+-]?[0-9]+")
# Python refuses longer texts in one step.
_CHUNK_DIGITS = 4000
_CHUNK = 10**_CHUNK_DIGITS

Sources = dict[str, dict[str, str]]


@dataclass(slots=True)
class Counter:
    """The sum of one subject, and what its origins said last: {stream: {subject: sum}}."""

    total: int = 0
    sources: Sources = field(default_factory=dict)


def parse_increment(block: bytes) -> int | None:
    """Return the value of Nats-Incr, None if there is none or it is empty.

    Raises:
        ApiError: 10171, it is no integer.
    """
    text = headers.get(block, headers.INCREMENT)
    if not text:
        return None
    number = parse_integer(text)
    if number is None:
        raise apierrors.message_incr_invalid()
    return number


def parse_integer(text: bytes) -> int | None:
    """Return an integer of any length, None if the text is none."""
    if _INTEGER.fullmatch(text) is None:
        return None
    digits = text.lstrip(b"+-")
    number = 0
    for start in range(0, len(digits), _CHUNK_DIGITS):
        part = digits[start : start + _CHUNK_DIGITS]
        number = number * 10 ** len(part) + int(part)
    return -number if text.startswith(b"-") else number


def format_integer(number: int) -> str:
    """Return an integer of any length as text."""
    parts = []
    rest = abs(number)
    while rest >= _CHUNK:
        rest, part = divmod(rest, _CHUNK)
        parts.append(f"{part:0{_CHUNK_DIGITS}d}")
    return ("-" if number < 0 else "") + str(rest) + "".join(reversed(parts))


def read(block: bytes, payload: bytes) -> Counter:
    """Return what a stored message of a counter says.

    Raises:
        ApiError: 10172, it is no counter.
    """
    counter = Counter(total=_value(payload))
    kept = headers.get(block, headers.COUNTER_SOURCES)
    if kept:
        try:
            counter.sources = {
                str(stream): {str(subject): str(value) for subject, value in subjects.items()}
                for stream, subjects in json.loads(kept).items()
            }
        except (ValueError, AttributeError) as error:
            raise apierrors.message_counter_broken() from error
    return counter


def apply(
    counter: Counter, increment: int, subject: bytes, block: bytes, payload: bytes
) -> tuple[bytes, bytes]:
    """Add to a counter and return the header block and payload to store.

    Args:
        block, payload: of the message as it came; it may be one from another stream.
    Raises:
        ApiError: 10172, the origin's payload is no counter.
    """
    source = headers.get(block, headers.STREAM_SOURCE)
    if source:
        origin, *more = source.decode(errors="surrogateescape").split(" ")
        origin_subject = more[3] if len(more) >= 4 else subject.decode(errors="surrogateescape")
        said = _value(payload)
        subjects = counter.sources.setdefault(origin, {})
        increment = said - (parse_integer(subjects.get(origin_subject, "").encode()) or 0)
        subjects[origin_subject] = format_integer(said)
        block = headers.replace(block, headers.INCREMENT, format_integer(increment).encode())
    counter.total += increment
    if counter.sources:
        ordered = {
            stream: dict(sorted(counter.sources[stream].items())) for stream in sorted(counter.sources)
        }
        block = headers.replace(block, headers.COUNTER_SOURCES, gojson.encode(ordered))
    return block, b'{"val":"%s"}' % format_integer(counter.total).encode()


def _value(payload: bytes) -> int:
    """Return the sum in a payload; a member that is missing or no number counts as 0, as in nats-server."""
    try:
        members = json.loads(payload)
        value = members.get("val", "")
        if not isinstance(value, str):
            raise TypeError
    except (ValueError, AttributeError, TypeError) as error:
        raise apierrors.message_counter_broken() from error
    return parse_integer(value.encode()) or 0
