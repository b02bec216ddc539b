"""Bodies larger than a frame: how they are cut, put together, refused and dropped."""

from collections.abc import Iterator

import pytest
from support.ring_model import RingMemory, frame_header, ring_memory

from shm import layout
from shm.errors import FragmentError, RingCorrupt
from shm.fragment import FragmentReader, FragmentWriter
from shm.ring import RingConsumer, RingProducer

FIRST, MIDDLE, LAST = 3, 4, 5
CAPACITY = 512
KEEP_BYTES = 2 << 20


@pytest.fixture
def ring() -> Iterator[RingMemory]:
    with ring_memory(CAPACITY) as memory:
        yield memory


@pytest.fixture
def producer(ring: RingMemory) -> RingProducer:
    return RingProducer(ring.address, 1)


@pytest.fixture
def consumer(ring: RingMemory) -> RingConsumer:
    return RingConsumer(ring.address, 1)


def length_bytes(length: int) -> bytes:
    return length.to_bytes(8, "little")


class Channel:
    """Both ends of a ring that carries bodies of any size."""

    def __init__(self, ring: RingMemory, length_max: int) -> None:
        self.producer, self.consumer = RingProducer(ring.address, 1), RingConsumer(ring.address, 1)
        self.writer, self.reader = FragmentWriter(self.producer), FragmentReader(self.consumer, length_max)

    def carry(self, body: bytes) -> bytes:
        """Send a body, giving the two ends turns, and return what arrived."""
        self.writer.start(body)
        while True:
            self.writer.push()
            self.producer.publish()
            self.consumer.poll()
            received = self.reader.read()
            self.consumer.release()
            if received is not None:
                return received


def put(ring: RingMemory, *fragments: tuple[int, bytes]) -> None:
    """Lay frames of the given kinds into an empty ring by hand."""
    raw = b"".join(frame_header(len(body), kind) + body + bytes(-len(body) % 8) for kind, body in fragments)
    ring.set_frames(0, raw)
    ring.set_word(ring.TAIL_OFFSET, len(raw))


def test_body_is_cut_as_drawn(ring: RingMemory, producer: RingProducer) -> None:
    """A fragment is half a frame: 60 bytes here, 8 of the first for the length."""
    writer = FragmentWriter(producer)
    body = bytes(range(150))
    writer.start(body)
    assert writer.fragment_max == 60
    assert writer.push()
    assert not writer.is_active
    assert producer.publish()
    assert ring.frames(0, 8) == frame_header(60, FIRST)
    assert ring.frames(8, 60) == length_bytes(150) + body[:52]
    assert ring.frames(72, 68) == frame_header(60, MIDDLE) + body[52:112]
    assert ring.frames(144, 46) == frame_header(38, LAST) + body[112:]


def test_fragments_laid_by_hand_are_put_together(ring: RingMemory, consumer: RingConsumer) -> None:
    put(
        ring,
        (FIRST, length_bytes(11) + b"large"),
        (MIDDLE, b""),
        (MIDDLE, b" "),
        (LAST, b"whole"),
        (1, b"next"),
    )
    reader = FragmentReader(consumer, 11)
    consumer.poll()
    assert [reader.read(), reader.read(), reader.read()] == [b"large whole", b"next", None]


@pytest.mark.parametrize("length", [0, 1, 51, 52, 53, 112, 113, 5000])
def test_any_length_goes_through(ring: RingMemory, length: int) -> None:
    body = bytes(index % 251 for index in range(length))
    assert Channel(ring, 5000).carry(body) == body


def test_ring_of_the_least_capacity_carries_large_bodies() -> None:
    with ring_memory(64) as ring:
        channel = Channel(ring, 1000)
        assert channel.carry(bytes(1000)) == bytes(1000)
        channel.producer.detach()
        channel.consumer.detach()


def test_full_ring_leaves_the_writer_where_it_was(producer: RingProducer, consumer: RingConsumer) -> None:
    writer = FragmentWriter(producer)
    writer.start(bytes(2000))
    assert not writer.push()
    assert not writer.push()
    assert writer.is_active
    with pytest.raises(FragmentError):
        writer.start(b"another")


def test_longer_body_than_allowed_is_refused_before_memory_is_taken(
    ring: RingMemory, consumer: RingConsumer
) -> None:
    put(ring, (FIRST, length_bytes(1 << 62)))
    reader = FragmentReader(consumer, 1 << 20)
    consumer.poll()
    with pytest.raises(FragmentError):
        reader.read()
    assert reader.buffer_bytes == 0


def test_lack_of_memory_is_told(ring: RingMemory, consumer: RingConsumer) -> None:
    put(ring, (FIRST, length_bytes(1 << 62)))
    reader = FragmentReader(consumer, 1 << 63)
    consumer.poll()
    with pytest.raises(MemoryError):
        reader.read()
    reader.reset()
    assert reader.buffer_bytes == 0


@pytest.mark.parametrize(
    "fragments",
    [
        pytest.param([(MIDDLE, b"x")], id="middle without first"),
        pytest.param([(LAST, b"x")], id="last without first"),
        pytest.param([(FIRST, b"1234567")], id="first without a length"),
        pytest.param([(FIRST, length_bytes(4) + b"12345")], id="first longer than the body"),
        pytest.param([(FIRST, length_bytes(4)), (FIRST, length_bytes(4))], id="two firsts"),
        pytest.param([(FIRST, length_bytes(4)), (MIDDLE, b"12345")], id="more than announced"),
        pytest.param([(FIRST, length_bytes(4)), (LAST, b"123")], id="less than announced"),
    ],
)
def test_fragments_that_no_writer_sends_are_refused(
    ring: RingMemory, consumer: RingConsumer, fragments: list[tuple[int, bytes]]
) -> None:
    put(ring, *fragments)
    reader = FragmentReader(consumer, 100)
    consumer.poll()
    with pytest.raises(FragmentError):
        reader.read()


def test_corrupt_frame_between_fragments_is_told(ring: RingMemory, consumer: RingConsumer) -> None:
    put(ring, (FIRST, length_bytes(4)), (9, b""))
    reader = FragmentReader(consumer, 100)
    consumer.poll()
    with pytest.raises(RingCorrupt):
        reader.read()


def test_reset_drops_half_a_body_on_both_sides(ring: RingMemory) -> None:
    channel = Channel(ring, 2000)
    channel.writer.start(bytes(2000))
    channel.writer.push()
    channel.producer.publish()
    channel.consumer.poll()
    assert channel.reader.read() is None
    assert channel.reader.is_open
    layout.reset_ring(ring.address)
    assert not channel.writer.push()
    channel.writer.reset()
    channel.reader.reset()
    assert not channel.writer.is_active
    assert not channel.reader.is_open
    assert channel.reader.buffer_bytes == 0


def test_ordinary_buffer_is_kept_and_a_huge_one_given_back() -> None:
    with ring_memory(1 << 16) as ring:
        channel = Channel(ring, KEEP_BYTES + 1)
        channel.carry(bytes(100_000))
        assert channel.reader.buffer_bytes == 100_000
        channel.carry(bytes(50_000))
        assert channel.reader.buffer_bytes == 100_000
        channel.carry(bytes(KEEP_BYTES + 1))
        assert channel.reader.buffer_bytes == 0
        channel.producer.detach()
        channel.consumer.detach()
