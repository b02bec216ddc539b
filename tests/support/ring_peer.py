"""The other end of rings, as a process of its own: run as a program it plays worker 0 to a test's worker 1.

Both sides follow the protocols of shm/wake.h and ring_want_space to the letter and block when there is
nothing to do, so a lost wake-up shows as a timeout. Bodies carry their number and a checksum.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from shm.doorbell import Doorbell
from shm.fragment import FragmentReader, FragmentWriter
from shm.region import Region
from shm.ring import RingConsumer, RingProducer
from shm.wake import WakeWords

ROOT = Path(__file__).parents[2]
BODY_MAX = 20_000
WAIT_MS = 20_000


def bodies(seed: int, start: int = 0) -> Iterator[bytes]:
    """Yield checked bodies without end, mostly small, some larger than a frame of a small ring."""
    rng = random.Random(seed)
    number = start
    while True:
        payload = rng.randbytes(rng.choice((0, 1, 8, 16, 50, 100, 300, 1000, 3000, BODY_MAX - 12)))
        yield number.to_bytes(8, "little") + zlib.crc32(payload).to_bytes(4, "little") + payload
        number += 1


def check_body(body: bytes, number: int) -> None:
    """Assert that a body is the one of this number, unharmed."""
    assert int.from_bytes(body[:8], "little") == number
    assert int.from_bytes(body[8:12], "little") == zlib.crc32(body[12:])


class Worker:
    """One worker's share of a region: its rings to and from the peer, and how to sleep and wake."""

    def __init__(self, region: Region, index: int, bells: list[Doorbell], epoch: int) -> None:
        peer = 1 - index
        self.bell, self.peer_bell = bells[index], bells[peer]
        self.words = WakeWords(region.wake_address(index), region)
        self.peer_words = WakeWords(region.wake_address(peer), region)
        self.producer = RingProducer(region.data_ring_address(index, peer), epoch, region)
        self.consumer = RingConsumer(region.data_ring_address(peer, index), epoch, region)
        self.writer = FragmentWriter(self.producer)
        self.reader = FragmentReader(self.consumer, BODY_MAX)
        self.sleeps = 0
        self._poller = select.poll()
        self._poller.register(self.bell.fd, select.POLLIN)

    def wake_peer(self) -> None:
        """Ring the peer's doorbell if it sleeps."""
        if self.peer_words.needs_ring():
            self.peer_bell.ring()

    def block(self) -> None:
        """Sleep until the doorbell rings; prepare_sleep was called and the second look found nothing."""
        self.sleeps += 1
        assert self._poller.poll(WAIT_MS), "no wake-up came"
        self.bell.clear()
        self.words.cancel_sleep()

    def send(self, body: bytes) -> None:
        """Write a body, waiting for space when there is none; it is not yet published."""
        if len(body) <= self.producer.frame_max:
            self._until_written(lambda: self.producer.try_write(body))
        else:
            self.writer.start(body)
            self._until_written(self.writer.push)

    def _until_written(self, write: Callable[[], bool]) -> None:
        while not write():
            self.flush()
            self.words.prepare_sleep()
            self.producer.want_space()
            if write():
                self.words.cancel_sleep()
                return
            self.flush()
            self.block()

    def flush(self) -> None:
        """Publish, and wake the peer when something new became visible."""
        if self.producer.publish():
            self.wake_peer()

    def receive(self) -> bytes:
        """Return the next body, waiting for it."""
        while (body := self.reader.read()) is None:
            if self.consumer.release():
                self.wake_peer()
            if self.consumer.poll():
                continue
            self.words.prepare_sleep()
            if self.consumer.poll():
                self.words.cancel_sleep()
            else:
                self.block()
        return body


class Peer:
    """A child process that plays worker 0; stop() kills it."""

    def __init__(
        self, role: str, region: Region, bells: list[Doorbell], epoch: int, count: int, seed: int
    ) -> None:
        """Start it; role is a key of ROLES, count the number of bodies."""
        fds = [region.fd, *(bell.fd for bell in bells)]
        arguments = [role, *map(str, (*fds, epoch, count, seed))]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            pass_fds=fds,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))},
        )

    def wait(self) -> int:
        """Return the exit status once it ended by itself."""
        return self.process.wait(WAIT_MS / 1000)

    def kill(self) -> None:
        """End it with SIGKILL and reap it; nothing when it has ended."""
        self.process.kill()
        self.process.wait()


def produce(worker: Worker, count: int, seed: int) -> None:
    """Send bodies, published in batches of random size."""
    rng = random.Random(seed)
    for _, body in zip(range(count), bodies(seed), strict=False):
        worker.send(body)
        if rng.random() < 0.1:
            worker.flush()
    worker.flush()


def echo(worker: Worker, count: int, seed: int) -> None:
    """Send back each body when it came."""
    for _ in range(count):
        worker.send(worker.receive())
        worker.flush()


ROLES = {"produce": produce, "echo": echo}


def main() -> None:
    """Play a role over the descriptors named on the command line."""
    role, (fd, bell, peer_bell, epoch, count, seed) = sys.argv[1], map(int, sys.argv[2:])
    region = Region.attach(fd)
    ROLES[role](Worker(region, 0, [Doorbell(bell), Doorbell(peer_bell)], epoch), count, seed)


if __name__ == "__main__":
    main()
