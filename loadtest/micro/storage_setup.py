"""What the storage benchmarks share: the machine's description, a timer, a scratch directory on a real disk.

Run one with `python -m loadtest.micro.storage_append` from the root of the tree. MIDGE_BENCH_DIR says where
to write.
"""

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy

PAYLOAD = b"x" * 128


def print_machine(title: str) -> None:
    """Print what the numbers were measured on."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "?")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    load = os.getloadavg()[0]
    print(
        f"# {title}: {model}, {os.cpu_count()} cores, {platform.release()}, commit {commit}, load {load:.1f}"
    )


@contextmanager
def scratch() -> Iterator[str]:
    """Give a directory that is removed afterwards."""
    path = tempfile.mkdtemp(prefix="midge-bench-", dir=os.environ.get("MIDGE_BENCH_DIR", "."))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(what: str, value: float, unit: str, wanted: str = "") -> None:
    """Print one result."""
    print(f"{what:<62} {value:>12,.2f} {unit:<12} {wanted}", flush=True)


def show_percentiles(what: str, nanoseconds: list[int]) -> None:
    """Print p50, p99 and p99.9 of latencies in microseconds."""
    points = numpy.percentile(numpy.array(nanoseconds) / 1000, [50, 99, 99.9])
    print(f"{what:<62} p50 {points[0]:,.0f} p99 {points[1]:,.0f} p99.9 {points[2]:,.0f} us", flush=True)


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
