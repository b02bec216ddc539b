"""A ring that was written over costs its reader, and new rings join the worker that replaces it."""

import mmap
import os

import pytest
from support.fleet import by_worker
from support.wait import wait_until

from shm.region import Region

TAIL_OFFSET = 128
"""Of a ring's tail in its header, see shm/layout.h."""


def overwrite_tail(broker, producer, consumer):
    """Let a data ring of a running broker claim to hold more than it can."""
    directory = f"/proc/{broker.process.pid}/fd"
    name = next(
        n for n in os.listdir(directory) if os.readlink(f"{directory}/{n}").startswith("/memfd:midge")
    )
    region = Region.attach(os.open(f"{directory}/{name}", os.O_RDWR))
    with mmap.mmap(region.fd, 0) as memory:
        at = region.data_ring_address(producer, consumer) - region.address + TAIL_OFFSET
        memory[at : at + 8] = (1 << 40).to_bytes(8, "little")
    region.close()


def worker_pids(server):
    return {process.pid for process in server.workers()}


@pytest.mark.servers("midge-2")
def test_corrupt_ring_costs_its_reader_and_the_replacement_is_heard(start, dial):
    server = start()
    clients = [dial(server), dial(server)]
    before = worker_pids(server)
    overwrite_tail(server, 0, 1)

    def one_was_replaced():
        for client in clients:
            client.send_if_open(b"PING\r\n")  # input makes a worker look at its rings
        now = worker_pids(server)
        return len(now) == 2 and now != before

    wait_until(one_was_replaced, "a worker to be replaced", 30)
    assert len(worker_pids(server) & before) == 1

    def served():
        return by_worker(server, [dial(server) for _ in range(4)])

    pairs = wait_until(lambda: all((found := served()).values()) and found, "both workers to serve", 30)
    here, there = (group[0] for group in pairs.values())
    for subscriber, publisher in ((here, there), (there, here)):
        subscriber.send(b"SUB healed 1\r\n")
        subscriber.expect_nothing()
        publisher.send(b"PUB healed 2\r\nhi\r\n")
        subscriber.expect(rb"MSG healed 1 2\r\nhi\r\n")
        subscriber.send(b"UNSUB 1\r\n")
        subscriber.expect_nothing()
