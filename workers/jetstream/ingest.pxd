"""Messages into streams, and their acknowledgements back once they are durable."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from storage.stream cimport StreamStore
from workers.jetstream.dedup cimport DedupTable
from workers.model cimport Message, Plane
from workers.sinks cimport Sink


cdef struct AckBatch:              # acknowledgements of one round of the store, or those that have no round yet
    AckBatch* next
    uint64_t round
    uint64_t used
    uint64_t capacity
    uint64_t count
    uint8_t* data                  # each: ack_head_t, reply, body


cdef class Acks:
    cdef object data_plane
    cdef Plane* plane
    cdef AckBatch* open
    cdef AckBatch* first           # closed, oldest first
    cdef AckBatch* last
    cdef AckBatch* spare
    cdef readonly uint64_t waiting         # acknowledgements not sent yet
    cdef list touched              # StreamIngests that stored something since take_touched
    cdef uint64_t takes            # 1 + how often they were taken

    cdef int add(self, uint32_t account, const uint8_t* reply, uint32_t reply_length, const uint8_t* body,
                 uint32_t body_length) except -1


cdef class StreamIngest(Sink):
    cdef object stream
    cdef object publisher
    cdef StreamStore store
    cdef DedupTable dedup
    cdef Acks acks
    cdef bytes ack_head            # {"stream":"S","seq":
    cdef bint is_special           # every message needs the publisher
    cdef bint has_acks
    cdef bint is_durable           # acknowledgements wait for the store's commit
    cdef bint is_touched           # in Acks.touched
    cdef bint has_window
    cdef int64_t max_bytes         # of headers and payload of a message

    cdef int refuse(self, const Message* message) except -1
    cdef int store_plain(self, const uint8_t* subject, uint32_t subject_length, const uint8_t* headers,
                         uint32_t header_size, const uint8_t* payload, uint32_t payload_size, const uint8_t* reply,
                         uint32_t reply_length) except -1
    cdef int acknowledge(self, const uint8_t* reply, uint32_t reply_length, uint64_t sequence,
                         bint is_duplicate) except -1


cdef int64_t real_time_ns() noexcept nogil
