"""How fast the load generator itself is: it must not be what a benchmark measures.

Run `python -m loadtest.micro.engine` on a quiet machine. Publishing goes over loopback into a process that
throws everything away; receiving is fed from memory, so it shows parsing and checking without the kernel.
Every line is the median of several runs after one that is not counted.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection as PipeConnection
from statistics import median

from loadtest.engine import Board, Engine, message_payload

RUNS = 5
IDLE_NS = 5_000_000_000
PUBLISH_BYTES = 1 << 30
RECEIVE_BYTES = 1 << 25
SIZES = (16, 128, 1024)
SUBJECT = b"bench"


def sink(port_pipe: PipeConnection) -> None:
    """Accept one connection after the other, throw away what comes, answer the PING at its end."""
    listener = socket.create_server(("127.0.0.1", 0))
    port_pipe.send(listener.getsockname()[1])
    buffer = bytearray(1 << 20)
    while True:
        client, _ = listener.accept()
        with client:
            while received := client.recv_into(buffer):
                if buffer.endswith(b"PING\r\n", 0, received):
                    client.sendall(b"PONG\r\n")


@contextmanager
def sink_process() -> Iterator[int]:
    """Run sink() in a process of its own; gives its port."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=sink, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def publish_rate(port: int, size: int) -> float:
    """Return messages a second from one thread into the sink."""
    messages = PUBLISH_BYTES // (size + 20)
    board = Board(1, IDLE_NS)
    engine = Engine(board, 0, 1, size, 1)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setblocking(False)
        engine.add_publisher(connection.fileno(), 0, SUBJECT, messages)
        start_ns = time.monotonic_ns()
        board.begin(start_ns, 0, 0, 0, 0)
        engine.run()
    assert engine.failure() is None, engine.failure()
    return messages * 1e9 / (engine.last_ns - start_ns)


def receive_rate(size: int, is_line_known: bool) -> float:
    """Return messages a second parsed and checked; is_line_known: one subject, so that lines repeat."""
    messages = RECEIVE_BYTES // (size + 20)
    engine = Engine(Board(1, IDLE_NS), 0, 1, size, 1)
    engine.add_subscriber(-1, SUBJECT, subject_is_prefix=True)
    data = b"".join(
        b"MSG %b%b 1 %d\r\n%b\r\n"
        % (SUBJECT, b"" if is_line_known else b".%d" % (number % 2), size, message_payload(0, number, size))
        for number in range(messages)
    )
    start_ns = time.monotonic_ns()
    engine.feed(0, data)
    elapsed_ns = time.monotonic_ns() - start_ns
    assert engine.failure() is None, engine.failure()
    assert engine.delivered == messages
    return messages * 1e9 / elapsed_ns


def main() -> None:
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{'what':<28}{'size':>6}{'messages/s':>16}{'ns each':>10}{'GB/s':>8}")
    with sink_process() as port:
        for size in SIZES:
            for what, rates in (
                ("publish into a sink", [publish_rate(port, size) for _ in range(RUNS + 1)]),
                ("receive, one subject", [receive_rate(size, True) for _ in range(RUNS + 1)]),
                ("receive, changing subjects", [receive_rate(size, False) for _ in range(RUNS + 1)]),
            ):
                rate = median(rates[1:])
                print(f"{what:<28}{size:>6}{rate:>16,.0f}{1e9 / rate:>10.1f}{rate * size / 1e9:>8.2f}")


if __name__ == "__main__":
    main()
