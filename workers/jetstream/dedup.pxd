"""The C face of dedup.pyx: the message ids that a stream has seen within its duplicate window."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef struct id_t:
    int64_t stored_ns
    uint64_t sequence
    uint32_t length             # of the id's bytes, which begin right here


cdef struct id_table_t:
    uint64_t *slots             # position of an id_t + 1 in the low 48 bits, hash above; 0: never used
    uint64_t size               # a power of two, or 0: no slots
    uint64_t used               # slots that are not 0, dead ones included


cdef class DedupTable:
    cdef readonly int64_t window_ns     # 0: nothing is a duplicate and nothing is kept
    cdef object load            # fills the table before it is used for the first time, then None
    cdef uint64_t seed
    # Entries in the order they came, in chunks; positions grow forever, in units of 8 bytes.
    cdef uint8_t **chunks       # by chunk number & (chunk_slots - 1)
    cdef uint64_t chunk_slots   # a power of two
    cdef uint64_t head          # the oldest entry; slots that lead below it are dead
    cdef uint64_t tail          # where the next entry goes
    cdef uint64_t last          # the newest entry, never dropped before another came
    cdef uint64_t count         # entries from head to tail
    cdef id_table_t table
    cdef id_table_t old         # what `table` is to replace; size 0: nothing
    cdef uint64_t moving        # entries from here to moving_end are not in `table` yet
    cdef uint64_t moving_end    # the last one that only `old` leads to

    # The sequence that was stored with an id not longer ago than the window, or 0.
    cdef uint64_t find(self, const uint8_t *id, uint32_t length, int64_t now_ns) except? 0xFFFFFFFFFFFFFFFF
    # Keep an id. A later add of the same id replaces it.
    cdef int add(self, const uint8_t *id, uint32_t length, uint64_t sequence, int64_t now_ns) except -1

    cdef int prepare(self) except -1
    cdef uint64_t lookup(self, id_table_t *table, const uint8_t *id, uint32_t length,
                         uint64_t hash) noexcept nogil
    cdef id_t *entry_at(self, uint64_t position) noexcept nogil
    cdef uint64_t after(self, uint64_t position) noexcept nogil
    cdef int drop_old(self, int64_t now_ns, uint64_t count_max) noexcept
    cdef uint64_t claim(self, uint32_t length) except 0
    cdef int insert(self, uint64_t position, uint64_t hash) noexcept
    cdef int begin_move(self) except -1
    cdef int move_entries(self) noexcept
