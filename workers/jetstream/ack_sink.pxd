"""Acknowledgements of messages that consumers delivered."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.jetstream.delivery cimport ConsumerCore
from workers.jetstream.ingest cimport Acks
from workers.model cimport Message
from workers.sinks cimport Sink


cdef class AckSink(Sink):
    cdef dict cores                        # consumer's name as bytes -> ConsumerCore
    cdef bytes stream_name
    cdef bytes last_name
    cdef ConsumerCore last
    cdef Acks acks
    cdef object stream
    cdef uint64_t touched_take             # Acks.takes when it touched the stream last

    cdef bint is_ours(self, const uint8_t* name, uint32_t length)
    cdef ConsumerCore core_of(self, const uint8_t* name, uint32_t length)
    cdef int touch(self) except -1
    cdef int refuse(self, const Message* message) except -1
    cdef int answer(self, const uint8_t* reply, uint32_t length) except -1
