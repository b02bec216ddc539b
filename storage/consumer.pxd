"""The C face of storage/consumer.pyx: how far one consumer of a stream has come."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef class ConsumerStore:
    cdef readonly str name
    cdef readonly uint32_t number       # within the stream's control log
    cdef readonly int ack_policy        # ACK_NONE, ACK_ALL or ACK_EXPLICIT
    cdef public bytes definition
    cdef readonly uint64_t delivered_consumer
    cdef readonly uint64_t delivered_stream
    cdef readonly uint64_t floor_consumer
    cdef readonly uint64_t floor_stream
    # OrderedDict: stream sequence → (consumer sequence, time ns), oldest first
    cdef readonly object pending
    cdef readonly dict redelivered      # stream sequence → deliveries beyond the first
    cdef public bytearray changes       # packed changes that are not in the log yet
    cdef list changed                   # the store's list of consumers with changes, or None
    cdef public object control          # the ControlLog that keeps it
    cdef bint is_changed

    cdef int note(self, int kind, uint64_t a, uint64_t b, uint64_t c, int64_t d) except -1
    cdef int apply_delivered(self, uint64_t consumer_sequence, uint64_t sequence, uint64_t count,
                             int64_t ts) except -1
    cdef int apply_ack(self, uint64_t consumer_sequence, uint64_t sequence) except -1
    cdef int raise_floor(self) except -1
