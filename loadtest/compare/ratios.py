"""Statistics of repeated comparisons: the median of the rounds' own ratios, with their spread.

Both servers of a round met the same machine at about the same time, so the ratio within a round varies less
than the figures of different rounds; therefore no ratio of averages is taken anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Ratio:
    """Ratios of all rounds: their median and range.

    Attributes:
        is_unanimous: every round agrees which side is ahead. Two equal servers agree in 3 rounds out of 3 one
            time in four, in 7 out of 7 one time in 64.
    """

    median: float
    least: float
    most: float
    rounds: int

    @property
    def is_unanimous(self) -> bool:
        return self.least > 1 or self.most < 1

    def text(self) -> str:
        """Return e.g. `7.9 (7.1-8.4)`, with `~` where rounds disagree."""
        mark = "" if self.is_unanimous else "~"
        return f"{mark}{digits(self.median)} ({digits(self.least)}-{digits(self.most)})"


def digits(value: float) -> str:
    """Return a ratio with as many places as it deserves."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def pairwise(ours: Sequence[float | None], baseline: Sequence[float | None]) -> Ratio | None:
    """Return ours / baseline over the rounds in which both have a figure; None without any such round."""
    found = [
        our / base
        for our, base in zip(ours, baseline, strict=True)
        if our is not None and base is not None and base > 0
    ]
    if not found:
        return None
    return Ratio(median(found), min(found), max(found), len(found))
