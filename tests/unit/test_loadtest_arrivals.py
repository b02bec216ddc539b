"""Due times at a constant rate, on a clock that the test owns."""

import pytest

from loadtest.arrivals import Arrivals


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns


def test_arrivals_are_due_at_equal_intervals_after_the_offset() -> None:
    arrivals = Arrivals(100, 50, Clock())
    assert [arrivals.take() for _ in range(3)] == [1_050, 1_150, 1_250]


def test_the_wait_ends_when_the_next_is_due() -> None:
    clock = Clock()
    arrivals = Arrivals(1_000_000_000, 0, clock)
    assert arrivals.wait_s() == 0.0
    arrivals.take()
    assert arrivals.wait_s() == 1.0
    clock.now_ns += 400_000_000
    assert arrivals.wait_s() == pytest.approx(0.6)


def test_a_stall_skips_nothing() -> None:
    """What should have happened during a stall is due at its own time, so all of it counts as late."""
    clock = Clock()
    arrivals = Arrivals(100, 0, clock)
    arrivals.take()
    assert arrivals.overdue() == 0
    clock.now_ns += 1_000
    assert arrivals.overdue() == 10
    latencies = []
    while arrivals.wait_s() == 0.0:
        latencies.append(clock.now_ns - arrivals.take())
    assert latencies == [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    assert arrivals.overdue() == 0


def test_an_interval_must_be_positive() -> None:
    with pytest.raises(ValueError, match="interval of 0"):
        Arrivals(0)
