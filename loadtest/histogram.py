"""A histogram of nanoseconds with logarithmic buckets: any value up to 2**63, at most 1/128 off.

Values below 256 have a bucket each. Above, each power of two is cut into 128 buckets, so that a percentile of
microseconds and one of seconds are equally precise. loadtest/ledger.pyx counts into the same buckets.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

SUB_BUCKET_BITS = 7
EXACT_BELOW = 1 << (SUB_BUCKET_BITS + 1)
BUCKET_COUNT = 7424
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def bucket_index(value_ns: int) -> int:
    """Return the bucket of a value in 0..2**63-1."""
    if value_ns < EXACT_BELOW:
        return value_ns
    shift = value_ns.bit_length() - 1 - SUB_BUCKET_BITS
    return (shift << SUB_BUCKET_BITS) + (value_ns >> shift)


def bucket_highest_ns(index: int) -> int:
    """Return the largest value of a bucket: percentiles err on the slow side."""
    if index < EXACT_BELOW:
        return index
    shift = (index >> SUB_BUCKET_BITS) - 1
    return ((index - (shift << SUB_BUCKET_BITS) + 1) << shift) - 1


class Histogram:
    """Counts of values in nanoseconds."""

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * BUCKET_COUNT))
        self.maximum_ns = 0

    @property
    def count(self) -> int:
        """Return how many values were recorded."""
        return sum(self._counts)

    def record(self, value_ns: int) -> None:
        """Count one value; below 0 it counts as 0."""
        value_ns = max(0, value_ns)
        self._counts[bucket_index(value_ns)] += 1
        self.maximum_ns = max(self.maximum_ns, value_ns)

    def add_counts(self, counts: bytes, maximum_ns: int) -> None:
        """Add what an engine counted: BUCKET_COUNT native 64-bit integers and the largest value."""
        other = array("Q")
        other.frombytes(counts)
        if len(other) != BUCKET_COUNT:
            raise ValueError(f"{len(other)} buckets, a histogram has {BUCKET_COUNT}")
        self._counts = array("Q", map(int.__add__, self._counts, other))
        self.maximum_ns = max(self.maximum_ns, maximum_ns)

    def percentile_ns(self, fraction: float) -> int:
        """Return the value that `fraction` of all values do not pass, 0 without values.

        Args:
            fraction: above 0, at most 1, e.g. 0.99.
        """
        return self.percentiles_ns([fraction])[0]

    def percentiles_ns(self, fractions: Iterable[float]) -> list[int]:
        """Return several percentiles, see percentile_ns."""
        total = self.count
        found = []
        for fraction in fractions:
            rank, index, seen = max(1, -int(-fraction * total // 1)), 0, 0
            while total and seen < rank:
                seen += self._counts[index]
                index += 1
            found.append(min(bucket_highest_ns(index - 1), self.maximum_ns) if total else 0)
        return found

    def summary_ns(self) -> dict[str, int]:
        """Return the percentiles that reports show, and the maximum."""
        values = self.percentiles_ns(PERCENTILES.values())
        return {**dict(zip(PERCENTILES, values, strict=True)), "max": self.maximum_ns}
