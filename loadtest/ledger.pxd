# C face of loadtest/ledger.pyx: what should arrive, what did, and how late it was.
#
# Payload of a benchmark message, as far as its size allows, little endian:
#
#     0        8        16
#     | mark   | due    | pattern ...
#
# mark  u64  publisher index << 48 | sequence, counted from 0 by each publisher
# due   u64  CLOCK_MONOTONIC nanoseconds at which the message was due, only in paced runs
#
# The pattern byte at offset i depends on i alone and fills every place that mark and due leave.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    MARK_BYTES = 8
    DUE_BYTES = 8
    SEQUENCE_BITS = 48
    # Values below 256 ns are exact, above a bucket spans at most 1/128 of its value.
    HISTOGRAM_BITS = 7
    HISTOGRAM_BUCKETS = 7424
    # The whole payload of one message in so many is compared.
    PATTERN_CHECK_INTERVAL = 64
    # A control line longer than this is parsed anew for each message.
    REPEAT_LINE_MAX = 256

cdef enum fault_t:
    FAULT_NONE = 0
    FAULT_SIZE
    FAULT_PUBLISHER
    FAULT_LOST
    FAULT_REPEATED
    FAULT_DAMAGED
    FAULT_SUBJECT
    FAULT_EXTRA
    FAULT_REPLY
    FAULT_NO_RESPONDERS
    FAULT_BROKEN
    FAULT_SERVER
    FAULT_CLOSED
    FAULT_ERRNO
    FAULT_IDLE
    FAULT_MEMORY

# One per engine; every field is written by the engine's thread alone.
ctypedef struct ledger_t:
    uint32_t payload_bytes      # of every message; ANY_SIZE in engine.pyx switches the check off
    bint any_size               # messages of foreign publishers: count only
    bint has_mark
    bint has_due
    bint is_queue               # members see gaps, but no message arrives twice
    uint32_t publisher_count
    uint8_t *pattern            # payload_bytes long, owned
    uint64_t **seen             # queue runs: a bitmap per publisher, owned
    uint64_t *seen_words        # its length in words
    uint64_t *histogram         # HISTOGRAM_BUCKETS counts of nanoseconds, owned
    uint64_t latency_max_ns
    uint64_t now_ns             # when the bytes under inspection were read
    uint64_t delivered          # messages accepted on all connections
    uint64_t delivered_bytes    # payload bytes of those
    fault_t fault               # the first thing that went wrong; nothing is accepted after it
    int64_t fault_expected
    int64_t fault_actual

# One per subscribing connection.
ctypedef struct subscriber_t:
    uint64_t received
    uint64_t *sequence_next     # per publisher, owned
    size_t line_bytes           # 0: no control line known yet
    size_t frame_bytes
    char line[REPEAT_LINE_MAX]

cdef int ledger_init(
    ledger_t *ledger, uint32_t payload_bytes, uint32_t publisher_count, bint has_due, bint is_queue
) noexcept nogil
cdef void ledger_free(ledger_t *ledger) noexcept nogil
cdef void ledger_fail(ledger_t *ledger, fault_t fault, int64_t expected, int64_t actual) noexcept nogil

cdef void latency_record(ledger_t *ledger, uint64_t due_ns) noexcept nogil

cdef void subscriber_note_line(
    subscriber_t *subscriber, const char *line, size_t line_bytes, size_t frame_bytes
) noexcept nogil
cdef size_t subscriber_take_repeats(
    ledger_t *ledger, subscriber_t *subscriber, const char *data, size_t available
) noexcept nogil
cdef void subscriber_take(
    ledger_t *ledger, subscriber_t *subscriber, const char *payload, size_t payload_bytes
) noexcept nogil
