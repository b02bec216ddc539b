"""One ring, call by call, with frames built by hand from the drawing in shm/layout.h."""

from collections.abc import Iterator

import pytest
from support.ring_model import RingMemory, frame_header, ring_memory

from shm import layout
from shm.errors import RingCorrupt, StaleEpoch
from shm.ring import RingConsumer, RingProducer, live_count

DATA, PADDING = 1, 2
CAPACITY = 256
FRAME_MAX = 56


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


def fill(producer: RingProducer, body: bytes = bytes(FRAME_MAX)) -> int:
    """Write and publish until the ring is full; return the number of frames."""
    count = 0
    while producer.try_write(body):
        count += 1
    producer.publish()
    return count


def drain(consumer: RingConsumer) -> list[bytes]:
    """Read all that is published and give back the space."""
    consumer.poll()
    frames = list(iter(consumer.read, None))
    consumer.release()
    return frames


def test_frames_lie_in_memory_as_drawn(ring: RingMemory, producer: RingProducer) -> None:
    assert producer.try_write(b"hello")
    assert producer.try_write(b"12345678")
    assert producer.publish()
    expected = frame_header(5, DATA) + b"hello\0\0\0" + frame_header(8, DATA) + b"12345678"
    assert ring.frames(0, 32) == expected
    assert ring.word(ring.TAIL_OFFSET) == 32


def test_frames_written_by_hand_are_read(ring: RingMemory, consumer: RingConsumer) -> None:
    ring.set_frames(0, frame_header(3, DATA) + b"abc\xff\xff\xff\xff\xff" + frame_header(0, DATA))
    ring.set_word(ring.TAIL_OFFSET, 24)
    assert consumer.poll() == 24
    assert [consumer.read(), consumer.read(), consumer.read()] == [b"abc", b"", None]
    assert not consumer.release()
    assert ring.word(ring.HEAD_OFFSET) == 24


def test_nothing_is_visible_before_publish(producer: RingProducer, consumer: RingConsumer) -> None:
    assert producer.try_write(b"one")
    assert producer.try_write(b"two")
    assert consumer.poll() == 0
    assert consumer.read() is None
    assert producer.publish()
    assert not producer.publish()
    assert consumer.read() is None, "only poll looks at the tail"
    assert drain(consumer) == [b"one", b"two"]


def test_claim_without_commit_leaves_no_trace(producer: RingProducer, consumer: RingConsumer) -> None:
    assert producer.claim(40)
    assert not producer.publish()
    assert producer.try_write(b"instead")
    assert producer.publish()
    assert drain(consumer) == [b"instead"]


def test_frame_that_would_cross_the_end_starts_over_after_padding(
    ring: RingMemory, producer: RingProducer, consumer: RingConsumer
) -> None:
    for _ in range(7):
        assert producer.try_write(bytes(24))
    producer.publish()
    assert len(drain(consumer)) == 7
    assert producer.try_write(b"w" * 40)
    producer.publish()
    assert ring.frames(224, 8) == frame_header(24, PADDING)
    assert ring.frames(0, 48) == frame_header(40, DATA) + b"w" * 40
    assert drain(consumer) == [b"w" * 40]
    assert ring.word(ring.HEAD_OFFSET) == CAPACITY + 48


def test_frame_that_ends_at_the_end_needs_no_padding(ring: RingMemory, producer: RingProducer) -> None:
    for _ in range(4):
        assert producer.try_write(bytes(FRAME_MAX))
    producer.publish()
    assert ring.word(ring.TAIL_OFFSET) == CAPACITY
    assert ring.frames(192, 8) == frame_header(FRAME_MAX, DATA)


def test_full_ring_refuses_without_side_effect(
    ring: RingMemory, producer: RingProducer, consumer: RingConsumer
) -> None:
    assert fill(producer) == 4
    before = ring.memory[:]
    assert not producer.try_write(b"")
    assert not producer.publish()
    assert ring.memory[:] == before
    assert len(drain(consumer)) == 4
    assert fill(producer) == 4


def test_space_is_given_back_at_release_and_not_at_read(
    producer: RingProducer, consumer: RingConsumer
) -> None:
    fill(producer)
    consumer.poll()
    assert consumer.read() is not None
    assert not producer.try_write(b"x")
    consumer.release()
    assert producer.try_write(b"x")


