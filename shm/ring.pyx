# cython: language_level=3, embedsignature=True, wraparound=False
"""A ring's two ends for Python callers, tests and measurements; compiled code uses ring.h."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy

from shm.errors import RingCorrupt, StaleEpoch

cdef Py_ssize_t live_producers = 0
cdef Py_ssize_t live_consumers = 0


def live_count():
    """Return how many RingProducer and RingConsumer objects exist, for tests that nothing leaks."""
    return live_producers, live_consumers


@cython.final
cdef class RingProducer:
    """The writing end. Frames written become visible to the consumer together, at publish()."""

    def __cinit__(self):
        global live_producers
        live_producers += 1
        ring_producer_detach(&self.c)

    def __dealloc__(self):
        global live_producers
        live_producers -= 1

    def __init__(self, uintptr_t address, uint32_t epoch, owner=None):
        """Attach to the ring at an address.

        Args:
            address: of a ring_header_t; stays mapped for as long as this object is used.
            epoch: the one that the supervisor told.
            owner: kept alive with this object, for example the Region.
        Raises:
            StaleEpoch: no ring of that epoch is there.
        """
        if not ring_producer_attach(&self.c, <void *>address, epoch):
            raise StaleEpoch(f"no ring of epoch {epoch} to write to at this address")
        self.owner = owner

    def try_write(self, bytes body not None):
        """Add one frame to the next publish; False, and nothing changed, when it does not fit.

        Later it may, unless it is longer than frame_max or the ring was reset.
        """
        cdef Py_ssize_t length = len(body)
        cdef uint8_t *frame
        if length > <Py_ssize_t>ring_frame_max(&self.c):
            return False
        frame = ring_claim(&self.c, <uint32_t>length)
        if frame is NULL:
            return False
        memcpy(frame, <char *>body, length)
        ring_commit(&self.c)
        self.frames_written += 1
        return True

    def claim(self, uint32_t body_bytes):
        """Reserve a frame without committing it; whether it fitted. The next try_write replaces it."""
        return ring_claim(&self.c, body_bytes) is not NULL

    def publish(self):
        """Show the consumer every frame written so far; whether there was a new one."""
        return ring_publish(&self.c) == 1

    def want_space(self):
        """Ask that the consumer's next release reports True; the caller then tries to write once more."""
        ring_want_space(&self.c)

    def detach(self):
        """Forget the ring: frames not yet published are lost, every later write returns False."""
        ring_producer_detach(&self.c)
        self.owner = None

    @property
    def frame_max(self):
        """Longest frame in bytes; longer bodies go through shm.fragment. 0 when detached."""
        return ring_frame_max(&self.c)

    @property
    def is_stale(self):
        """Whether the ring was reset since it was attached, or is detached."""
        return ring_is_stale(&self.c) == 1

    @property
    def is_corrupt(self):
        """Whether the consumer was seen to write what no correct one writes."""
        return ring_producer_is_corrupt(&self.c) != 0

    def stats(self):
        """Return positions and counts by name; positions are bytes since the ring's reset."""
        return {
            "capacity": self.c.capacity, "epoch": self.c.epoch, "tail": self.c.tail,
            "published": self.c.published, "used_bytes": ring_used_bytes(&self.c),
            "frames_written": self.frames_written,
        }


@cython.final
cdef class RingConsumer:
    """The reading end. Space of frames read is given back together, at release()."""

    def __cinit__(self):
        global live_consumers
        live_consumers += 1
        ring_consumer_detach(&self.c)

    def __dealloc__(self):
        global live_consumers
        live_consumers -= 1

    def __init__(self, uintptr_t address, uint32_t epoch, owner=None):
        """Attach to the ring at an address.

        Args:
            address: of a ring_header_t; stays mapped for as long as this object is used.
            epoch: the one that the supervisor told.
            owner: kept alive with this object, for example the Region.
        Raises:
            StaleEpoch: no ring of that epoch is there.
        """
        if not ring_consumer_attach(&self.c, <void *>address, epoch):
            raise StaleEpoch(f"no ring of epoch {epoch} to read at this address")
        self.owner = owner

    def poll(self):
        """Look how far the producer has published; return the bytes that read() may take.

        Headers and padding count. 0 when there is nothing, or the ring was reset.

        Raises:
            RingCorrupt: the producer's tail is one that no correct producer writes.
        """
        cdef uint64_t readable = ring_poll(&self.c)
        self._check()
        return readable

    def read(self):
        """Return the next frame as a copy, or None when there is none up to the last poll().

        Raises:
            RingCorrupt: the frame is one that no correct producer writes.
        """
        cdef uint32_t length = 0
        cdef const uint8_t *body = ring_next(&self.c, &length)
        if body is NULL:
            self._check()
            return None
        self.frames_read += 1
        return PyBytes_FromStringAndSize(<const char *>body, length)

    def release(self):
        """Give back the space of every frame read; whether the producer waits for space and must be woken."""
        return ring_release(&self.c) == 1

    def detach(self):
        """Forget the ring: what is unread is lost, every later read returns None."""
        ring_consumer_detach(&self.c)
        self.owner = None

    @property
    def is_stale(self):
        """Whether the ring was reset since it was attached, or is detached."""
        return ring_consumer_is_stale(&self.c) == 1

    @property
    def is_corrupt(self):
        """Whether RingCorrupt was raised; it stays so until a new attachment."""
        return ring_is_corrupt(&self.c) != 0

    def stats(self):
        """Return positions and counts by name; positions are bytes since the ring's reset."""
        return {
            "capacity": self.c.capacity, "epoch": self.c.epoch, "head": self.c.head,
            "released": self.c.released, "frames_read": self.frames_read,
        }

    cdef int _check(self) except -1:
        if ring_is_corrupt(&self.c):
            raise RingCorrupt(
                f"ring of {self.c.capacity} bytes: no valid frame or tail at position {self.c.head}"
            )
        return 0
