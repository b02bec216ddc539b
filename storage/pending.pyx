# cython: language_level=3, embedsignature=True, wraparound=False
"""The messages that a consumer delivered and that nobody acknowledged yet, 48 bytes each.

They lie in chunks of 32; a chunk whose messages are all gone is given back. A message is found by its stream
sequence through a hash table (4 to 8 bytes a message when it grows), and is in two lists: by stream sequence,
and by last delivery, oldest first. Links are numbers of 32 bits, so there are never more than 2^32 - 32
messages. A pointer to a message holds until the message is removed.

It knows nothing of acknowledgement rules or logs. All of it belongs to one thread.
"""

cimport cython
from libc.stdlib cimport calloc, free, malloc, qsort, realloc

cdef extern from *:
    int count_trailing_zeros "__builtin_ctz"(unsigned int) nogil

cdef enum:
    CHUNK_MESSAGES = CHUNK_MASK + 1
    BUCKETS_MIN = 16
    CHUNKS_MIN = 4

cdef uint32_t ALL_FREE = 0xFFFFFFFF
cdef uint32_t CHUNKS_MAX = 0xFFFFFFFF >> CHUNK_SHIFT

ctypedef struct place_t:
    uint64_t sequence
    uint32_t link


cdef int compare_places(const void *left, const void *right) noexcept nogil:
    cdef uint64_t a = (<const place_t *>left).sequence
    cdef uint64_t b = (<const place_t *>right).sequence
    return (a > b) - (a < b)


