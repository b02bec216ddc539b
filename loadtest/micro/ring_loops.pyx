# cython: language_level=3, embedsignature=True, wraparound=False
"""Loops over both ends of a ring at the speed of the data plane, which Python callers do not reach.

The first half measures (ring.py prints it), the second races two threads through the two places where a
missing fence would lose a wake-up. All run without the GIL and spin, yielding the core when nothing comes.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from shm.ring cimport (
    RingConsumer,
    RingProducer,
    ring_claim,
    ring_commit,
    ring_consumer_t,
    ring_next,
    ring_poll,
    ring_producer_t,
    ring_publish,
    ring_release,
    ring_want_space,
)
from shm.wake cimport WakeWords, wake_cancel_sleep, wake_needed, wake_prepare_sleep

cdef extern from "atomics.h" nogil:
    uint64_t atomic_load_acquire_u64(const uint64_t *word)
    void atomic_store_release_u64(uint64_t *word, uint64_t value)

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *now)
    const int CLOCK_MONOTONIC


cdef uint64_t now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1_000_000_000 + <uint64_t>now.tv_nsec


cdef void yield_at_times(uint32_t spins) noexcept nogil:
    """Give the core away every 4096 spins: the other end may need it."""
    if spins % 4096 == 4095:
        sched_yield()


# --- measuring ---

cdef void write_batch(ring_producer_t *producer, const uint8_t *body, uint32_t body_bytes,
                      uint64_t count) noexcept nogil:
    """Write `count` frames and publish, spinning while the ring is full."""
    cdef uint8_t *frame
    cdef uint32_t spins = 0
    while count:
        frame = ring_claim(producer, body_bytes)
        if frame is NULL:
            ring_publish(producer)
            yield_at_times(spins)
            spins += 1
            continue
        memcpy(frame, body, body_bytes)
        ring_commit(producer)
        count -= 1
    ring_publish(producer)


cdef uint64_t read_published(ring_consumer_t *consumer, uint8_t *copy) noexcept nogil:
    """Copy out all that is published and give the space back; return the number of frames."""
    cdef uint64_t frames = 0
    cdef uint32_t body_bytes = 0
    cdef const uint8_t *body
    ring_poll(consumer)
    while True:
        body = ring_next(consumer, &body_bytes)
        if body is NULL:
            break
        memcpy(copy, body, body_bytes)
        frames += 1
    ring_release(consumer)
    return frames


cdef void read_frames_until(ring_consumer_t *consumer, uint8_t *copy, uint64_t count) noexcept nogil:
    """Read `count` frames, spinning while there is none."""
    cdef uint64_t frames
    cdef uint32_t spins = 0
    while count:
        frames = read_published(consumer, copy)
        count -= frames
        if not frames:
            yield_at_times(spins)
            spins += 1


cdef uint8_t *frame_room(uint32_t frame_max) except NULL:
    """Return zeroed room for one frame, which the caller frees."""
    cdef uint8_t *room = <uint8_t *>calloc(1, frame_max)
    if room is NULL:
        raise MemoryError
    return room


def write_frames(RingProducer producer not None, uint32_t frame_bytes, uint64_t batches, uint64_t batch):
    """Write frames, one publish per batch; another thread or process reads them."""
    cdef uint8_t *body = frame_room(producer.c.frame_max)
    cdef uint64_t _
    with nogil:
        for _ in range(batches):
            write_batch(&producer.c, body, frame_bytes, batch)
    free(body)


def read_frames(RingConsumer consumer not None, uint64_t count):
    """Read frames that another thread or process writes."""
    cdef uint8_t *copy = frame_room(consumer.c.frame_max)
    with nogil:
        read_frames_until(&consumer.c, copy, count)
    free(copy)


def pass_frames(RingProducer producer not None, RingConsumer consumer not None, uint32_t frame_bytes,
                uint64_t batches, uint64_t batch):
    """Write a batch and read it, in turns; a batch fits the ring."""
    cdef uint8_t *body = frame_room(producer.c.frame_max)
    cdef uint64_t _
    with nogil:
        for _ in range(batches):
            write_batch(&producer.c, body, frame_bytes, batch)
            read_frames_until(&consumer.c, body, batch)
    free(body)


def bounce(RingProducer producer not None, RingConsumer consumer not None, uint64_t count):
    """Send 16 bytes and wait for their echo, `count` times; return each round trip in nanoseconds."""
    cdef uint8_t *body = frame_room(producer.c.frame_max)
    cdef uint64_t start
    trips = []
    for _number in range(count):
        with nogil:
            start = now_ns()
            write_batch(&producer.c, body, 16, 1)
            read_frames_until(&consumer.c, body, 1)
            start = now_ns() - start
        trips.append(start)
    free(body)
    return trips


def echo(RingProducer producer not None, RingConsumer consumer not None, uint64_t count):
    """Answer each frame of 16 bytes with one, `count` times."""
    cdef uint8_t *body = frame_room(producer.c.frame_max)
    cdef uint64_t _
    with nogil:
        for _ in range(count):
            read_frames_until(&consumer.c, body, 1)
            write_batch(&producer.c, body, 16, 1)
    free(body)


# --- races: each function runs in one of two threads, which meet before and after every round ---

cdef void meet(uint64_t *meeting, int side, uint64_t number) noexcept nogil:
    """Wait until both sides have come to meeting `number`; their words lie two cache lines apart."""
    cdef uint32_t spins = 0
    atomic_store_release_u64(meeting + 16 * side, number)
    while atomic_load_acquire_u64(meeting + 16 * (1 - side)) < number:
        yield_at_times(spins)
        spins += 1


def race_sleeper(uintptr_t meeting, WakeWords words not None, RingConsumer consumer not None,
                 uint64_t rounds):
    """Go to sleep in every round, as wake.h says; return a 1 for each round that would have blocked.

    meeting is the address of 256 zero bytes, shared with race_waker in another thread.
    """
    cdef uint8_t *copy = frame_room(consumer.c.frame_max)
    blocked = bytearray(rounds)
    cdef uint8_t[::1] blocked_view = blocked
    cdef uint64_t number
    with nogil:
        for number in range(rounds):
            meet(<uint64_t *>meeting, 0, 2 * number + 1)
            wake_prepare_sleep(words.words)
            blocked_view[number] = ring_poll(&consumer.c) == 0
            meet(<uint64_t *>meeting, 0, 2 * number + 2)
            read_published(&consumer.c, copy)
            wake_cancel_sleep(words.words)
    free(copy)
    return blocked


def race_waker(uintptr_t meeting, WakeWords words not None, RingProducer producer not None, uint64_t rounds):
    """Publish in every round; return a 1 for each round in which the doorbell had to be rung."""
    cdef uint8_t *body = frame_room(producer.c.frame_max)
    rung = bytearray(rounds)
    cdef uint8_t[::1] rung_view = rung
    cdef uint64_t number
    with nogil:
        for number in range(rounds):
            meet(<uint64_t *>meeting, 1, 2 * number + 1)
            write_batch(&producer.c, body, 0, 1)
            rung_view[number] = wake_needed(words.words) == 1
            meet(<uint64_t *>meeting, 1, 2 * number + 2)
    free(body)
    return rung


def race_writer(uintptr_t meeting, RingProducer producer not None, uint64_t rounds):
    """Ask a full ring for space in every round; return a 1 for each round that had to wait for it."""
    cdef uint32_t frame_max = producer.c.frame_max
    waited = bytearray(rounds)
    cdef uint8_t[::1] waited_view = waited
    cdef uint64_t number
    with nogil:
        for number in range(rounds):
            while ring_claim(&producer.c, frame_max) is not NULL:
                ring_commit(&producer.c)
            ring_publish(&producer.c)
            meet(<uint64_t *>meeting, 0, 2 * number + 1)
            ring_want_space(&producer.c)
            waited_view[number] = ring_claim(&producer.c, frame_max) is NULL
            meet(<uint64_t *>meeting, 0, 2 * number + 2)
    return waited


def race_releaser(uintptr_t meeting, RingConsumer consumer not None, uint64_t rounds):
    """Release a full ring in every round; return a 1 for each round in which the writer was waiting."""
    asked = bytearray(rounds)
    cdef uint8_t[::1] asked_view = asked
    cdef uint32_t body_bytes = 0
    cdef uint64_t number
    with nogil:
        for number in range(rounds):
            meet(<uint64_t *>meeting, 1, 2 * number + 1)
            ring_poll(&consumer.c)
            while ring_next(&consumer.c, &body_bytes) is not NULL:
                pass
            asked_view[number] = ring_release(&consumer.c) == 1
            meet(<uint64_t *>meeting, 1, 2 * number + 2)
    return asked
