"""Let every server do every piece of work, turn by turn, and keep the figures.

Each piece of work has a fresh server, and only one server runs at a time. Within a round the servers follow
each other directly on the same work; every second round goes through them backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadtest.client import ServerError
from loadtest.compare.memory import hold_connections, hold_subscriptions
from loadtest.compare.ratios import Ratio, pairwise
from loadtest.compare.scenarios import CPU, LATENCIES, RATE, Comparison
from loadtest.compare.servers import BASELINE, Contender, RunningServer, ServerFailed, running
from loadtest.runner import Around, Outcome, run

WARM_UP_FRACTION = 10

Figures = dict[str, float]


class RunFailed(Exception):
    """A run gave no figures, because something in it was wrong."""


@dataclass
class Results:
    """Figures of all runs: by comparison, contender and round; None for a run that failed."""

    figures: dict[str, dict[str, list[Figures | None]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, comparison: str, contender: str, figures: Figures | None) -> None:
        self.figures.setdefault(comparison, {}).setdefault(contender, []).append(figures)

    def values(self, comparison: str, contender: str, metric: str) -> list[float | None]:
        """Return a figure of every round."""
        rounds = self.figures.get(comparison, {}).get(contender, [])
        return [figures.get(metric) if figures else None for figures in rounds]

    def ratio(self, comparison: str, contender: str, metric: str) -> Ratio | None:
        """Return the contender's figure over the baseline's, None without a round that has both."""
        return pairwise(self.values(comparison, contender, metric), self.values(comparison, BASELINE, metric))


def compare(
    contenders: Sequence[Contender],
    comparisons: Sequence[Comparison],
    rounds: int,
    duration_ns: int,
    say: Callable[[str], None],
) -> Results:
    """Do everything and return the figures; a failed run is noted and the rest goes on.

    Args:
        duration_ns: of the publishing in one run.
        say: shows one line of progress.
    """
    results = Results()
    for number in range(rounds):
        for comparison in comparisons:
            for contender in contenders if number % 2 == 0 else list(reversed(contenders)):
                say(f"round {number + 1}/{rounds}  {comparison.name}  {contender.name}")
                figures = None
                try:
                    figures = measure(contender, comparison, duration_ns)
                except (RunFailed, ServerFailed, ServerError, OSError) as error:
                    results.failures.append(f"{comparison.name} on {contender.name}: {error}")
                results.add(comparison.name, contender.name, figures)
    return results


def measure(contender: Contender, comparison: Comparison, duration_ns: int) -> Figures:
    """Start a server, let it do the work, and return the figures.

    Raises:
        RunFailed: messages were lost, reordered, damaged or refused.
        ServerFailed, ServerError, OSError: the server did not start or not accept the clients.
    """
    with running(contender) as server:
        figures: Figures = {"start_ms": server.start_ns / 1e6}
        if comparison.holds == "connections":
            return figures | hold_connections(server, comparison.count)
        if comparison.holds == "subscriptions":
            return figures | hold_subscriptions(server, comparison.count)
        right(run(comparison.timed_plan(server.server, duration_ns // WARM_UP_FRACTION)))
        return figures | measure_load(server, comparison, duration_ns)


def measure_load(server: RunningServer, comparison: Comparison, duration_ns: int) -> Figures:
    """Run the plan once, with the server's CPU time taken just around the work."""
    plan = comparison.timed_plan(server.server, duration_ns)
    cpu_ns: list[int] = []
    around = Around(
        before=lambda: cpu_ns.append(server.cpu_ns()), after=lambda: cpu_ns.append(server.cpu_ns())
    )
    outcome = right(run(plan, around))
    rate = outcome.rate(plan)
    handled = rate * outcome.elapsed_ns / 1e9
    figures: Figures = {
        RATE: rate,
        CPU: (cpu_ns[1] - cpu_ns[0]) / 1e3 / handled,
        "client_cores": outcome.client_cpu_ns / outcome.elapsed_ns,
    }
    if outcome.latency.count:
        summary = outcome.latency.summary_ns()
        figures |= {name: summary[name.removesuffix("_us")] / 1e3 for name in LATENCIES}
    return figures


def right(outcome: Outcome) -> Outcome:
    """Return the outcome of a run in which nothing was wrong."""
    if outcome.failures:
        raise RunFailed("; ".join(outcome.failures[:3]))
    return outcome
