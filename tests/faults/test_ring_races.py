"""Two threads race through the sleep protocols hundreds of thousands of times: no wake-up may be lost.

Without one of the four fences of shm/wake.h and shm/ring.h, some rounds end with one side asleep and the
other one believing that it is awake.
"""

import mmap
from concurrent.futures import ThreadPoolExecutor

from support.ring_model import ring_memory

from loadtest.micro import ring_loops
from shm import layout
from shm.region import Region
from shm.ring import RingConsumer, RingProducer
from shm.wake import WakeWords

ROUNDS = 300_000


def test_whoever_blocks_is_rung() -> None:
    region, meeting = Region.create(2), mmap.mmap(-1, 4096)
    words, at = WakeWords(region.wake_address(1)), layout.address_of(meeting)
    producer = RingProducer(region.data_ring_address(0, 1), 1)
    consumer = RingConsumer(region.data_ring_address(0, 1), 1)
    with ThreadPoolExecutor(1) as other:
        rung = other.submit(ring_loops.race_waker, at, words, producer, ROUNDS)
        blocked = ring_loops.race_sleeper(at, words, consumer, ROUNDS)
    missed = sum(was_blocked > was_rung for was_blocked, was_rung in zip(blocked, rung.result(), strict=True))
    assert missed == 0
    meeting.close()
    region.close()


def test_writer_that_waits_is_reported_by_the_release() -> None:
    meeting = mmap.mmap(-1, 4096)
    at = layout.address_of(meeting)
    with ring_memory(64) as ring, ThreadPoolExecutor(1) as other:
        asked = other.submit(ring_loops.race_releaser, at, RingConsumer(ring.address, 1), ROUNDS)
        waited = ring_loops.race_writer(at, RingProducer(ring.address, 1), ROUNDS)
        missed = sum(
            has_waited > was_asked for has_waited, was_asked in zip(waited, asked.result(), strict=True)
        )
    assert missed == 0
    meeting.close()
