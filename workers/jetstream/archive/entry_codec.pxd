"""The C face of workers/jetstream/archive/entry_codec.pyx: entries of the archive format, see entries.py."""

from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    # Of a varint of 64 bits.
    VARINT_BYTES_MAX = 10
    NUMBERS = 5

cdef uint8_t *put(uint8_t *at, uint64_t value) noexcept nogil
cdef int take(const uint8_t *start, Py_ssize_t size, uint64_t *value) noexcept nogil
