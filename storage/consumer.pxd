"""The C face of storage/consumer.pyx: how far one consumer of a stream has come."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from storage.pending cimport PendingMessages, pending_t

cdef enum:
    KINDS = 8

# Where the next change of each kind is expected; the drawing in consumer.pyx tells.
ctypedef struct expected_t:
    uint64_t consumer[KINDS]
    uint64_t sequence[KINDS]
    int64_t timestamp_ns

# Packed changes, and the run of changes that may still become longer.
ctypedef struct changes_t:
    uint8_t *data               # owned
    size_t size
    size_t capacity
    uint32_t kind               # of the run; 0: there is none
    uint64_t count              # of changes in it; of a redelivery: deliveries
    uint64_t consumer           # of the first change in it
    uint64_t sequence
    int64_t timestamp_ns
    expected_t expected


cdef class ConsumerStore:
    cdef readonly str name
    cdef readonly uint32_t number       # within the stream's control log
    cdef readonly int ack_policy        # ACK_NONE, ACK_ALL or ACK_EXPLICIT
    cdef public bytes definition
    cdef readonly uint64_t delivered_consumer
    cdef readonly uint64_t delivered_stream
    cdef readonly uint64_t floor_consumer
    cdef readonly uint64_t floor_stream
    cdef readonly uint64_t pending_count
    cdef PendingMessages messages       # the pending ones
    cdef readonly set given_up          # stream sequences delivered as often as they may be, not acknowledged
    cdef changes_t changes              # not in the log yet
    cdef uint64_t serial                # of the last changes that were taken or replayed
    cdef list changed                   # the store's list of consumers with changes, or None
    cdef public object control          # the ControlLog that keeps it
    cdef bint is_changed                # it is in `changed`

    # A pointer to a pending message holds until that message is acknowledged or the consumer reset.
    # Nobody but this class writes through it.
    cdef int delivered_c(self, uint64_t consumer_sequence, uint64_t sequence, uint32_t deliveries,
                         int64_t timestamp_ns) except -1
    cdef int ack_c(self, uint64_t consumer_sequence, uint64_t sequence) except -1
    cdef int give_up_c(self, uint64_t sequence) except -1
    cdef pending_t *find(self, uint64_t sequence) noexcept
    cdef pending_t *lowest(self) noexcept
    cdef pending_t *after(self, pending_t *one) noexcept
    cdef pending_t *oldest(self) noexcept
    cdef pending_t *younger(self, pending_t *one) noexcept
    cpdef int restart_wait(self, uint64_t sequence, int64_t timestamp_ns) except -1
    cdef int reset_c(self, uint64_t sequence) except -1

    cdef int apply(self, uint32_t kind, uint64_t count, uint64_t consumer_sequence, uint64_t sequence,
                   int64_t timestamp_ns) except -1
    cdef int apply_delivered(self, uint64_t consumer_sequence, uint64_t sequence, uint32_t deliveries,
                             int64_t timestamp_ns) except -1
    cdef int apply_ack(self, uint64_t sequence) except -1
    cdef int apply_ack_all(self, uint64_t consumer_sequence, uint64_t sequence) except -1
    cdef int apply_reset(self, uint64_t sequence) except -1
    cdef int apply_give_up(self, uint64_t sequence) except -1
    cdef int raise_floor(self, uint64_t consumer_sequence) noexcept
    cdef int mark_changed(self) except -1
