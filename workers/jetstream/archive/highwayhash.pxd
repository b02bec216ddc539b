"""The C face of workers/jetstream/archive/highwayhash.pyx."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

ctypedef struct state_t:
    uint64_t[4] v0
    uint64_t[4] v1
    uint64_t[4] mul0
    uint64_t[4] mul1

cdef uint64_t hash(const uint8_t *key, const uint8_t *data, size_t size) noexcept nogil
