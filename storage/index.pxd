"""The C face of storage/index.pyx: where every message of a stream is, in columns."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from storage.log cimport LogFile
from storage.subjects cimport SubjectTable

cdef enum:
    ROW_BYTES = 24              # of one row in the five columns
    NO_PREVIOUS = 0             # `previous`: the first message of its subject
    FAR_PREVIOUS = 0xFFFFFFFF   # `previous`: further than 32 bits say; found by a scan


cdef class Segment:
    # sequence of row 0; row r is sequence base + r, whether it holds a message or not
    cdef readonly uint64_t base
    cdef readonly uint32_t rows
    cdef uint32_t capacity
    cdef uint8_t *block                 # owns the columns; NULL: they are in the sidecar only
    cdef int64_t *timestamp             # Unix ns
    # of the record in the log; for a row that never held one: of the next record
    cdef uint32_t *offset
    cdef uint32_t *subject              # id; of a dead row it may mean another subject by now
    cdef uint32_t *size                 # accounted bytes
    # distance to the previous message of the same subject when it was appended
    cdef uint32_t *previous
    cdef uint64_t *dead                 # bitmap, NULL: none
    cdef uint32_t dead_words
    cdef readonly uint32_t live
    cdef readonly uint64_t live_bytes
    cdef readonly int64_t last_timestamp
    cdef readonly LogFile log
    cdef public bint is_sealed
    cdef public bint has_ids            # a message of it has, or had, a message id
    cdef public bint has_sidecar        # the sidecar of exactly these rows is in its file, synced
    cdef public uint64_t used_tick      # when the columns were last needed

    cdef int grow(self, uint32_t capacity) except -1
    cdef int point_into(self, uint8_t *block, uint32_t capacity) noexcept
    cdef int grow_dead(self) except -1
    cdef int cut(self, uint32_t rows) except -1
    cdef inline bint is_dead(self, uint32_t row) noexcept:
        return self.dead != NULL and (row >> 6) < self.dead_words and (self.dead[row >> 6] >> (row & 63)) & 1
    cdef inline bint ends_behind(self, uint64_t sequence) noexcept:
        """Tell whether the last row is at or after `sequence`."""
        return self.base + self.rows > sequence
    cdef uint32_t row_at(self, int64_t timestamp_ns) noexcept
    cdef uint32_t next_live_row(self, uint32_t row) noexcept
    cdef long long last_live_row(self, uint32_t row) noexcept


cdef class StreamIndex:
    cdef readonly SubjectTable subjects
    cdef readonly list segments         # of Segment, oldest first; the last is hot
    cdef Segment hot
    cdef Py_ssize_t near                # index of the segment that segment_index found last
    cdef object backing                 # makes and removes logs, loads columns
    cdef readonly uint64_t first_sequence
    cdef readonly uint64_t last_sequence
    cdef readonly uint64_t messages
    cdef readonly uint64_t bytes
    cdef readonly int64_t last_timestamp_ns
    cdef readonly dict lost             # sequence → accounted bytes (0: not known) of damaged messages
    cdef public uint64_t tick           # a coarse clock for used_tick, moved by the owner

    cdef Segment segment_of(self, uint64_t sequence)
    cdef int ensure(self, Segment segment) except -1
    cdef int add_row(self, uint64_t sequence, int64_t timestamp_ns, uint32_t id, uint32_t size,
                     uint32_t offset) except -1
    cdef int add_gap(self, uint64_t last, uint32_t offset) except -1
    cdef bint remove_row(self, uint64_t sequence) except -1
    cdef int drop_segment(self, Segment segment) except -1
    cdef uint64_t next_live(self, uint64_t sequence) except? 0
    cdef uint64_t last_sequence_c(self, const uint8_t *subject, uint32_t length) except? 0
    cdef uint64_t previous_of(self, uint32_t id, uint64_t sequence) except? 0
    cdef uint64_t scan_back(self, uint32_t id, uint64_t sequence) except? 0
    cdef uint64_t scan_forward(self, uint32_t id, uint64_t sequence) except? 0
    cdef uint64_t first_of(self, uint32_t id) except? 0
    cdef int forget_all(self, uint64_t first) except -1
    cdef bint is_live_of(self, uint32_t id, uint64_t sequence) except -1
    cdef inline Py_ssize_t segment_index(self, uint64_t sequence) noexcept:
        """Return the index of the first segment whose last row is at or after `sequence`."""
        cdef Segment segment
        if self.near < len(self.segments):
            # Most look-ups are about where the last one was.
            segment = <Segment>self.segments[self.near]
            if segment.base <= sequence and segment.ends_behind(sequence):
                return self.near
        return self.find_segment(sequence)
    cdef Py_ssize_t find_segment(self, uint64_t sequence) noexcept
