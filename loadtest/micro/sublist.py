"""How fast subjects are matched, and what a subscription costs in memory.

Run `python -m loadtest.micro.sublist` on a quiet machine. This is matching without the route cache, so what a
message on a subject costs the first time. Each line is the median of some runs after one that is not counted.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

from loadtest.micro.ring import commit, machine
from workers.sublist_probe import Sublist, heap_bytes

RUNS = 5
PROBES = 20_000
"""Different subjects matched in turn, so that the processor's caches help no more than they do in life."""
ROUNDS = 5


def literal(number: int) -> bytes:
    return b"devices.%d.room-%d.state" % (number, number % 100)


def one_star(number: int) -> bytes:
    return b"devices.%d.*.state" % number


def tail(number: int) -> bytes:
    return b"devices.%d.>" % number


def nanoseconds(sublist: Sublist, subjects: list[bytes]) -> tuple[float, float]:
    """Return the median time per match, and how many subscribed subjects each met."""
    times, met = [], 0
    for _ in range(RUNS + 1):
        start_ns = time.perf_counter_ns()
        met = sublist.match_all(subjects, ROUNDS)
        times.append((time.perf_counter_ns() - start_ns) / ROUNDS / len(subjects))
    return statistics.median(times[1:]), met / ROUNDS / len(subjects)


def measure(name: str, subject_of: Callable[[int], bytes], count: int) -> None:
    """Fill a sublist, print memory and times, and empty it again."""
    chance = random.Random(1)
    sublist = Sublist()
    before = heap_bytes()
    start_ns = time.perf_counter_ns()
    for number in range(count):
        sublist.insert(number, subject_of(number))
    insert_ns = (time.perf_counter_ns() - start_ns) / count
    table_bytes = 8 << max(4, (count - 1).bit_length())  # the numbers of the test face, no part of a sublist
    bytes_each = (heap_bytes() - before - table_bytes) / count
    present = [literal(chance.randrange(count)) for _ in range(PROBES)]
    absent = [literal(count + chance.randrange(count)) for _ in range(PROBES)]
    hit_ns, hits = nanoseconds(sublist, present)
    miss_ns, _ = nanoseconds(sublist, absent)
    start_ns = time.perf_counter_ns()
    for number in range(count):
        sublist.remove(number)
    remove_ns = (time.perf_counter_ns() - start_ns) / count
    print(
        f"{name:<12}{count:>10}{bytes_each:>9.0f}{insert_ns:>10.0f}{remove_ns:>10.0f}"
        f"{hit_ns:>9.0f}{hits:>6.1f}{miss_ns:>9.0f}"
    )


def main() -> None:
    """Print machine, memory and times."""
    parser = argparse.ArgumentParser(description="Measure the sublist.")
    parser.add_argument("--subjects", type=int, default=1_000_000, help="the largest number (%(default)s)")
    most = parser.parse_args().subjects
    print(f"{machine()}; commit {commit()}; {PROBES} subjects matched in turn")
    print(
        f"{'subjects':<12}{'count':>10}{'bytes':>9}{'insert ns':>10}{'remove ns':>10}"
        f"{'hit ns':>9}{'met':>6}{'miss ns':>9}"
    )
    for count in (1000, most // 10, most):
        for name, subject_of in (("literal", literal), ("one *", one_star), ("tail >", tail)):
            measure(name, subject_of, count)


if __name__ == "__main__":
    main()
