# cython: language_level=3
"""The fragments of fragment.h for Cython, and their two Python faces. Contracts are in fragment.h."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from shm.ring cimport RingConsumer, RingProducer, ring_producer_t

cdef extern from "fragment.h" nogil:
    const int FRAGMENT_NO_MEMORY
    const int FRAGMENT_CORRUPT
    const int FRAGMENT_INCOMPLETE
    const int FRAGMENT_COMPLETE
    const uint64_t FRAGMENT_KEEP_BYTES

    ctypedef struct fragment_writer_t:
        const uint8_t *body
        uint64_t length
        uint64_t position
        int is_started

    ctypedef struct fragment_reader_t:
        uint8_t *body
        uint64_t length
        uint64_t position
        uint64_t capacity
        uint64_t length_max
        int is_open

    void fragment_writer_start(fragment_writer_t *writer, const uint8_t *body, uint64_t length)
    int fragment_writer_push(fragment_writer_t *writer, ring_producer_t *producer)
    int fragment_writer_is_active(const fragment_writer_t *writer)
    void fragment_writer_reset(fragment_writer_t *writer)
    uint32_t fragment_body_max(const ring_producer_t *producer)

    void fragment_reader_init(fragment_reader_t *reader, uint64_t length_max)
    int fragment_reader_push(fragment_reader_t *reader, const uint8_t *fragment, uint32_t fragment_bytes)
    void fragment_reader_finish(fragment_reader_t *reader)
    void fragment_reader_reset(fragment_reader_t *reader)


cdef class FragmentWriter:
    cdef fragment_writer_t c
    cdef RingProducer producer
    cdef bytes body             # keeps c.body alive; None when idle


cdef class FragmentReader:
    cdef fragment_reader_t c
    cdef RingConsumer consumer
