"""The C face of workers/jetstream/archive/s2.pyx: blocks of the S2 and Snappy formats."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef extern from "crc32c.h" nogil:
    void crc32c_choose()
    uint32_t crc32c(uint32_t seed, const uint8_t *data, size_t size)

cdef enum:
    # Longest input of `compress_block`: every offset then fits the two bytes of a copy.
    BLOCK_BYTES_MAX = 65536
    HASH_BITS = 14

cdef Py_ssize_t encode(const uint8_t *source, Py_ssize_t size, uint8_t *target, uint16_t *table) noexcept nogil
cdef Py_ssize_t decode(const uint8_t *source, Py_ssize_t size, uint8_t *target,
                       Py_ssize_t target_size) noexcept nogil
