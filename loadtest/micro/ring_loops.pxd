# cython: language_level=3
"""The loops of ring_loops.pyx that other compiled measurements may use."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from shm.ring cimport ring_consumer_t, ring_producer_t

cdef void write_batch(ring_producer_t *producer, const uint8_t *body, uint32_t body_bytes,
                      uint64_t count) noexcept nogil
cdef uint64_t read_published(ring_consumer_t *consumer, uint8_t *copy) noexcept nogil
