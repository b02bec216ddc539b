"""Show results: a table for people, a dictionary for JSON."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import psutil

from loadtest.compare.rounds import Results
from loadtest.compare.scenarios import COSTS, Comparison
from loadtest.compare.servers import BASELINE, Contender
from loadtest.report import count_text

COLUMN = 24


def middle(results: Results, comparison: str, contender: str, metric: str) -> float | None:
    """Return the median of a figure over the rounds that have one."""
    values = [value for value in results.values(comparison, contender, metric) if value is not None]
    return median(values) if values else None


def value_text(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if metric in COSTS else count_text(value)


def as_table(results: Results, contenders: Sequence[Contender], comparisons: Sequence[Comparison]) -> str:
    """Return one line for each figure: the baseline's median, then each contender's ratio to the baseline."""
    others = [contender.name for contender in contenders if contender.name != BASELINE]
    head = "".join(f"{name + ' / ' + BASELINE:>{COLUMN}}" for name in others)
    lines = [f"{'scenario':<14}{'figure':<16}{BASELINE:>12}{head}"]
    for comparison in comparisons:
        for metric in comparison.metrics:
            cells = [results.ratio(comparison.name, name, metric) for name in others]
            baseline = value_text(middle(results, comparison.name, BASELINE, metric), metric)
            ratios = "".join(f"{cell.text() if cell else '-':>{COLUMN}}" for cell in cells)
            less = " (less)" if metric in COSTS else ""
            lines.append(f"{comparison.name:<14}{metric + less:<22}{baseline:>6}{ratios}")
    lines += [f"FAILED {text}" for text in results.failures]
    return "\n".join(lines)


def machine() -> dict[str, object]:
    """Return what figures depend on."""
    return {
        "system": platform.platform(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
    }


def as_dict(
    results: Results, contenders: Sequence[Contender], comparisons: Sequence[Comparison]
) -> dict[str, Any]:
    """Return everything as JSON-ready values: figures of every round, ratios, failures, commands, machine."""
    ratios: dict[str, dict[str, dict[str, object]]] = {}
    for comparison in comparisons:
        for contender in contenders:
            for metric in comparison.metrics:
                ratio = results.ratio(comparison.name, contender.name, metric)
                if ratio and contender.name != BASELINE:
                    ratios.setdefault(comparison.name, {}).setdefault(contender.name, {})[metric] = asdict(
                        ratio
                    )
    return {
        "machine": machine(),
        "commands": {contender.name: contender.command for contender in contenders},
        "figures": results.figures,
        "ratios": ratios,
        "failures": results.failures,
    }
