"""How fast the parser is: nanoseconds per operation, without I/O and without Python objects.

Run `python -m loadtest.micro.parser` on a quiet machine. A block of operations, as one read delivers it, is
parsed over and over from the cache. Each line is the median of some runs after one that is not counted.
"""

from __future__ import annotations

import statistics
import time

from loadtest.micro.ring import commit, machine
from workers.parser import count_operations

BLOCK_BYTES = 1 << 17
SIZES = (16, 128, 1024)
RUNS = 7
RUN_OPERATIONS = 2_000_000


def block(operation: bytes) -> bytes:
    """Return a block full of the operation."""
    return operation * max(1, BLOCK_BYTES // len(operation))


def nanoseconds(data: bytes) -> tuple[float, float]:
    """Return the median and the worst run's time per operation."""
    operations = count_operations(data, 1)
    rounds = max(1, RUN_OPERATIONS // operations)
    times = []
    for _ in range(RUNS + 1):
        start_ns = time.perf_counter_ns()
        count_operations(data, rounds)
        times.append((time.perf_counter_ns() - start_ns) / rounds / operations)
    return statistics.median(times[1:]), max(times[1:])


def cases(size: int) -> dict[str, bytes]:
    """Return an operation of each kind with a payload of this size."""
    payload = b"x" * size
    headers = b"NATS/1.0\r\nA: b\r\n\r\n"
    sizes = b"%d %d" % (len(headers), len(headers) + size)
    return {
        "PUB": b"PUB orders.eu.new %d\r\n%b\r\n" % (size, payload),
        "PUB with reply": b"PUB orders.eu.new _INBOX.Wd3.x7 %d\r\n%b\r\n" % (size, payload),
        "PUB, odd blanks": b"PUB  orders.eu.new\t%d\r\n%b\r\n" % (size, payload),
        "HPUB": b"HPUB orders.eu.new %b\r\n%b%b\r\n" % (sizes, headers, payload),
    }


def main() -> None:
    """Print machine and times."""
    print(f"{machine()}; commit {commit()}; block {BLOCK_BYTES} B")
    print(f"{'operation':<18}{'payload B':>10}{'ns':>8}{'worst ns':>10}{'million/s':>11}")
    for size in SIZES:
        for name, operation in cases(size).items():
            median, worst = nanoseconds(block(operation))
            print(f"{name:<18}{size:>10}{median:>8.1f}{worst:>10.1f}{1000 / median:>11.1f}")
    for name, operation in (
        ("PING", b"PING\r\n"),
        ("SUB", b"SUB orders.eu.* 17\r\n"),
        ("UNSUB", b"UNSUB 17\r\n"),
    ):
        median, worst = nanoseconds(block(operation))
        print(f"{name:<18}{'':>10}{median:>8.1f}{worst:>10.1f}{1000 / median:>11.1f}")


if __name__ == "__main__":
    main()
