"""The C face of storage/stream.pyx: the messages of one stream."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from storage.index cimport Segment
from storage.reader cimport StreamReader


cdef class StreamStore(StreamReader):
    cdef readonly object limits
    cdef long long max_messages
    cdef long long max_bytes
    cdef long long max_message_bytes
    cdef uint32_t max_per_subject       # 0: no limit
    cdef bint discard_new
    cdef bint discard_new_per_subject
    cdef bint is_memory
    cdef uint64_t segment_bytes
    cdef uint32_t overhead              # accounted bytes of a message beside its parts
    cdef uint32_t headers_overhead      # and of headers when there are some
    cdef uint64_t *tombstones           # deleted, not in the log yet
    cdef Py_ssize_t tombstone_count
    cdef Py_ssize_t tombstone_capacity
    cdef bint head_moved                # limits or a purge took messages from the front; not in the log yet
    # a delete or purge is among them: goes to the log before the next append
    cdef bint has_explicit
    cdef uint64_t dead_maps_below       # segments below this base need their dead maps in the log
    cdef bint is_pending                # it is in `pending_streams`
    # shared by the streams of a store: those with something not in a log yet
    cdef list pending_streams
    cdef readonly list expiries         # heap of (expires ns, sequence); some may be gone already
    cdef readonly set never             # sequences that the age limit does not count for; some may be gone
    cdef Py_ssize_t expiries_max        # when both together are longer, those that are gone are dropped
    cdef uint64_t age_from              # every live message below it is in `never`
    cdef uint64_t aged_sequence         # of which aged_timestamp_ns is the time, 0: none
    cdef int64_t aged_timestamp_ns
    cdef public object failure          # the WriteFailed that made the stream read-only, or None

    cdef int64_t append_c(self, const uint8_t *subject, uint32_t subject_bytes, const uint8_t *headers,
                          uint32_t headers_bytes, const uint8_t *payload, uint32_t payload_bytes,
                          int64_t timestamp_ns, int64_t expires_ns) except? -100
    cdef int check_limits(self, const uint8_t *subject, uint32_t subject_bytes, uint64_t size,
                          uint64_t body_bytes) noexcept
    cdef int write_record(self, int kind, int flags, uint64_t sequence, int64_t timestamp_ns,
                          int64_t expires_ns,
                          const uint8_t *subject, uint32_t subject_bytes, const uint8_t *headers,
                          uint32_t headers_bytes, const uint8_t *payload, uint64_t payload_bytes) except -1
    cdef int enforce_subject(self, uint32_t id) except -1
    cdef int enforce_totals(self) except -1
    cdef int note_tombstone(self, uint64_t sequence) except -1
    cdef int mark_pending(self) except -1
    cdef int rotate(self, uint64_t base) except -1
    cdef uint32_t accounted(self, uint64_t subject_bytes, uint64_t headers_bytes,
                            uint64_t payload_bytes) noexcept
    cdef int write_coded(self, uint64_t sequence, int64_t timestamp_ns, int64_t expires_ns, bytes subject,
                         bytes headers, bytes payload) except -1
    cdef int apply_skip(self, uint64_t last_sequence) except -1
    cdef int erase_row(self, Segment segment, uint32_t row) except -1
    cdef uint64_t remove_front(self, uint64_t first) except? 0
    cdef bint holds(self, uint64_t sequence) except -1
    cdef int note_expiry(self, int64_t expires_ns, uint64_t sequence) except -1
    cdef int prune_expiries(self) except -1
    cdef uint64_t next_aged(self) except? 0
    cdef int64_t aged_ns(self, uint64_t sequence) except? -1
    cdef int expire_one(self, Segment segment, uint64_t sequence, list out) except -1
