"""Show a run: a progress line while it goes on, a table or JSON at its end."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TextIO

from loadtest.plan import Plan, Scenario
from loadtest.runner import Outcome, Progress

LINE_INTERVAL_NS = 1_000_000_000


def count_text(value: float) -> str:
    """Return a number with a k, M or G where it is large: 12.3 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:.0f} "


def time_text(value_ns: float) -> str:
    """Return a duration in the unit that suits it: 35.1 us."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if value_ns >= size:
            return f"{value_ns / size:.2f} {unit}"
    return f"{value_ns:.0f} ns"


class ProgressLine:
    """One line that is written over again on a terminal; elsewhere a line each second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._last = Progress(0, 0, 0)
        self._is_shown = False

    def show(self, progress: Progress) -> None:
        """Show how far the run is and its rates since the line before."""
        interval_ns = progress.elapsed_ns - self._last.elapsed_ns
        if interval_ns <= 0 or (not self._is_terminal and interval_ns < LINE_INTERVAL_NS):
            return
        published = (progress.published - self._last.published) * 1e9 / interval_ns
        delivered = (progress.delivered - self._last.delivered) * 1e9 / interval_ns
        text = (
            f"{progress.elapsed_ns / 1e9:6.1f} s"
            f"  sent {count_text(progress.published)} ({count_text(published)}/s)"
            f"  received {count_text(progress.delivered)} ({count_text(delivered)}/s)"
        )
        self._stream.write(f"\r{text:<78}" if self._is_terminal else f"{text}\n")
        self._stream.flush()
        self._last = progress
        self._is_shown = True

    def end(self) -> None:
        """Leave the line, so that what follows begins at a new one."""
        if self._is_shown and self._is_terminal:
            self._stream.write("\n")


def as_dict(plan: Plan, outcome: Outcome) -> dict[str, object]:
    """Return everything as JSON-ready values; times in nanoseconds, rates a second. No credentials."""
    described = {key: value for key, value in asdict(plan).items() if key != "server"}
    rate = outcome.rate(plan)
    return {
        **described,
        "server": f"{plan.server.host}:{plan.server.port}",
        "is_right": not outcome.failures,
        "failures": outcome.failures,
        "published": outcome.published,
        "delivered": outcome.delivered,
        "elapsed_ns": outcome.elapsed_ns,
        "rate_per_s": rate,
        "megabytes_per_s": rate * plan.size / 1e6,
        "latency_ns": outcome.latency.summary_ns() if outcome.latency.count else None,
        "late_mean_ns": outcome.late_mean_ns,
        "late_max_ns": outcome.late_max_ns,
        "client_cpu_ns": outcome.client_cpu_ns,
    }


def as_json(plan: Plan, outcome: Outcome) -> str:
    return json.dumps(as_dict(plan, outcome))


def rows(plan: Plan, outcome: Outcome) -> list[tuple[str, str]]:
    """Return the lines of the table, name and value."""
    elapsed_s = outcome.elapsed_ns / 1e9
    rate = outcome.rate(plan)
    what = {Scenario.PUB: "published", Scenario.REQUEST: "requests"}.get(plan.scenario, "deliveries")
    clients = f"{plan.sender_count} -> {plan.receiver_count}"
    found = [
        ("scenario", f"{plan.scenario}, {clients} clients, {plan.threads} threads, {plan.size} B"),
        ("sent", f"{outcome.published:,}"),
        ("received", f"{outcome.delivered:,}"),
        ("time", f"{elapsed_s:.3f} s"),
        (what, f"{count_text(rate)}/s"),
        ("payload", f"{rate * plan.size / 1e6:,.1f} MB/s"),
        ("client CPU", f"{outcome.client_cpu_ns / max(1, outcome.elapsed_ns):.2f} cores"),
    ]
    if outcome.latency.count:
        found += [
            (f"latency {name}", time_text(value)) for name, value in outcome.latency.summary_ns().items()
        ]
    if outcome.late_bursts:
        late = f"mean {time_text(outcome.late_mean_ns)}, max {time_text(outcome.late_max_ns)}"
        found.append(("sender late", late))
    return found


def as_table(plan: Plan, outcome: Outcome) -> str:
    lines = [f"  {name:<14} {value}" for name, value in rows(plan, outcome)]
    lines += [f"  FAILED         {text}" for text in outcome.failures]
    return "\n".join(lines)
