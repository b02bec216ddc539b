"""The work that servers are compared by: a name, a plan, and the figures that count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Literal

from loadtest.client import Server
from loadtest.plan import SEQUENCE_LIMIT, Plan, Scenario

RATE = "rate_per_s"
CPU = "cpu_us_per_msg"
LATENCIES = ("p50_us", "p99_us", "p99.9_us")
BYTES_EACH = "bytes_each"
# Of these figures less is better.
COSTS = (CPU, *LATENCIES, BYTES_EACH, "start_ms")


@dataclass(frozen=True)
class Comparison:
    """One line of work.

    Attributes:
        name: as in tables; what: one phrase for people.
        metrics: which figures are compared, the first one being the headline.
        plan: makes the plan for a server, without its duration; None where something is held instead.
        holds: what is opened and weighed, see loadtest/compare/memory.py, and count: how many of it.
    """

    name: str
    what: str
    metrics: tuple[str, ...]
    plan: Callable[[Server], Plan] | None = None
    holds: Literal["", "connections", "subscriptions"] = ""
    count: int = 0

    def timed_plan(self, server: Server, duration_ns: int) -> Plan:
        """Return the plan for so much time, whatever the number of messages."""
        assert self.plan is not None
        return replace(self.plan(server), messages=SEQUENCE_LIMIT, duration_ns=duration_ns)


def load(name: str, what: str, scenario: Scenario, size: int, **options: int | bool | float) -> Comparison:
    """Return a comparison of rates, or of latencies for paced messages and single requests."""
    is_latency = "rate" in options or (scenario is Scenario.REQUEST and options.get("window", 1) == 1)

    def plan(server: Server) -> Plan:
        return Plan(scenario, server, size=size, **options)  # type: ignore[arg-type]

    metrics = (*LATENCIES, CPU) if is_latency else (RATE, CPU)
    return Comparison(name, what, metrics, plan)


COMPARISONS = (
    load("pub_16", "publish only, 16 B", Scenario.PUB, 16),
    load("1to1_16", "one publisher, one subscriber, 16 B", Scenario.PUBSUB, 16),
    load("1to1_128", "128 B", Scenario.PUBSUB, 128),
    load("1to1_1k", "1 KiB", Scenario.PUBSUB, 1024),
    load("1to1_64k", "64 KiB", Scenario.PUBSUB, 65536),
    load("fan8_128", "one publisher, 8 subscribers, 128 B", Scenario.FANOUT, 128, subscribers=8),
    load("fan1000_16", "one publisher, 1000 subscribers, 16 B", Scenario.FANOUT, 16, subscribers=1000),
    load("4to4_16", "four pairs, 16 B", Scenario.PUBSUB, 16, publishers=4, subscribers=4, pairs=True),
    load("8to1_16", "eight publishers, one subscriber, 16 B", Scenario.PUBSUB, 16, publishers=8),
    load("queue4_16", "a queue group of four, 16 B", Scenario.QUEUE, 16, subscribers=4),
    load("subjects10k", "10,000 subjects to one wildcard, 16 B", Scenario.PUBSUB, 16, subject_count=10_000),
    load("rr1", "request/reply, one at a time, 16 B", Scenario.REQUEST, 16),
    load("rr64", "request/reply, 64 in flight, 16 B", Scenario.REQUEST, 16, window=64),
    load("paced50k", "50,000 messages a second, 128 B", Scenario.PUBSUB, 128, rate=50_000.0),
    Comparison("conns1k", "1000 idle connections", (BYTES_EACH, RATE), holds="connections", count=1000),
    Comparison("subs100k", "100,000 subscriptions", (BYTES_EACH, RATE), holds="subscriptions", count=100_000),
)


def chosen(patterns: str | None) -> list[Comparison]:
    """Return the comparisons whose names match one of the comma-separated patterns; all for None.

    Raises:
        ValueError: a pattern that matches nothing.
    """
    if patterns is None:
        return list(COMPARISONS)
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    for pattern in wanted:
        if not any(fnmatch(comparison.name, pattern) for comparison in COMPARISONS):
            raise ValueError(f"no scenario is called {pattern}")
    return [
        comparison
        for comparison in COMPARISONS
        if any(fnmatch(comparison.name, pattern) for pattern in wanted)
    ]
