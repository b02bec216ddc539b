"""What idle connections and subscriptions cost a server: bytes of each, and how fast they are made."""

from __future__ import annotations

import time
from contextlib import ExitStack

from loadtest.client import Connection, allow_connections
from loadtest.compare.scenarios import BYTES_EACH, RATE
from loadtest.compare.servers import RunningServer


def hold_connections(running: RunningServer, count: int) -> dict[str, float]:
    """Open `count` connections, finish their handshakes, and weigh the server before and after.

    Raises:
        OSError: too many for this process's descriptor limit, or refused.
    """
    allow_connections(count)
    before = running.memory_bytes()
    with ExitStack() as stack:
        begin_ns = time.monotonic_ns()
        for _ in range(count):
            stack.callback(Connection(running.server).close)
        elapsed_ns = time.monotonic_ns() - begin_ns
        return figures(running.memory_bytes() - before, count, elapsed_ns)


def hold_subscriptions(running: RunningServer, count: int) -> dict[str, float]:
    """Subscribe one connection to `count` different subjects and weigh the server before and after."""
    lines = "".join(f"SUB events.{number % 97}.{number} {number}\r\n" for number in range(count)).encode()
    connection = Connection(running.server, timeout_s=60.0)
    try:
        before = running.memory_bytes()
        begin_ns = time.monotonic_ns()
        connection.send(lines)
        connection.round_trip()
        elapsed_ns = time.monotonic_ns() - begin_ns
        return figures(running.memory_bytes() - before, count, elapsed_ns)
    finally:
        connection.close()


def figures(grown_bytes: int, count: int, elapsed_ns: int) -> dict[str, float]:
    return {BYTES_EACH: max(0, grown_bytes) / count, RATE: count * 1e9 / elapsed_ns}
