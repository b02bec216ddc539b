# cython: language_level=3
"""The ring of ring.h for Cython, and its two Python faces. Contracts are in ring.h."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from shm.layout cimport ring_header_t

cdef extern from "ring.h" nogil:
    const uint64_t RING_LIMIT_CORRUPT

    ctypedef struct ring_producer_t:
        ring_header_t *header
        uint8_t *data
        uint64_t capacity
        uint64_t tail
        uint64_t claimed
        uint64_t published
        uint64_t head_cache
        uint32_t frame_max
        uint32_t epoch
        int is_corrupt

    ctypedef struct ring_consumer_t:
        ring_header_t *header
        uint8_t *data
        uint64_t capacity
        uint64_t head
        uint64_t released
        uint64_t limit
        uint32_t frame_max
        uint32_t epoch

    uint64_t ring_memory_bytes(uint64_t capacity)
    int ring_initialize(void *memory, uint64_t capacity, uint32_t epoch)
    uint32_t ring_reset(void *memory)
    uint64_t ring_frame_bytes(uint32_t body_bytes)

    int ring_producer_attach(ring_producer_t *producer, void *memory, uint32_t epoch)
    void ring_producer_detach(ring_producer_t *producer)
    uint8_t *ring_claim(ring_producer_t *producer, uint32_t body_bytes)
    uint8_t *ring_claim_kind(ring_producer_t *producer, uint32_t body_bytes, uint32_t kind)
    void ring_commit(ring_producer_t *producer)
    int ring_publish(ring_producer_t *producer)
    void ring_want_space(ring_producer_t *producer)
    uint32_t ring_frame_max(const ring_producer_t *producer)
    uint64_t ring_used_bytes(const ring_producer_t *producer)
    int ring_is_stale(const ring_producer_t *producer)
    int ring_producer_is_corrupt(const ring_producer_t *producer)

    int ring_consumer_attach(ring_consumer_t *consumer, void *memory, uint32_t epoch)
    void ring_consumer_detach(ring_consumer_t *consumer)
    uint64_t ring_poll(ring_consumer_t *consumer)
    const uint8_t *ring_next(ring_consumer_t *consumer, uint32_t *body_bytes)
    uint32_t ring_frame_kind(const uint8_t *body)
    int ring_release(ring_consumer_t *consumer)
    int ring_consumer_is_stale(const ring_consumer_t *consumer)
    int ring_is_corrupt(const ring_consumer_t *consumer)


cdef class RingProducer:
    cdef ring_producer_t c
    cdef readonly object owner      # keeps the memory mapped; None: the caller does
    cdef readonly uint64_t frames_written


cdef class RingConsumer:
    cdef ring_consumer_t c
    cdef readonly object owner      # keeps the memory mapped; None: the caller does
    cdef readonly uint64_t frames_read

    cdef int _check(self) except -1
