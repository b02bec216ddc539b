"""Messages of one stream on their way into another; the format is drawn in transfer.pyx."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from storage.stream cimport StreamStore


cdef packed struct head_t:
    uint64_t sequence
    int64_t timestamp_ns
    uint32_t headers_bytes
    uint32_t payload_bytes
    uint16_t subject_bytes


cdef class Block:
    cdef bytes data
    cdef Py_ssize_t position               # of the next message to take
    cdef readonly uint64_t last_sequence   # the origin's, of the last message taken; 0: none yet
    cdef uint8_t* scratch                  # owned: a header block that is being made
    cdef size_t scratch_bytes

    cdef const uint8_t* next_head(self, head_t* head) except NULL
    cdef int step(self, const head_t* head) except -1
    cdef uint32_t with_source(self, const head_t* head, const uint8_t* parts, bytes origin, bytes rest,
                              bytes identity) except 0
