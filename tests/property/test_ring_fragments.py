"""Bodies of any size come out of a ring whole and in order, whatever the schedule of its two ends."""

import random
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from support.ring_model import ring_memory

from shm.fragment import FragmentReader, FragmentWriter
from shm.ring import RingConsumer, RingProducer


class Sender:
    """The producer as a worker does it: small bodies whole, larger ones in fragments, strictly in order."""

    def __init__(self, producer: RingProducer, bodies: list[bytes]) -> None:
        self.producer = producer
        self.writer = FragmentWriter(producer)
        self.waiting = deque(bodies)

    def step(self) -> None:
        """Write what fits of one body."""
        if self.writer.is_active:
            self.writer.push()
        elif self.waiting and len(self.waiting[0]) > self.producer.frame_max:
            self.writer.start(self.waiting.popleft())
            self.writer.push()
        elif self.waiting and self.producer.try_write(self.waiting[0]):
            self.waiting.popleft()


@settings(max_examples=200, deadline=None)
@given(
    capacity=st.sampled_from([64, 128, 512, 4096]),
    lengths=st.lists(st.integers(0, 3000), max_size=12),
    seed=st.integers(0, 2**32),
)
def test_bodies_of_any_size_arrive_whole_and_in_order(capacity: int, lengths: list[int], seed: int) -> None:
    rng = random.Random(seed)
    bodies = [rng.randbytes(length) for length in lengths]
    received = []
    with ring_memory(capacity) as ring:
        producer, consumer = RingProducer(ring.address, 1), RingConsumer(ring.address, 1)
        sender, reader = Sender(producer, bodies), FragmentReader(consumer, length_max=3000)
        steps = [sender.step, producer.publish, consumer.poll, consumer.release]
        while len(received) < len(bodies):
            rng.choice(steps)()
            if rng.random() < 0.5 and (body := reader.read()) is not None:
                received.append(body)
        producer.detach()
        consumer.detach()
    assert received == bodies
    assert not sender.writer.is_active
    assert not reader.is_open
