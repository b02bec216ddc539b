"""Backups as bytes: messages written and read per second, S2 blocks and HighwayHash per second."""

import argparse
import time

from loadtest.micro.storage_setup import PAYLOAD, print_machine
from workers.jetstream.archive import s2
from workers.jetstream.archive.archive import ArchiveReader, write
from workers.jetstream.archive.highwayhash import hash64

STATE = b'{"first_seq":1,"last_seq":0,"consumer_count":0}'
BLOCK_BYTES = 65536


def archives(count: int) -> None:
    """Write and read a backup of `count` messages."""
    now_ns = time.time_ns()
    rows = [
        (sequence, now_ns, b"orders.%d" % (sequence % 100), b"", PAYLOAD) for sequence in range(1, count + 1)
    ]
    start = time.perf_counter()
    pieces = list(write(STATE, now_ns, [], rows))
    print(f"written   {count / (time.perf_counter() - start):12,.0f} messages/s")
    reader = ArchiveReader("S", message_bytes_max=1 << 20)
    start = time.perf_counter()
    items = sum(1 for piece in pieces for _ in reader.feed(piece))
    print(f"read      {items / (time.perf_counter() - start):12,.0f} messages/s")
    reader.finish()


def blocks(rounds: int) -> None:
    """Compress, expand and hash blocks of JSON."""
    content = (b'{"id": 123456, "name": "midge", "tags": ["a", "b"]}' * BLOCK_BYTES)[:BLOCK_BYTES]
    block = s2.compress_block(content)
    key = bytes(32)
    for name, work in (
        ("compress", lambda: s2.compress_block(content)),
        ("expand", lambda: s2.decompress_block(block, BLOCK_BYTES)),
        ("checksum", lambda: s2.checksum(content)),
        ("hash", lambda: hash64(key, content)),
    ):
        start = time.perf_counter()
        for _ in range(rounds):
            work()
        print(f"{name:9} {BLOCK_BYTES * rounds / (time.perf_counter() - start) / 1e6:12,.0f} MB/s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000, help="messages (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2000, help="blocks (%(default)s)")
    arguments = parser.parse_args()
    print_machine("backups as bytes")
    archives(arguments.count)
    blocks(arguments.rounds)


if __name__ == "__main__":
    main()
