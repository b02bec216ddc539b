"""When work is due: at a constant rate, whatever the time it takes."""

from __future__ import annotations

import time
from collections.abc import Callable


class Arrivals:
    """Due times at equal intervals from the first use on.

    Work that is late stays due: nothing is skipped, and its latency counts from the due time. A server that
    stalls for a second at 100 arrivals a second therefore shows 100 slow requests and not one. A closed loop
    would wait with the server and never send the other 99, which is called coordinated omission.
    """

    def __init__(
        self, interval_ns: int, offset_ns: int = 0, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Start the schedule.

        Args:
            interval_ns: between arrivals, above 0.
            offset_ns: from now to the first arrival.
            now_ns: the clock.
        """
        if interval_ns <= 0:
            raise ValueError(f"an interval of {interval_ns} ns")
        self._interval_ns = interval_ns
        self._now_ns = now_ns
        self._due_ns = now_ns() + offset_ns

    def take(self) -> int:
        """Return the due time of the next arrival, which is the caller's from now on."""
        due_ns = self._due_ns
        self._due_ns += self._interval_ns
        return due_ns

    def wait_s(self) -> float:
        """Return the seconds until the next arrival is due, 0.0 when it is late."""
        return max(0, self._due_ns - self._now_ns()) / 1e9

    def overdue(self) -> int:
        """Return how many arrivals are due and were not taken."""
        late_ns = self._now_ns() - self._due_ns
        return late_ns // self._interval_ns + 1 if late_ns >= 0 else 0
