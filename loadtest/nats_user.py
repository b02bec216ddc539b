"""A Locust user that speaks NATS, with arrivals at a constant rate.

Response times count from the moment at which an operation was due (see loadtest/arrivals.py), not from the
moment at which it could be sent. What was due and not done when the test stops is reported as failed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from locust import User, events
from locust.env import Environment

from loadtest.arrivals import Arrivals
from loadtest.client import Server, ServerError
from loadtest.histogram import Histogram
from loadtest.nats_client import Message, NatsClient
from loadtest.report import time_text

SEQUENCE_BYTES = 8


class LostMessage(Exception):
    """A message was published and never came back, or was due and never sent."""


class Latencies:
    """All response times by name: Locust itself rounds to whole milliseconds."""

    def __init__(self) -> None:
        self._histograms: dict[str, Histogram] = {}

    def record(self, name: str, latency_ns: int) -> None:
        self._histograms.setdefault(name, Histogram()).record(latency_ns)

    def lines(self) -> list[str]:
        """Return a table: a line for each name."""
        head = f"{'latency from due time':<24}{'count':>10}" + "".join(
            f"{name:>12}" for name in ("p50", "p99", "p99.9", "max")
        )
        return [head] + [
            f"{name:<24}{histogram.count:>10}"
            + "".join(f"{time_text(value):>12}" for value in histogram.summary_ns().values())
            for name, histogram in sorted(self._histograms.items())
        ]


latencies = Latencies()


def print_latencies(environment: Environment, **_: Any) -> None:
    """Print what Locust's own table rounds away."""
    print("\n".join(latencies.lines()))


events.quitting.add_listener(print_latencies)  # type: ignore[no-untyped-call]


class NatsUser(User):
    """A connection whose tasks begin with `due_ns = self.arrivals.take()` and end with `self.report(...)`.

    Attributes:
        arrivals_per_s: operations of one user a second.
        client: connected in on_start.
    """

    abstract = True
    arrivals_per_s = 10.0
    client: NatsClient
    arrivals: Arrivals

    def on_start(self) -> None:
        """Connect. Users begin at random moments of the interval, else all would send at the same time."""
        self.client = NatsClient(Server.from_url(self.host or "nats://127.0.0.1:4222"))
        interval_ns = max(1, int(1e9 / self.arrivals_per_s))
        self.arrivals = Arrivals(interval_ns, random.randrange(interval_ns))
        self.wait()  # type: ignore[no-untyped-call]

    def on_stop(self) -> None:
        """Report what the test's end cut off."""
        overdue = self.arrivals.overdue()
        # One arrival may have become due while the test was stopping; more are a backlog.
        for _ in range(overdue if overdue > 1 else 0):
            self.report("NATS", "overdue", self.arrivals.take(), 0, LostMessage("due, but never begun"))
        self.finish()
        self.client.close()

    def finish(self) -> None:
        """Wait for, and report, what is under way; for tasks that do not wait themselves."""

    def wait_time(self) -> float:
        """Return the seconds to the next arrival: none while there is a backlog."""
        return self.arrivals.wait_s()

    def report(
        self, request_type: str, name: str, due_ns: int, size: int, failure: Exception | None = None
    ) -> None:
        """Tell Locust about one operation that was due at `due_ns` and ended now."""
        latency_ns = time.monotonic_ns() - due_ns
        if failure is None:
            latencies.record(name, latency_ns)
        self.environment.events.request.fire(
            request_type=request_type,
            name=name,
            response_time=latency_ns / 1e6,
            response_length=size,
            exception=failure,
            context={},
        )


class EchoSubscription:
    """Messages that a user publishes to itself: each must come back, in order."""

    def __init__(self, client: NatsClient, subject: str, report: Callable[..., None]) -> None:
        self.subject = subject
        self._client = client
        self._report = report
        self._due_ns: dict[int, int] = {}
        self._sequence = 0
        client.subscribe(subject, self._take)

    def publish(self, due_ns: int, payload_bytes: int) -> None:
        """Publish one message; what becomes of it is reported when it arrives."""
        sequence = self._sequence
        self._sequence += 1
        self._due_ns[sequence] = due_ns
        payload = sequence.to_bytes(SEQUENCE_BYTES, "little").ljust(payload_bytes, b"x")
        try:
            self._client.publish(self.subject, payload)
        except ServerError as error:
            del self._due_ns[sequence]
            self._report("NATS", "publish/subscribe", due_ns, 0, error)

    def _take(self, message: Message) -> None:
        sequence = int.from_bytes(message.payload[:SEQUENCE_BYTES], "little")
        due_ns = self._due_ns.pop(sequence, None)
        failure = None if due_ns is not None else LostMessage(f"message {sequence} came twice")
        self._report(
            "NATS", "publish/subscribe", due_ns or time.monotonic_ns(), len(message.payload), failure
        )

    def report_lost(self) -> None:
        """Report what was published and has not arrived."""
        while self._due_ns:
            sequence, due_ns = self._due_ns.popitem()
            self._report(
                "NATS", "publish/subscribe", due_ns, 0, LostMessage(f"message {sequence} is missing")
            )