def test_longest_frame_fits_an_empty_ring_at_every_place(
    producer: RingProducer, consumer: RingConsumer
) -> None:
    assert producer.frame_max == FRAME_MAX
    for _ in range(CAPACITY // 8):
        assert producer.try_write(bytes(FRAME_MAX))
        producer.publish()
        assert drain(consumer) == [bytes(FRAME_MAX)]
        assert producer.try_write(b"")
        producer.publish()
        assert drain(consumer) == [b""]


def test_frame_longer_than_a_quarter_is_never_taken(producer: RingProducer) -> None:
    assert not producer.try_write(bytes(FRAME_MAX + 1))
    assert not producer.claim(0xFFFFFFFF)


def test_release_reports_a_waiting_producer_once(
    ring: RingMemory, producer: RingProducer, consumer: RingConsumer
) -> None:
    fill(producer)
    producer.want_space()
    assert ring.word(ring.WAITING_OFFSET) == 1
    consumer.poll()
    assert not consumer.release(), "nothing read, nothing freed"
    consumer.read()
    assert consumer.release()
    assert ring.word(ring.WAITING_OFFSET) == 0
    consumer.read()
    assert not consumer.release()


def test_positions_go_on_growing_past_32_bits(ring: RingMemory) -> None:
    start = (1 << 40) + 248
    ring.set_word(ring.TAIL_OFFSET, start)
    ring.set_word(ring.HEAD_OFFSET, start)
    producer, consumer = RingProducer(ring.address, 1), RingConsumer(ring.address, 1)
    assert producer.try_write(b"beyond")
    producer.publish()
    assert drain(consumer) == [b"beyond"]
    assert consumer.stats()["released"] == start + 8 + 16


def test_new_attachment_goes_on_where_the_last_one_was(ring: RingMemory, producer: RingProducer) -> None:
    producer.try_write(b"published")
    producer.publish()
    producer.try_write(b"lost with its producer")
    successor = RingProducer(ring.address, 1)
    successor.try_write(b"next")
    successor.publish()
    assert drain(RingConsumer(ring.address, 1)) == [b"published", b"next"]


def test_attach_refuses_another_epoch(ring: RingMemory) -> None:
    for epoch in (0, 2):
        with pytest.raises(StaleEpoch):
            RingProducer(ring.address, epoch)
        with pytest.raises(StaleEpoch):
            RingConsumer(ring.address, epoch)


@pytest.mark.parametrize(
    ("offset", "value"), [(0, 0), (8, 100), (8, 32), (128, 4), (128, CAPACITY + 8), (256, 8)]
)
def test_attach_refuses_memory_that_is_no_ring(ring: RingMemory, offset: int, value: int) -> None:
    """Magic, capacity, tail and head in turn hold what no ring has."""
    ring.set_word(offset, value)
    with pytest.raises(StaleEpoch):
        RingProducer(ring.address, 1)
    with pytest.raises(StaleEpoch):
        RingConsumer(ring.address, 1)


def test_reset_refuses_both_old_ends(
    ring: RingMemory, producer: RingProducer, consumer: RingConsumer
) -> None:
    producer.try_write(b"seen")
    producer.try_write(b"unread")
    producer.publish()
    producer.try_write(b"committed")
    consumer.poll()
    consumer.read()
    assert layout.reset_ring(ring.address) == 2
    assert producer.is_stale
    assert consumer.is_stale
    assert not producer.try_write(b"stale")
    assert not producer.publish()
    producer.want_space()
    assert consumer.poll() == 0
    assert not consumer.release()
    assert [ring.word(offset) for offset in (ring.TAIL_OFFSET, ring.HEAD_OFFSET, ring.WAITING_OFFSET)] == [
        0,
        0,
        0,
    ]
    fresh = RingProducer(ring.address, 2)
    fresh.try_write(b"fresh")
    fresh.publish()
    assert consumer.poll() == 0
    assert drain(RingConsumer(ring.address, 2)) == [b"fresh"]


def test_epoch_wraps_around_zero(ring: RingMemory) -> None:
    layout.initialize_ring(ring.address, CAPACITY, 0xFFFFFFFF)
    assert layout.reset_ring(ring.address) == 1


def test_detached_ends_answer_with_nothing(producer: RingProducer, consumer: RingConsumer) -> None:
    producer.detach()
    consumer.detach()
    assert producer.is_stale
    assert consumer.is_stale
    assert not producer.try_write(b"")
    assert not producer.claim(0)
    assert not producer.publish()
    producer.want_space()
    assert producer.frame_max == 0
    assert consumer.poll() == 0
    assert consumer.read() is None
    assert not consumer.release()


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(frame_header(CAPACITY, DATA), id="length past the tail"),
        pytest.param(frame_header(0xFFFFFFFF, DATA), id="length that overflows when rounded"),
        pytest.param(frame_header(FRAME_MAX + 1, DATA), id="length above frame_max"),
        pytest.param(frame_header(8, 0), id="kind 0"),
        pytest.param(frame_header(8, 6), id="unknown kind"),
        pytest.param(frame_header(8, PADDING), id="padding that does not reach the end"),
        pytest.param(frame_header(8, DATA, version=2), id="another version"),
        pytest.param(frame_header(8, DATA, epoch=2), id="a frame of another epoch"),
        pytest.param(bytes(8), id="never written"),
    ],
)
def test_corrupt_frame_stops_the_reader(ring: RingMemory, consumer: RingConsumer, header: bytes) -> None:
    ring.set_frames(0, frame_header(8, DATA) + b"good one" + header)
    ring.set_word(ring.TAIL_OFFSET, 16 + 80)
    consumer.poll()
    assert consumer.read() == b"good one"
    for _ in range(2):
        with pytest.raises(RingCorrupt):
            consumer.read()
        with pytest.raises(RingCorrupt):
            consumer.poll()
    assert consumer.is_corrupt
    consumer.detach()
    assert not consumer.is_corrupt


