# C face of loadtest/sender.pyx: what publishers, requesters and responders are to write next. No I/O here.

from libc.stdint cimport uint32_t, uint64_t

from loadtest.ledger cimport ledger_t

cdef enum:
    # Requests carry their sequence as this many hexadecimal digits at the end of the reply subject.
    TOKEN_DIGITS = 16

# Bytes that wait for a socket: data[start:end].
ctypedef struct outbox_t:
    char *data                  # owned
    size_t start
    size_t end
    size_t capacity

# When the k-th message is due: first_ns + k * interval_ns. interval_ns 0: always.
ctypedef struct schedule_t:
    uint64_t first_ns
    double interval_ns
    uint64_t late_max_ns        # how late the sender itself was, at worst
    uint64_t late_sum_ns
    uint64_t late_count

# A publisher writes one block of frames again and again, with new marks in it.
ctypedef struct publisher_t:
    uint32_t index
    char *block                 # frames_max frames, owned
    size_t frame_bytes
    size_t frames_max
    size_t mark_offset          # of the payload in a frame
    size_t digits_offset        # of the number that ends the subject
    uint32_t digits             # 0: one subject only
    uint32_t subject_count
    size_t pending_start        # block[pending_start:pending_end] waits for the socket
    size_t pending_end
    uint64_t published          # frames stamped so far
    uint64_t limit
    schedule_t schedule

ctypedef struct slot_t:
    uint64_t sequence_plus_one  # 0: free
    uint64_t due_ns

ctypedef struct requester_t:
    uint32_t index
    char *frame                 # one request, owned
    size_t frame_bytes
    size_t token_offset
    size_t mark_offset
    size_t inbox_bytes          # of the reply subject, token included
    slot_t *slots               # requests in flight by sequence & slot_mask, owned
    uint64_t slot_mask
    uint32_t window
    uint32_t in_flight
    uint64_t issued
    uint64_t completed
    uint64_t limit
    schedule_t schedule

cdef char *outbox_reserve(outbox_t *outbox, size_t size) noexcept nogil
cdef int outbox_append(outbox_t *outbox, const char *data, size_t size) noexcept nogil
cdef void outbox_free(outbox_t *outbox) noexcept nogil

cdef uint64_t schedule_due_ns(const schedule_t *schedule, uint64_t sequence) noexcept nogil
cdef uint64_t schedule_due_count(const schedule_t *schedule, uint64_t sent, uint64_t now_ns) noexcept nogil

cdef void publisher_stamp(
    publisher_t *publisher, const ledger_t *ledger, size_t frames, uint64_t now_ns
) noexcept nogil

cdef int requester_fill(
    requester_t *requester, const ledger_t *ledger, outbox_t *outbox, uint64_t now_ns
) noexcept nogil
cdef bint requester_take(
    requester_t *requester, ledger_t *ledger, const char *subject, size_t subject_bytes,
    const char *payload, size_t payload_bytes
) noexcept nogil
cdef int responder_answer(
    outbox_t *outbox, const char *reply, size_t reply_bytes, const char *payload, size_t payload_bytes
) noexcept nogil
