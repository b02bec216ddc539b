"""The C face of storage/pending.pyx: delivered messages that nobody acknowledged yet."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef enum:
    CHUNK_SHIFT = 5             # messages of a chunk: 32
    CHUNK_MASK = 31

# One delivered, unacknowledged message. The links are chunk << CHUNK_SHIFT | place, 0: none.
ctypedef struct pending_t:
    uint64_t sequence           # stream sequence
    uint64_t consumer_sequence  # of its first delivery
    int64_t timestamp_ns        # Unix time of its last delivery
    uint32_t deliveries         # so far, from 1
    uint32_t lower              # neighbours by stream sequence
    uint32_t higher
    uint32_t older              # neighbours by last delivery
    uint32_t younger
    uint32_t chained            # next in its bucket

# 32 messages. Those with free places are in a ring that begins and ends at chunk 0, which holds none;
# those without memory wait in a list to get some again.
ctypedef struct chunk_t:
    pending_t *messages         # owned; NULL: gone
    uint32_t free               # bitmap of free places
    uint32_t next
    uint32_t previous


cdef class PendingMessages:
    cdef readonly uint64_t count
    cdef readonly uint64_t redelivered      # of these, how many were delivered more than once
    cdef chunk_t *chunks
    cdef uint32_t chunks_used               # of `chunks`, chunk 0 included
    cdef uint32_t chunks_capacity
    cdef uint32_t chunks_alive              # that have memory
    cdef uint32_t chunks_gone               # first of those without memory, 0: none
    cdef uint32_t *buckets                  # first link of each
    cdef uint32_t buckets_count             # power of two, 0: no table
    cdef uint32_t bucket_shift              # 64 - log2(buckets_count)
    cdef uint32_t lowest_link               # ends of the order by stream sequence
    cdef uint32_t highest_link
    cdef uint32_t oldest_link               # ends of the order by last delivery
    cdef uint32_t youngest_link

    cdef inline pending_t *at(self, uint32_t link) noexcept:
        """Return the message of a link that is not 0."""
        return self.chunks[link >> CHUNK_SHIFT].messages + (link & CHUNK_MASK)

    cdef inline pending_t *at_or_null(self, uint32_t link) noexcept:
        return NULL if link == 0 else self.at(link)

    cdef uint32_t find(self, uint64_t sequence) noexcept
    cdef uint32_t append(self, uint64_t sequence, uint64_t consumer_sequence, uint32_t deliveries,
                         int64_t timestamp_ns) except 0
    cdef int sink(self, uint32_t link) noexcept
    cdef int sort(self) except -1
    cdef int touch(self, uint32_t link, uint32_t deliveries, int64_t timestamp_ns) noexcept
    cdef int remove(self, uint32_t link) noexcept
    cdef int clear(self) noexcept
    cdef uint64_t memory_bytes(self) noexcept

    cdef uint32_t bucket(self, uint64_t sequence) noexcept
    cdef int resize_buckets(self, uint32_t count) noexcept
    cdef uint32_t take(self) except 0
    cdef uint32_t add_chunk(self) except 0
    cdef int give(self, uint32_t link) noexcept
