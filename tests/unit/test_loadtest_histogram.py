"""The latency histogram: bounds of its error, and the compiled buckets against the ones in Python."""

import random
from array import array

import pytest

from loadtest import ledger
from loadtest.histogram import BUCKET_COUNT, Histogram, bucket_highest_ns, bucket_index


def values_of_every_magnitude() -> list[int]:
    generator = random.Random(20261121)
    edges = [value for bit in range(63) for value in ((1 << bit) - 1, 1 << bit, (1 << bit) + 1)]
    return edges + [generator.getrandbits(generator.randint(1, 63)) for _ in range(2000)]


def test_compiled_buckets_are_those_of_python() -> None:
    assert ledger.BUCKET_COUNT == BUCKET_COUNT
    for value in values_of_every_magnitude():
        assert ledger.bucket_index(value) == bucket_index(value), value


def test_a_bucket_ends_at_most_a_128th_above_its_values() -> None:
    for value in values_of_every_magnitude():
        highest = bucket_highest_ns(bucket_index(value))
        assert value <= highest <= value + value // 128
    assert bucket_index((1 << 63) - 1) == BUCKET_COUNT - 1 - 128


def test_percentiles_follow_the_ranks_of_sorted_values() -> None:
    generator = random.Random(7)
    values = sorted(int(generator.lognormvariate(10, 2)) for _ in range(5000))
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    for fraction in (0.001, 0.5, 0.9, 0.99, 0.999, 1.0):
        exact = values[max(0, -int(-fraction * len(values) // 1) - 1)]
        assert exact <= histogram.percentile_ns(fraction) <= exact + exact // 128
    assert histogram.summary_ns()["max"] == values[-1]


def test_the_highest_percentile_does_not_pass_the_maximum() -> None:
    histogram = Histogram()
    histogram.record(1_000_001)
    assert histogram.summary_ns() == {
        "p50": 1_000_001,
        "p99": 1_000_001,
        "p99.9": 1_000_001,
        "max": 1_000_001,
    }


def test_counts_of_engines_add_up() -> None:
    counts = array("Q", bytes(8 * BUCKET_COUNT))
    counts[bucket_index(100)] = 99
    counts[bucket_index(5000)] = 1
    histogram = Histogram()
    histogram.add_counts(counts.tobytes(), 5000)
    histogram.add_counts(counts.tobytes(), 5000)
    assert histogram.count == 200
    assert histogram.percentile_ns(0.99) == 100
    assert histogram.percentile_ns(0.995) == 5000
    with pytest.raises(ValueError, match="1 buckets"):
        histogram.add_counts(bytes(8), 0)


def test_without_values_all_percentiles_are_zero() -> None:
    assert Histogram().summary_ns() == {"p50": 0, "p99": 0, "p99.9": 0, "max": 0}
