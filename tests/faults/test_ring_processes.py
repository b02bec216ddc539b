"""Rings between two real processes: nothing lost, torn or left asleep, and death of one end survived."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.ring_peer import Peer, Worker, bodies, check_body
from support.wait import wait_until

from shm.doorbell import Doorbell
from shm.errors import StaleEpoch
from shm.region import Region
from shm.ring import RingConsumer

SMALL_RING_BYTES = 1 << 14


class Pair:
    """A region of two workers, the test being worker 1."""

    def __init__(self, data_ring_bytes: int) -> None:
        self.region = Region.create(2, data_ring_bytes, 1 << 12)
        self.bells = [Doorbell.create(), Doorbell.create()]
        self.peers: list[Peer] = []

    def start(self, role: str, count: int, seed: int = 1) -> Peer:
        """Start worker 0 in its own process, attached to the present epoch."""
        self.peers.append(Peer(role, self.region, self.bells, self.epoch, count, seed))
        return self.peers[-1]

    @property
    def epoch(self) -> int:
        return self.region.ring_epochs()[0][1]

    def worker(self) -> Worker:
        """Attach the test's end."""
        return Worker(self.region, 1, self.bells, self.epoch)

    def close(self) -> None:
        for peer in self.peers:
            peer.kill()
        for bell in self.bells:
            bell.close()
        self.region.close()


@contextmanager
def pair_of(data_ring_bytes: int) -> Iterator[Pair]:
    pair = Pair(data_ring_bytes)
    try:
        yield pair
    finally:
        pair.close()


def left_in(worker: Worker) -> Iterator[bytes]:
    """Yield the bodies that are still in the test's ring, without waiting for more."""
    while worker.consumer.poll():
        while (body := worker.reader.read()) is not None:
            yield body
        worker.consumer.release()


@pytest.mark.parametrize("data_ring_bytes", [SMALL_RING_BYTES, 1 << 20])
def test_every_body_arrives_unharmed_and_in_order(data_ring_bytes: int) -> None:
    """The small ring is full most of the time, so its producer sleeps; the consumer of the large one does."""
    count = 20_000
    with pair_of(data_ring_bytes) as pair:
        peer, worker = pair.start("produce", count), pair.worker()
        for number, expected in zip(range(count), bodies(seed=1), strict=False):
            body = worker.receive()
            check_body(body, number)
            assert body == expected
        assert peer.wait() == 0
        assert worker.consumer.poll() == 0


def test_no_wake_up_is_missed_when_both_ends_sleep_for_every_body() -> None:
    count = 4_000
    with pair_of(SMALL_RING_BYTES) as pair:
        peer, worker = pair.start("echo", count), pair.worker()
        for number, body in zip(range(count), bodies(seed=2), strict=False):
            worker.send(body)
            worker.flush()
            check_body(worker.receive(), number)
        assert peer.wait() == 0
        assert worker.sleeps > 0


def test_killed_producer_leaves_whole_frames_and_its_successor_starts_afresh() -> None:
    with pair_of(SMALL_RING_BYTES) as pair:
        for round_number in range(3):
            peer, worker = pair.start("produce", 1 << 60, seed=round_number), pair.worker()
            for number in range(200):
                check_body(worker.receive(), number)
            peer.kill()
            for number, body in enumerate(left_in(worker), 200):
                check_body(body, number)
            assert not worker.consumer.is_corrupt
            old_epoch = pair.epoch
            pair.region.reset_rings(0)
            assert worker.consumer.is_stale
            assert worker.consumer.poll() == 0
            with pytest.raises(StaleEpoch):
                RingConsumer(pair.region.data_ring_address(0, 1), old_epoch)


def test_killed_consumer_leaves_a_full_ring_that_reset_empties() -> None:
    with pair_of(SMALL_RING_BYTES) as pair:
        peer, worker = pair.start("echo", 1 << 60), pair.worker()
        worker.send(b"\0" * 12)
        worker.flush()
        worker.receive()
        peer.kill()
        while worker.producer.try_write(bytes(100)):
            worker.producer.publish()
        pair.region.reset_rings(0)
        assert worker.producer.is_stale
        assert not worker.producer.try_write(b"")
        fresh = pair.worker()
        assert fresh.producer.try_write(bytes(fresh.producer.frame_max))
        assert fresh.producer.stats()["used_bytes"] == SMALL_RING_BYTES // 4


def test_nothing_is_left_when_the_creator_is_gone() -> None:
    """The memfd has no name: when the last descriptor is closed, so is the memory."""
    before = set(os.listdir("/dev/shm"))
    with pair_of(SMALL_RING_BYTES) as pair:
        peer = pair.start("produce", 1 << 60)
        maps = Path(f"/proc/{peer.process.pid}/maps")
        wait_until(lambda: "/memfd:midge" in maps.read_text(), "the peer to map the region")
        assert set(os.listdir("/dev/shm")) == before
    assert "/memfd:midge" not in Path("/proc/self/maps").read_text()
