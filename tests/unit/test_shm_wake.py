"""Wake words and doorbells: who is told to ring, once, and when a worker may sleep."""

import fcntl
import os
import select
import threading
from collections.abc import Iterator

import pytest
from support.ring_model import ring_memory

from shm.doorbell import Doorbell
from shm.region import Region
from shm.ring import RingConsumer, RingProducer
from shm.wake import WakeWords

WAIT_MS = 10_000


@pytest.fixture
def region() -> Iterator[Region]:
    made = Region.create(2, 1 << 12, 1 << 12)
    yield made
    made.close()


@pytest.fixture
def words(region: Region) -> WakeWords:
    return WakeWords(region.wake_address(0), region)


@pytest.fixture
def bell() -> Iterator[Doorbell]:
    made = Doorbell.create()
    yield made
    made.close()


def is_rung(bell: Doorbell, timeout_ms: int = 0) -> bool:
    poller = select.poll()
    poller.register(bell, select.POLLIN)
    return bool(poller.poll(timeout_ms))


def test_busy_worker_needs_no_ring(words: WakeWords) -> None:
    assert not words.needs_ring()


def test_one_caller_is_told_to_wake_a_sleeper(words: WakeWords) -> None:
    words.prepare_sleep()
    assert words.needs_ring()
    assert not words.needs_ring()


def test_worker_that_found_work_needs_no_ring(words: WakeWords) -> None:
    words.prepare_sleep()
    words.cancel_sleep()
    assert not words.needs_ring()


def test_announced_control_is_taken_once(words: WakeWords) -> None:
    assert not words.take_control()
    words.announce_control()
    words.announce_control()
    assert words.take_control()
    assert not words.take_control()


def test_words_of_workers_are_apart(region: Region, words: WakeWords) -> None:
    other = WakeWords(region.wake_address(1), region)
    words.prepare_sleep()
    words.announce_control()
    assert not other.needs_ring()
    assert not other.take_control()


def test_sleeping_and_control_lie_as_drawn(region: Region, words: WakeWords) -> None:
    words.prepare_sleep()
    assert os.pread(region.fd, 8, 4096) == b"\1\0\0\0\0\0\0\0"
    words.announce_control()
    words.cancel_sleep()
    assert os.pread(region.fd, 8, 4096) == b"\0\0\0\0\1\0\0\0"


def test_doorbell_is_readable_from_ring_to_clear(bell: Doorbell) -> None:
    assert not is_rung(bell)
    assert not bell.clear()
    bell.ring()
    bell.ring()
    assert is_rung(bell)
    assert bell.clear()
    assert not is_rung(bell)
    assert not bell.clear()


def test_doorbell_is_not_inherited_and_closes_once() -> None:
    bell = Doorbell.create()
    assert fcntl.fcntl(bell.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    fd = bell.fd
    bell.close()
    bell.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_doorbell_rung_in_a_copy_is_heard_in_the_original(bell: Doorbell) -> None:
    copy = Doorbell(os.dup(bell.fd))
    copy.ring()
    assert is_rung(bell)
    copy.close()
    assert bell.clear()


def test_sleeper_of_another_thread_misses_no_frame(words: WakeWords, bell: Doorbell) -> None:
    """The sleeper blocks whenever the ring is empty; a missed wake-up is a poll that times out."""
    count = 5_000
    received: list[int] = []

    def consume(consumer: RingConsumer) -> None:
        while len(received) < count:
            while (body := consumer.read()) is not None:
                received.append(int.from_bytes(body, "little"))
            consumer.release()
            if consumer.poll():
                continue
            words.prepare_sleep()
            if consumer.poll():
                words.cancel_sleep()
            elif len(received) < count:
                assert is_rung(bell, WAIT_MS)
                bell.clear()

    with ring_memory(1 << 20) as ring:
        consumer = RingConsumer(ring.address, 1)
        thread = threading.Thread(target=consume, args=(consumer,))
        thread.start()
        producer = RingProducer(ring.address, 1)
        for number in range(count):
            assert producer.try_write(number.to_bytes(8, "little"))
            producer.publish()
            if words.needs_ring():
                bell.ring()
        thread.join(WAIT_MS / 1000)
        assert received == list(range(count))
