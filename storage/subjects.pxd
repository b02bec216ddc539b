"""The C face of storage/subjects.pyx: the distinct subjects of one stream."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

# An id, or -1: not there.
ctypedef long long int64_or_error

ctypedef struct subject_t:
    # no live message of it lies below this sequence; exact only after StreamIndex.first_of
    uint64_t first
    uint64_t last           # its newest live message; for a free entry: 1 + the next free id, 0 at the end
    uint64_t name           # position of its length (2 bytes) and bytes in `names`
    uint32_t count          # its live messages; 0: the entry is free
    uint32_t hash


cdef class SubjectTable:
    cdef subject_t *entries             # by id
    cdef readonly uint32_t size         # ids given out, free ones included
    cdef readonly uint32_t used         # subjects with at least one live message
    cdef uint32_t capacity
    cdef uint32_t free_head             # 1 + id, 0: none
    cdef uint8_t *names
    cdef uint64_t names_used
    cdef uint64_t names_capacity
    cdef uint64_t names_dead            # bytes of freed names
    cdef uint32_t *slots                # 1 + id, 0: empty; open addressing
    cdef uint32_t slot_mask
    cdef uint32_t *changes              # every id interned since changes_base, for filters
    cdef uint64_t changes_base
    cdef uint32_t changes_count
    cdef uint32_t changes_capacity

    cdef int64_or_error find(self, const uint8_t *name, uint32_t length) noexcept
    cdef int64_or_error intern(self, const uint8_t *name, uint32_t length) except -1
    cdef int release(self, uint32_t id) except -1
    cdef bint slot_holds(self, uint32_t id) noexcept
    cdef int grow_names(self, uint64_t needed) except -1
    cdef int grow_entries(self, uint32_t needed) except -1
    cdef int reset(self) except -1
    cdef int rebuild_slots(self, uint32_t capacity) except -1
    cdef int add_change(self, uint32_t id) except -1
    cdef int compact_names(self) except -1
    cdef const uint8_t *name_of(self, uint32_t id, uint32_t *length) noexcept
    cdef bytes name(self, uint32_t id)


cdef class SubjectFilter:
    cdef SubjectTable table
    cdef readonly tuple patterns        # bytes, as given
    cdef list tokens                    # per pattern: list of tokens, or None when it is literal
    cdef uint8_t *marks                 # by id: 1 = matches
    cdef uint32_t marked                # ids looked at: marks beyond are not valid
    cdef uint32_t capacity
    cdef uint64_t position              # in the table's changes
    cdef readonly bint matches_all
    cdef readonly bint is_literal       # one pattern without wildcards

    cdef int refresh(self) except -1
    cdef bint matches(self, const uint8_t *name, uint32_t length) noexcept
    cdef int64_or_error literal_id(self) noexcept