@cython.final
cdef class PendingMessages:
    """Delivered messages by stream sequence and by age; C methods only."""

    def __dealloc__(self):
        self.clear()

    cdef uint32_t bucket(self, uint64_t sequence) noexcept:
        """Return the bucket of a sequence: groups of 16 neighbours lie in one cache line, groups anywhere."""
        return <uint32_t>((((sequence >> 4) * <uint64_t>0x9E3779B97F4A7C15) >> self.bucket_shift)
                          ^ (sequence & 15))

    cdef uint32_t find(self, uint64_t sequence) noexcept:
        """Return the link of a message, 0: it is not pending."""
        cdef uint32_t link
        cdef pending_t *one
        if self.count == 0:
            return 0
        link = self.buckets[self.bucket(sequence)]
        while link != 0:
            one = self.at(link)
            if one.sequence == sequence:
                return link
            link = one.chained
        return 0

    cdef uint32_t append(self, uint64_t sequence, uint64_t consumer_sequence, uint32_t deliveries,
                         int64_t timestamp_ns) except 0:
        """Add a message that is not there as the last one of both orders.

        When its sequence is not the highest, `sink` or `sort` must follow.
        """
        cdef uint32_t link, bucket
        cdef pending_t *one
        if self.count >= self.buckets_count:
            self.resize_buckets(self.buckets_count * 2 if self.buckets_count else BUCKETS_MIN)
            if self.buckets == NULL:
                raise MemoryError
        link = self.take()
        one = self.at(link)
        bucket = self.bucket(sequence)
        one.sequence, one.consumer_sequence, one.timestamp_ns = sequence, consumer_sequence, timestamp_ns
        one.deliveries = deliveries
        one.lower, one.higher = self.highest_link, 0
        one.older, one.younger = self.youngest_link, 0
        one.chained = self.buckets[bucket]
        self.buckets[bucket] = link
        if self.count == 0:
            self.lowest_link = self.oldest_link = link
        else:
            self.at(self.highest_link).higher = link
            self.at(self.youngest_link).younger = link
        self.highest_link = self.youngest_link = link
        self.count += 1
        self.redelivered += deliveries > 1
        return link

    cdef int sink(self, uint32_t link) noexcept:
        """Bring the last message by sequence to its place among those before it."""
        cdef pending_t *one = self.at(link)
        cdef uint32_t below = one.lower
        if below == 0 or self.at(below).sequence < one.sequence:
            return 0
        self.highest_link = below
        self.at(below).higher = 0
        while below != 0 and self.at(below).sequence > one.sequence:
            one.higher = below
            below = self.at(below).lower
        one.lower = below
        self.at(one.higher).lower = link
        if below == 0:
            self.lowest_link = link
        else:
            self.at(below).higher = link
        return 0

    cdef int sort(self) except -1:
        """Bring all messages into the order of their sequences."""
        cdef place_t *places
        cdef uint64_t index = 0
        cdef uint32_t link = self.oldest_link
        cdef uint32_t below = 0
        if self.count == 0:
            return 0
        places = <place_t *>malloc(self.count * sizeof(place_t))
        if places == NULL:
            raise MemoryError
        while link != 0:
            places[index].sequence, places[index].link = self.at(link).sequence, link
            link = self.at(link).younger
            index += 1
        qsort(places, self.count, sizeof(place_t), compare_places)
        self.lowest_link = places[0].link
        for index in range(self.count):
            link = places[index].link
            self.at(link).lower = below
            if below != 0:
                self.at(below).higher = link
            below = link
        self.at(below).higher = 0
        self.highest_link = below
        free(places)
        return 0

    cdef int touch(self, uint32_t link, uint32_t deliveries, int64_t timestamp_ns) noexcept:
        """Note a delivery: the message becomes the youngest."""
        cdef pending_t *one = self.at(link)
        self.redelivered += (deliveries > 1) - (one.deliveries > 1)
        one.deliveries, one.timestamp_ns = deliveries, timestamp_ns
        if one.younger == 0:
            return 0
        self.at(one.younger).older = one.older
        if one.older == 0:
            self.oldest_link = one.younger
        else:
            self.at(one.older).younger = one.younger
        self.at(self.youngest_link).younger = link
        one.older, one.younger = self.youngest_link, 0
        self.youngest_link = link
        return 0

    cdef int remove(self, uint32_t link) noexcept:
        """Forget a message and give its memory back."""
        cdef pending_t *one = self.at(link)
        cdef uint32_t *chain = self.buckets + self.bucket(one.sequence)
        while chain[0] != link:
            chain = &self.at(chain[0]).chained
        chain[0] = one.chained
        if one.lower == 0:
            self.lowest_link = one.higher
        else:
            self.at(one.lower).higher = one.higher
        if one.higher == 0:
            self.highest_link = one.lower
        else:
            self.at(one.higher).lower = one.lower
        if one.older == 0:
            self.oldest_link = one.younger
        else:
            self.at(one.older).younger = one.younger
        if one.younger == 0:
            self.youngest_link = one.older
        else:
            self.at(one.younger).older = one.older
        self.count -= 1
        self.redelivered -= one.deliveries > 1
        self.give(link)
        if self.count == 0 and self.chunks_used > 2:
            self.clear()
        elif self.count < self.buckets_count // 8 and self.buckets_count > BUCKETS_MIN:
            self.resize_buckets(self.buckets_count // 4)
        return 0

    cdef int clear(self) noexcept:
        """Forget everything and give all memory back."""
        cdef uint32_t chunk
        for chunk in range(1, self.chunks_used):
            free(self.chunks[chunk].messages)
        free(self.chunks)
        free(self.buckets)
        self.chunks, self.buckets = NULL, NULL
        self.chunks_used = self.chunks_capacity = self.chunks_alive = self.chunks_gone = 0
        self.buckets_count = self.bucket_shift = 0
        self.lowest_link = self.highest_link = self.oldest_link = self.youngest_link = 0
        self.count = self.redelivered = 0
        return 0

    cdef uint64_t memory_bytes(self) noexcept:
        """Return what it has allocated: chunks, their list and the table."""
        return (<uint64_t>self.chunks_alive * CHUNK_MESSAGES * sizeof(pending_t)
                + self.chunks_capacity * sizeof(chunk_t) + self.buckets_count * sizeof(uint32_t))

    cdef int resize_buckets(self, uint32_t count) noexcept:
        """Make the table one of `count` buckets, a power of two; it stays as it is when there is no
        memory."""
        cdef uint32_t *buckets
        cdef uint32_t link, bucket
        cdef pending_t *one
        if count == 0 or count < BUCKETS_MIN:
            return 0
        buckets = <uint32_t *>calloc(count, sizeof(uint32_t))
        if buckets == NULL:
            return 0
        free(self.buckets)
        self.buckets, self.buckets_count = buckets, count
        self.bucket_shift = 64 - <uint32_t>count_trailing_zeros(count)
        link = self.oldest_link
        while link != 0:
            one = self.at(link)
            bucket = self.bucket(one.sequence)
            one.chained = buckets[bucket]
            buckets[bucket] = link
            link = one.younger
        return 0

    cdef uint32_t take(self) except 0:
        """Return the link of a free place."""
        cdef uint32_t chunk = self.chunks[0].next if self.chunks != NULL else 0
        cdef uint32_t place
        cdef chunk_t *one
        if chunk == 0:
            chunk = self.add_chunk()
        one = self.chunks + chunk
        place = <uint32_t>count_trailing_zeros(one.free)
        one.free &= one.free - 1
        if one.free == 0:
            self.chunks[one.next].previous = one.previous
            self.chunks[one.previous].next = one.next
        return chunk << CHUNK_SHIFT | place

    cdef uint32_t add_chunk(self) except 0:
        """Add a chunk, the only one with free places then."""
        cdef uint32_t capacity = max(self.chunks_capacity * 2, <uint32_t>CHUNKS_MIN)
        cdef uint32_t chunk = self.chunks_gone
        cdef chunk_t *chunks
        cdef pending_t *messages
        if chunk == 0 and self.chunks_used == self.chunks_capacity:
            if capacity > CHUNKS_MAX:
                raise MemoryError
            chunks = <chunk_t *>realloc(self.chunks, capacity * sizeof(chunk_t))
            if chunks == NULL:
                raise MemoryError
            if self.chunks_used == 0:
                chunks[0].messages = NULL
                chunks[0].free = chunks[0].next = chunks[0].previous = 0
                self.chunks_used = 1
            self.chunks, self.chunks_capacity = chunks, capacity
        messages = <pending_t *>malloc(CHUNK_MESSAGES * sizeof(pending_t))
        if messages == NULL:
            raise MemoryError
        if chunk == 0:
            chunk = self.chunks_used
            self.chunks_used += 1
        else:
            self.chunks_gone = self.chunks[chunk].next
        self.chunks_alive += 1
        self.chunks[chunk].messages = messages
        self.chunks[chunk].free = ALL_FREE
        self.chunks[chunk].next = self.chunks[chunk].previous = 0
        self.chunks[0].next = self.chunks[0].previous = chunk
        return chunk

    cdef int give(self, uint32_t link) noexcept:
        """Take a place back; a chunk without messages goes, unless it is the only one with free places."""
        cdef uint32_t chunk = link >> CHUNK_SHIFT
        cdef chunk_t *one = self.chunks + chunk
        cdef chunk_t *head = self.chunks
        cdef bint was_full = one.free == 0
        one.free |= <uint32_t>1 << (link & CHUNK_MASK)
        if was_full:
            one.next, one.previous = head.next, 0
            self.chunks[head.next].previous = chunk
            head.next = chunk
        if one.free == ALL_FREE and head.next != head.previous:
            self.chunks[one.next].previous = one.previous
            self.chunks[one.previous].next = one.next
            free(one.messages)
            one.messages = NULL
            self.chunks_alive -= 1
            one.next = self.chunks_gone
            self.chunks_gone = chunk
        return 0
