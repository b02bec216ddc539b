# cython: language_level=3, embedsignature=True, wraparound=False
"""Bodies of any length through a ring, for Python callers and tests; compiled code uses fragment.h."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize

from shm.errors import FragmentError, RingCorrupt
from shm.layout cimport FRAME_DATA
from shm.ring cimport ring_frame_kind, ring_is_corrupt, ring_next


@cython.final
cdef class FragmentWriter:
    """Cuts bodies into fragments. While it is active, nothing else may be written to its ring."""

    def __init__(self, RingProducer producer not None):
        """Write to this producer's ring; the producer is kept alive."""
        self.producer = producer

    def start(self, bytes body not None):
        """Begin a body; push() then sends it.

        Raises:
            FragmentError: the last body is not complete.
        """
        if fragment_writer_is_active(&self.c):
            raise FragmentError(f"body of {self.c.length} bytes still at {self.c.position}")
        self.body = body
        fragment_writer_start(&self.c, <const uint8_t *><char *>body, len(body))

    def push(self):
        """Commit as many fragments as fit now; True when the body is complete. The caller publishes."""
        if not fragment_writer_push(&self.c, &self.producer.c):
            return False
        self.body = None
        return True

    def reset(self):
        """Drop the body, for a ring that was detached."""
        fragment_writer_reset(&self.c)
        self.body = None

    @property
    def is_active(self):
        """Whether a body is under way."""
        return fragment_writer_is_active(&self.c) == 1

    @property
    def fragment_max(self):
        """Longest fragment in bytes, the length before the first one's bytes included."""
        return fragment_body_max(&self.producer.c)


@cython.final
cdef class FragmentReader:
    """Reads a ring whose frames are whole bodies or fragments of larger ones."""

    def __cinit__(self):
        fragment_reader_init(&self.c, 0)

    def __dealloc__(self):
        fragment_reader_reset(&self.c)

    def __init__(self, RingConsumer consumer not None, uint64_t length_max):
        """Read this consumer's ring, which is kept alive; bodies longer than length_max are refused."""
        self.consumer = consumer
        self.c.length_max = length_max

    def read(self):
        """Return the next whole body as a copy, or None when none is complete before the last poll().

        Raises:
            RingCorrupt: a frame is one that no correct producer writes.
            FragmentError: a fragment is out of order or its body longer than length_max.
            MemoryError: there is no memory for the body.
        """
        cdef const uint8_t *frame
        cdef uint32_t length = 0
        cdef int result
        while True:
            frame = ring_next(&self.consumer.c, &length)
            if frame is NULL:
                if ring_is_corrupt(&self.consumer.c):
                    raise RingCorrupt(f"no valid frame at position {self.consumer.c.head}")
                return None
            if ring_frame_kind(frame) == FRAME_DATA:
                return PyBytes_FromStringAndSize(<const char *>frame, length)
            result = fragment_reader_push(&self.c, frame, length)
            if result == FRAGMENT_COMPLETE:
                body = PyBytes_FromStringAndSize(<const char *>self.c.body, <Py_ssize_t>self.c.length)
                fragment_reader_finish(&self.c)
                return body
            if result == FRAGMENT_NO_MEMORY:
                raise MemoryError
            if result == FRAGMENT_CORRUPT:
                raise FragmentError(
                    f"fragment of {length} bytes at {self.c.position} of {self.c.length}, "
                    f"at most {self.c.length_max}"
                )

    def reset(self):
        """Drop a half-received body and free the buffer, for a ring that was detached."""
        fragment_reader_reset(&self.c)

    @property
    def is_open(self):
        """Whether a body has begun and not ended."""
        return self.c.is_open == 1

    @property
    def buffer_bytes(self):
        """Memory held for bodies."""
        return self.c.capacity
