"""A ring answers every call as the deque model does, in any order, at tiny capacities where it wraps."""

from contextlib import ExitStack

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.ring_model import RingModel, ring_memory

from shm import layout
from shm.ring import RingConsumer, RingProducer


class RingMachine(RuleBasedStateMachine):
    """Runs the ring and its model side by side."""

    @initialize(
        capacity=st.sampled_from([64, 128, 256, 1024]), epoch=st.sampled_from([1, 0xFFFF, 0xFFFFFFFF])
    )
    def create(self, capacity: int, epoch: int) -> None:
        """Begin with an empty ring; the last epochs make the frame's and the header's epoch wrap."""
        self.stack = ExitStack()
        self.ring = self.stack.enter_context(ring_memory(capacity, epoch))
        self.epoch = epoch
        self.model = RingModel(capacity)
        self.written = 0
        self.attach()

    def attach(self) -> None:
        self.producer = RingProducer(self.ring.address, self.epoch)
        self.consumer = RingConsumer(self.ring.address, self.epoch)

    def body(self, length: int) -> bytes:
        """Return bytes that no earlier frame had."""
        self.written += 1
        return (self.written.to_bytes(8, "little") * (length // 8 + 1))[:length]

    @rule(length=st.integers(0, 300))
    def write(self, length: int) -> None:
        body = self.body(length)
        assert self.producer.try_write(body) == self.model.try_write(body)

    @rule(part=st.floats(0, 1))
    def write_one_that_is_allowed(self, part: float) -> None:
        body = self.body(int(part * self.model.frame_max))
        assert self.producer.try_write(body) == self.model.try_write(body)

    @rule(length=st.integers(0, 300))
    def claim_without_commit(self, length: int) -> None:
        """Nothing is changed for the consumer, nor for the next write."""
        self.producer.claim(length)

    @rule()
    def publish(self) -> None:
        assert self.producer.publish() == self.model.publish()

    @rule()
    def poll(self) -> None:
        assert self.consumer.poll() == self.model.poll()

    @rule()
    def read(self) -> None:
        assert self.consumer.read() == self.model.read()

    @rule()
    def read_all(self) -> None:
        while (body := self.model.read()) is not None:
            assert self.consumer.read() == body
        assert self.consumer.read() is None

    @rule()
    def release(self) -> None:
        assert self.consumer.release() == self.model.release()

    @rule()
    def want_space(self) -> None:
        self.producer.want_space()
        self.model.is_waiting = True

    @rule()
    def replace_producer(self) -> None:
        """A new attachment of the same epoch goes on where the last one published."""
        self.producer = RingProducer(self.ring.address, self.epoch)
        self.model.forget_unpublished()

    @precondition(lambda self: self.model.head == self.model.released)
    @rule()
    def replace_consumer(self) -> None:
        """A new attachment of the same epoch goes on where the last one released."""
        self.consumer = RingConsumer(self.ring.address, self.epoch)
        self.model.forget_unreleased()

    @rule()
    def reset(self) -> None:
        """Both ends of the old epoch are refused, new ones find an empty ring."""
        self.epoch = layout.reset_ring(self.ring.address)
        self.model.reset()
        assert not self.producer.try_write(b"stale")
        assert not self.producer.publish()
        assert self.consumer.poll() == 0
        assert not self.consumer.release()
        self.attach()

    @invariant()
    def shared_positions_are_the_models(self) -> None:
        if hasattr(self, "ring"):
            assert self.ring.word(self.ring.TAIL_OFFSET) == self.model.published
            assert self.ring.word(self.ring.HEAD_OFFSET) == self.model.released

    def teardown(self) -> None:
        if hasattr(self, "ring"):
            self.producer.detach()
            self.consumer.detach()
            self.stack.close()


RingMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
test_ring_answers_as_its_model = RingMachine.TestCase