@pytest.mark.parametrize("tail", [12, CAPACITY + 8, (1 << 64) - 1, 8])
def test_impossible_tail_stops_the_reader(ring: RingMemory, tail: int) -> None:
    """Not a multiple of 8, more than the ring holds, and one that went back."""
    producer, consumer = RingProducer(ring.address, 1), RingConsumer(ring.address, 1)
    producer.try_write(b"0123456789")
    producer.publish()
    consumer.poll()
    ring.set_word(ring.TAIL_OFFSET, tail)
    with pytest.raises(RingCorrupt):
        consumer.poll()


@pytest.mark.parametrize("head", [CAPACITY + 64, (1 << 64) - 8])
def test_impossible_head_stops_the_writer(ring: RingMemory, producer: RingProducer, head: int) -> None:
    fill(producer)
    assert not producer.is_corrupt
    ring.set_word(ring.HEAD_OFFSET, head)
    assert not producer.try_write(b"x")
    assert producer.is_corrupt


@pytest.mark.parametrize("capacity", [0, 32, 63, 100, 1 << 31])
def test_capacity_is_a_power_of_two_in_range(ring: RingMemory, capacity: int) -> None:
    with pytest.raises(ValueError, match=f"ring of {capacity} bytes"):
        layout.initialize_ring(ring.address, capacity)


def test_stats_tell_positions_and_counts(producer: RingProducer, consumer: RingConsumer) -> None:
    producer.try_write(b"x")
    assert producer.stats() == {
        "capacity": CAPACITY,
        "epoch": 1,
        "tail": 16,
        "published": 0,
        "used_bytes": 16,
        "frames_written": 1,
    }
    assert consumer.stats() == {
        "capacity": CAPACITY,
        "epoch": 1,
        "head": 0,
        "released": 0,
        "frames_read": 0,
    }


def test_no_object_is_left_and_owners_are_let_go(ring: RingMemory) -> None:
    before = live_count()
    owner = object()
    producer = RingProducer(ring.address, 1, owner)
    consumer = RingConsumer(ring.address, 1, owner)
    assert live_count() == (before[0] + 1, before[1] + 1)
    assert producer.owner is owner
    producer.detach()
    assert producer.owner is None
    del producer, consumer
    assert live_count() == before
