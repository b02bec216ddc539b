"""Direct get of one stream."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from storage.reader cimport StreamReader, record_view_t
from workers.model cimport Message
from workers.sinks cimport Sink


cdef class DirectGet(Sink):
    cdef StreamReader store        # the stream's messages
    cdef bytes name                # "Nats-Stream: <name>\r\nNats-Subject: "
    cdef object requests           # direct_requests.DirectRequests: what is not answered here
    cdef uint8_t* block            # header block of the answer in hand, owned
    cdef uint64_t block_capacity

    cdef int take(self, const Message* message) except -1
    cdef int take_fast(self, const Message* message, const uint8_t* key, uint32_t key_length) except -1
    cdef int take_slow(self, const Message* message, const uint8_t* key, uint32_t key_length, bint has_key) except -1
    cdef int answer_subject(self, const Message* message, const uint8_t* subject, uint32_t length) except -1
    cdef int answer_sequence(self, const Message* message, uint64_t sequence) except -1
    cdef uint32_t write_block(self, const record_view_t* view, int64_t num_pending, uint64_t last_sequence) except 0
    cdef bint run_soon(self) except -1


cdef uint32_t write_time(uint8_t* at, int64_t time_ns) noexcept nogil
