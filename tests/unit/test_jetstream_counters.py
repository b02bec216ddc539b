"""Counters add numbers of any length and keep apart what their origins said."""

import pytest

from workers.jetstream import counters, headers
from workers.jetstream.apierrors import ApiError


def block(**lines: str) -> bytes:
    made = b""
    for name, value in lines.items():
        made = headers.add(made, name.replace("_", "-").encode(), value.encode())
    return made


@pytest.mark.parametrize("digits", [1, 20, 3999, 4000, 4001, 9000])
def test_integers_of_any_length_are_read_and_written(digits: int) -> None:
    text = "9" * digits
    number = 10**digits - 1
    assert counters.parse_integer(text.encode()) == number
    assert counters.parse_integer(b"-" + text.encode()) == -number
    assert counters.format_integer(number) == text
    assert counters.format_integer(-number) == "-" + text
    assert counters.format_integer(number + 1) == "1" + "0" * digits


@pytest.mark.parametrize("text", ["x", "1.0", "+", "1 ", "0x10", "--1"])
def test_an_increment_that_is_no_integer_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match="increment is invalid"):
        counters.parse_increment(b"NATS/1.0\r\nNats-Incr:" + text.encode() + b"\r\n\r\n")


def test_an_increment_may_be_missing_or_empty() -> None:
    assert counters.parse_increment(b"") is None
    assert counters.parse_increment(block(Nats_Incr="")) is None
    assert counters.parse_increment(block(Nats_Incr="+2")) == 2


def test_an_increment_is_added_and_its_header_kept() -> None:
    counter = counters.read(b"", b'{"val":"40"}')
    sent = block(Nats_Incr="+2")
    assert counters.apply(counter, 2, b"c", sent, b"") == (sent, b'{"val":"42"}')


@pytest.mark.parametrize("payload", [b"", b"[]", b"40", b'{"val":40}', b"{"])
def test_a_message_that_is_no_counter_is_refused(payload: bytes) -> None:
    with pytest.raises(ApiError, match="broken"):
        counters.read(b"", payload)


def test_a_sourced_sum_counts_by_its_difference() -> None:
    """The origin says 10 first and 15 then, so 5 are added the second time."""
    counter = counters.Counter(total=100)
    sent = block(Nats_Incr="10", Nats_Stream_Source="ORIGIN 1 > > c.1 x")
    stored, payload = counters.apply(counter, 10, b"c", sent, b'{"val":"10"}')
    assert payload == b'{"val":"110"}'
    assert headers.get(stored, headers.COUNTER_SOURCES) == b'{"ORIGIN":{"c.1":"10"}}'
    counter = counters.read(stored, payload)
    sent = block(Nats_Incr="1", Nats_Stream_Source="ORIGIN 2 > > c.1 x")
    stored, payload = counters.apply(counter, 1, b"c", sent, b'{"val":"15"}')
    assert payload == b'{"val":"115"}'
    assert headers.get(stored, headers.INCREMENT) == b"5"
