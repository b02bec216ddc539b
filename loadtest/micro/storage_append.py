"""Appends: without sync, durable with 4,096 in flight on one stream and on 1,000, beside plain write +
fdatasync and, with --nats, nats-server with `sync_interval: always`.
"""

import argparse
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

from loadtest.micro.storage_setup import PAYLOAD, print_machine, scratch, show, show_percentiles, timed
from storage.memory import memory_stream
from storage.store import Store

IN_FLIGHT = 4096
BATCH = 1024


def plain(directory: str, size: int, *, overwrite: bool) -> float:
    """Return the messages a second of write + fdatasync of `size` bytes at a time (as 168-byte messages)."""
    data = os.urandom(size)
    fd = os.open(f"{directory}/plain", os.O_RDWR | os.O_CREAT)
    count = 200
    if overwrite:
        os.pwrite(fd, bytes(count * (size + 4096)), 0)
        os.fsync(fd)

    def run() -> None:
        for index in range(count):
            os.pwrite(fd, data, index * -(-size // 4096) * 4096)
            os.fdatasync(fd)

    seconds = timed(run)
    os.close(fd)
    os.unlink(f"{directory}/plain")
    return count * (size / 168) / seconds


def not_synced(count: int, subjects: int) -> float:
    """Return the appends a second of a memory stream: encode, CRC, index, no journal."""
    stream = memory_stream()
    batch = [(b"orders.%d" % (index % subjects), b"", PAYLOAD) for index in range(BATCH)]

    def run() -> None:
        for index in range(count // BATCH):
            stream.append_batch(batch, index)

    return count / timed(run)


def journalled(directory: str, count: int, streams: int, *, is_async: bool) -> tuple[float, list[int]]:
    """Return (appends a second, latencies of rounds in ns) with 4,096 in flight over `streams` streams."""
    os.mkdir(directory)
    store = Store(directory)
    names = [f"S{index}" for index in range(streams)]
    opened = [store.create_stream(name, is_async=is_async).stream for name in names]
    store.wait(store.commit())
    # As many at a time on each stream as it has in flight.
    each = max(1, min(BATCH, IN_FLIGHT // streams))
    batch = [(b"orders.%d" % (index % 100), b"", PAYLOAD) for index in range(each)]
    waiting: list[tuple[int, int, int]] = []
    latencies: list[int] = []
    done = acknowledged = 0

    def run(total: int) -> None:
        nonlocal done, acknowledged
        limit, turn = done + total, 0
        while done < limit:
            for _ in range(BATCH // each):
                opened[turn % streams].append_batch(batch, done)
                turn += 1
            done += BATCH
            waiting.append((store.commit(), done, time.perf_counter_ns()))
            while done - acknowledged > IN_FLIGHT - BATCH:
                durable = store.poll()
                while waiting and waiting[0][0] <= durable:
                    _, acknowledged, started = waiting.pop(0)
                    latencies.append(time.perf_counter_ns() - started)
                if done - acknowledged > IN_FLIGHT - BATCH:
                    store.writer.wait(1)
        store.wait(waiting[-1][0])
        acknowledged = waiting[-1][1]
        waiting.clear()

    # Until every file is there and the journal's are written full.
    run(count)
    run(count)
    latencies.clear()
    rate = count / timed(lambda: run(count))
    store.close()
    return rate, latencies


def nats_rate(directory: str, count: int) -> float:
    """Return the acknowledged publishes a second of nats-server with every write synced, 4,096 in flight."""
    binary = Path(sys.executable).with_name("nats-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = Path(directory) / "nats.conf"
    config.write_text(
        f'host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: "{directory}/js", sync_interval: always }}\n'
    )
    server = subprocess.Popen([binary, "-c", config], stderr=subprocess.DEVNULL)
    try:
        return publish_and_count(port, count)
    finally:
        server.terminate()
        server.wait()


def publish_and_count(port: int, count: int) -> float:
    """Publish to a file stream with 4,096 in flight and return the acknowledgements a second."""
    deadline = time.monotonic() + 10
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
    client.sendall(b'CONNECT {"verbose":false}\r\nSUB _I.> 1\r\n')
    create = b'{"name":"B","subjects":["orders.*"],"storage":"file"}'
    client.sendall(b"PUB $JS.API.STREAM.CREATE.B _I.c %d\r\n%s\r\n" % (len(create), create))
    data = b""
    while b"stream_create_response" not in data:
        data += client.recv(65536)
    message = b"PUB orders.1 _I.a 128\r\n" + PAYLOAD + b"\r\n"
    sent = answered = 0
    started = time.perf_counter()
    tail = b""
    while answered < count:
        room = min(IN_FLIGHT - (sent - answered), count - sent)
        client.sendall(message * room)
        sent += room
        data = tail + client.recv(1 << 20)
        answered += data.count(b"MSG _I.a")
        tail = data[-7:]
        if b"MSG _I.a" in tail:
            tail = b""
    client.close()
    return count / (time.perf_counter() - started)


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2_000_000)
    parser.add_argument("--nats", action="store_true")
    arguments = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    print_machine(f"append 128 B, {arguments.count:,} messages, {IN_FLIGHT} in flight")
    not_synced(200_000, 100)
    rate = not_synced(arguments.count, 100)
    show("append_batch, no journal", rate, "msg/s", ">= 1,500,000")
    with scratch() as directory:
        for overwrite in (False, True):
            label = "overwriting" if overwrite else "growing"
            show(
                f"plain write + fdatasync, 344 KB each, {label}",
                plain(directory, 344_064, overwrite=overwrite),
                "msg/s",
            )
        unsynced, _ = journalled(f"{directory}/a", arguments.count, 1, is_async=True)
        show("append + commit, not synced, one stream", unsynced, "msg/s")
        one, latencies = journalled(f"{directory}/b", arguments.count, 1, is_async=False)
        show(
            "append + commit, durable, one stream", one, "msg/s", f"{one / unsynced:.0%} of unsynced, >= 60%"
        )
        show_percentiles("  from commit to durable", latencies)
        many, latencies = journalled(f"{directory}/c", arguments.count, 1000, is_async=False)
        show(
            "append + commit, durable, 1,000 streams",
            many,
            "msg/s",
            f"{many / one:.0%} of one stream, >= 50%",
        )
        show_percentiles("  from commit to durable", latencies)
        if arguments.nats:
            nats = nats_rate(directory, 30_000)
            show(
                "nats-server, sync_interval: always, one stream",
                nats,
                "msg/s",
                f"{one / nats:.0f} times, >= 30",
            )


if __name__ == "__main__":
    main()
