"""What remembering a message id costs: time of find + add, and memory.

Run `python -m loadtest.micro.dedup` from the root of the tree.
"""

import statistics
import time

from loadtest.micro.storage_setup import print_machine, resident_bytes, show
from workers.jetstream.dedup import DedupTable

WINDOW_NS = 120 * 10**9
IN_CACHE = 10_000
MANY = 1_000_000
RUNS = 5


def ids_of(start: int, count: int) -> list[bytes]:
    """Return ids as long as a UUID."""
    return [b"%036d" % number for number in range(start, start + count)]


def nanoseconds(table: DedupTable, ids: list[bytes], now_ns: int) -> float:
    started = time.perf_counter_ns()
    table.put_new(ids, 1, now_ns)
    return (time.perf_counter_ns() - started) / len(ids)


def slowest_add(table: DedupTable, ids: list[bytes]) -> float:
    """Return the microseconds of the slowest of 64 adds in a row, to see that no add stops for a table."""
    slowest = 0
    for start in range(0, len(ids), 64):
        part = ids[start : start + 64]
        started = time.perf_counter_ns()
        table.put_new(part, 1, 0)
        slowest = max(slowest, time.perf_counter_ns() - started)
    return slowest / 1000


def main() -> None:
    print_machine("message ids")
    runs = [nanoseconds(DedupTable(WINDOW_NS), ids_of(0, IN_CACHE), 0) for _ in range(RUNS)]
    show(f"find + add of a new id, {IN_CACHE:,} of them", statistics.median(runs), "ns")
    ids = ids_of(0, MANY)
    before = resident_bytes()
    table = DedupTable(WINDOW_NS)
    show(f"find + add of a new id, {MANY:,} of them", nanoseconds(table, ids, 0), "ns")
    show("memory of one", (resident_bytes() - before) / MANY, "bytes")
    show("find of a duplicate", nanoseconds(table, ids, 1), "ns")
    show("find + add, an old one forgotten", nanoseconds(table, ids_of(MANY, MANY), WINDOW_NS), "ns")
    show("slowest 64 adds of a million", slowest_add(DedupTable(WINDOW_NS), ids), "us")


if __name__ == "__main__":
    main()
