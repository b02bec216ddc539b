"""How fast one data plane is without a network: messages in and out of Unix sockets, in one process.

Run `python -m loadtest.micro.dataplane` on a quiet machine. What is timed is DataPlane.run() alone: reading a
block, parsing, routing, copying and writing, the kernel's share included; filling and emptying the sockets is
not. Each line is the median of some rounds after some that are not counted. At the end: what an idle
connection and a subscription cost in memory.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from dataclasses import dataclass, field

from loadtest.micro.ring import commit, machine
from shm.region import Region
from workers.config import WorkerConfig
from workers.dataplane import DataPlane
from workers.sublist_probe import heap_bytes

SIZES = (16, 128, 1024)
SUBSCRIBERS = (0, 1, 4)
BLOCK_BYTES = 1 << 16
SOCKET_BYTES = 1 << 21
ROUNDS = 300
WARM_UP_ROUNDS = 50
HOUR_NS = 3_600_000_000_000


def config() -> WorkerConfig:
    """Return settings of a lone worker that never sends a PING by itself."""
    return WorkerConfig(
        index=0,
        worker_count=1,
        ring_epochs=[[0]],
        server_id="N",
        server_name="N",
        version="2.15.1",
        midge_version="0",
        host="127.0.0.1",
        port=0,
        max_payload=1 << 20,
        max_control_line=4096,
        max_pending=64 << 20,
        max_subscriptions=0,
        max_sub_tokens=0,
        ping_interval_ns=HOUR_NS,
        ping_max=2,
        write_deadline_ns=HOUR_NS,
        auth_timeout_ns=HOUR_NS,
        connect_urls=[],
        token="",
        user="",
        password="",
        log_debug=False,
        log_trace=False,
        log_file="",
        log_time=True,
    )


class Policy:
    """Lets everybody in with all options off."""

    def connect(self, client_id: int, text: bytes) -> int:
        return 0

    def connect_info(self, client_id: int) -> bytes:
        return b""

    def client_info(self, text: bytes) -> None:
        """Nothing to check."""

    def client_error(self, client_id: int, text: bytes) -> None:
        """Nobody complains."""

    def closed(self, client_id: int, reason: int, stats: dict[str, int]) -> None:
        """Nothing to forget."""

    def trace(self, client_id: int, line: bytes) -> None:
        """Not asked for."""

    def report(self, client_id: int, error: BaseException) -> None:
        raise error


@dataclass
class Bench:
    """A plane and the ends of its clients."""

    plane: DataPlane = field(init=False)
    clients: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        doorbell = os.eventfd(0, os.EFD_NONBLOCK)
        region = Region.create(1)
        later: list[object] = []
        self.plane = DataPlane(
            region, 0, 1, [doorbell], config(), Policy(), later.append, lambda _, call: later.append(call)
        )

    def connect(self, said: bytes) -> socket.socket:
        """Add a client that has said this after CONNECT."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        ours.setblocking(False)
        self.plane.open_client(theirs.detach(), len(self.clients) + 1, False, b"")
        ours.sendall(b"CONNECT {}\r\n" + said)
        self.plane.run()
        self.clients.append(ours)
        return ours

    def drain(self) -> int:
        """Read what all clients were sent; return its length."""
        total = 0
        for client in self.clients:
            try:
                while data := client.recv(1 << 20):
                    total += len(data)
            except BlockingIOError:
                continue
        return total


def nanoseconds(size: int, subscribers: int) -> tuple[float, float, float]:
    """Return p50, p99 and p99.9 over the rounds of the time per published message."""
    bench = Bench()
    for _ in range(subscribers):
        bench.connect(b"SUB orders.eu.new 17\r\n")
    publisher = bench.connect(b"")
    message = b"PUB orders.eu.new %d\r\n%b\r\n" % (size, b"x" * size)
    count = BLOCK_BYTES // len(message)
    times = []
    for _ in range(WARM_UP_ROUNDS + ROUNDS):
        publisher.sendall(message * count)
        start_ns = time.perf_counter_ns()
        bench.plane.run()
        times.append((time.perf_counter_ns() - start_ns) / count)
        received = bench.drain()
        assert received == subscribers * count * (len(message) + len("17 ")), received
    times = sorted(times[WARM_UP_ROUNDS:])
    return statistics.median(times), times[int(ROUNDS * 0.99)], times[-1]


def memory() -> tuple[float, float]:
    """Return the heap bytes of an idle connection, and of a subscription beyond it."""
    bench = Bench()
    before = heap_bytes()
    for _ in range(200):
        bench.connect(b"")
    connection = (heap_bytes() - before) / 200
    client, count = bench.clients[0], 100_000
    before = heap_bytes()
    for first in range(0, count, 1000):
        client.sendall(b"".join(b"SUB devices.%d.state %d\r\n" % (n, n) for n in range(first, first + 1000)))
        bench.plane.run()
    return connection, (heap_bytes() - before) / count


def main() -> None:
    """Print machine, times and memory."""
    print(f"{machine()}; commit {commit()}; blocks of {BLOCK_BYTES} B")
    print(f"{'payload B':>9}{'subscribers':>12}{'p50 ns':>9}{'p99 ns':>9}{'max ns':>9}{'deliveries/s':>14}")
    for size in SIZES:
        for subscribers in SUBSCRIBERS:
            p50, p99, most = nanoseconds(size, subscribers)
            rate = f"{subscribers * 1e9 / p50:>14,.0f}"
            print(f"{size:>9}{subscribers:>12}{p50:>9.1f}{p99:>9.1f}{most:>9.1f}{rate}")
    connection, subscription = memory()
    print(f"an idle connection {connection:.0f} B, a subscription {subscription:.0f} B of heap")


if __name__ == "__main__":
    main()
