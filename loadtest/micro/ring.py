"""How fast one ring is: frames and bytes per second in one and in two processes, and a frame's round trip.

Run `python -m loadtest.micro.ring` on a quiet machine. Each frame is copied in and out, as in the data plane;
a batch is what one publish makes visible. Each line is the median of some runs after one that is not counted.
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from loadtest.micro import ring_loops
from shm import layout
from shm.ring import RingConsumer, RingProducer

CAPACITY = 1 << 20
SIZES = (16, 64, 128, 512, 1024, 4096, 65536)
BATCH_BYTES = 1 << 16
"""A worker reads its sockets in blocks of about this size and publishes after each."""
RUNS = 5
ROUND_TRIPS = 20_000


def machine() -> str:
    """Return processor, cores and kernel in one line."""
    with open("/proc/cpuinfo") as lines:
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    return f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}, Python {sys.version.split()[0]}"


def commit() -> str:
    """Return the commit that is measured, "unknown" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def new_ring() -> tuple[mmap.mmap, int]:
    """Return memory that a forked child shares, and the address of the empty ring in it."""
    memory = mmap.mmap(-1, layout.RING_HEADER_SIZE + CAPACITY)
    address = layout.address_of(memory)
    layout.initialize_ring(address, CAPACITY)
    return memory, address


def fork(child: Callable[[], None]) -> int:
    """Run a function in a forked process and return its id."""
    process_id = os.fork()
    if process_id == 0:
        try:
            child()
        finally:
            os._exit(0)
    return process_id


def seconds_in_one_process(size: int, batches: int, batch: int) -> float:
    """Return the time to write and read all frames in turns."""
    memory, address = new_ring()
    producer, consumer = RingProducer(address, 1, memory), RingConsumer(address, 1, memory)
    start = time.perf_counter()
    ring_loops.pass_frames(producer, consumer, size, batches, batch)
    return time.perf_counter() - start


def seconds_in_two_processes(size: int, batches: int, batch: int) -> float:
    """Return the time until the last frame of a forked writer is read."""
    memory, address = new_ring()
    consumer = RingConsumer(address, 1, memory)
    start = time.perf_counter()
    child = fork(lambda: ring_loops.write_frames(RingProducer(address, 1, memory), size, batches, batch))
    ring_loops.read_frames(consumer, batches * batch)
    elapsed = time.perf_counter() - start
    os.waitpid(child, 0)
    return elapsed


def round_trips_ns() -> list[int]:
    """Return the round trips of 16 bytes between two processes that both spin, sorted."""
    out_memory, out_address = new_ring()
    back_memory, back_address = new_ring()
    child = fork(
        lambda: ring_loops.echo(
            RingProducer(back_address, 1, back_memory), RingConsumer(out_address, 1, out_memory), ROUND_TRIPS
        )
    )
    producer, consumer = RingProducer(out_address, 1, out_memory), RingConsumer(back_address, 1, back_memory)
    trips = ring_loops.bounce(producer, consumer, ROUND_TRIPS)
    os.waitpid(child, 0)
    return sorted(trips[ROUND_TRIPS // 10 :])


def print_rates(volume_bytes: int) -> None:
    """Print a line for each size and number of processes; each run moves about volume_bytes."""
    print(f"{'processes':>9} {'frame B':>8} {'batch':>6} {'frames/s':>14} {'ns/frame':>9} {'GB/s':>7}")
    for processes, measure in ((1, seconds_in_one_process), (2, seconds_in_two_processes)):
        for size in SIZES:
            batch = max(1, BATCH_BYTES // (size + layout.FRAME_HEADER_SIZE))
            batches = max(16, min(volume_bytes // size, volume_bytes // 64) // batch)
            seconds = statistics.median([measure(size, batches, batch) for _ in range(RUNS + 1)][1:])
            rate = batches * batch / seconds
            speed = f"{rate:>14,.0f} {1e9 / rate:>9.1f} {rate * size / 1e9:>7.2f}"
            print(f"{processes:>9} {size:>8} {batch:>6} {speed}")


def main() -> None:
    """Print machine, rates and round trips."""
    parser = argparse.ArgumentParser(description="Measure one ring.")
    parser.add_argument("--volume", type=int, default=256, metavar="MiB", help="bytes of each run (256)")
    arguments = parser.parse_args()
    print(f"{machine()}; commit {commit()}; ring {CAPACITY} B")
    print_rates(arguments.volume << 20)
    trips = round_trips_ns()
    p50, p99, p999 = (trips[int(len(trips) * part)] for part in (0.5, 0.99, 0.999))
    print(f"round trip of 16 B, both processes spinning: p50 {p50} ns, p99 {p99} ns, p99.9 {p999} ns")


if __name__ == "__main__":
    main()
