# cython: language_level=3, embedsignature=True, wraparound=False
"""Message ids (Nats-Msg-Id) that a stream has seen within its duplicate window, and their sequences.

Entries lie one behind the other in chunks, in the order they came, which is the order in which they grow too
old: to forget is to move `head` on and to give chunks back. A hash table of 8-byte slots leads to them; a slot
that leads below `head` is dead and needs no cleaning. When the slots run out, a new table is filled by the adds
that follow, two entries each, so that no add stops for a whole table: a window of two minutes holds tens of
millions of ids on a busy stream.

An id costs 20 bytes, its own, padding to 8, and 13 to 32 for its slot; nothing of it is a Python object.
"""

import os

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from workers.octets cimport hash_bytes

cdef enum:
    # Of an id_t without the padding behind its last field, where the id begins.
    ENTRY_BYTES = 20
    ENTRY_POSITIONS_MIN = 3
    # 256 KiB, in positions of 8 bytes: what is not written to is not in memory yet. Holds the longest id that a
    # header block can carry (65,535 bytes).
    CHUNK_SHIFT = 15
    CHUNK_POSITIONS = 1 << CHUNK_SHIFT
    TABLE_SIZE_MIN = 64
    # An add drops so many entries that are too old, so that they go twice as fast as they come.
    DROPS_PER_ADD = 2
    # So many entries get their slot in a new table with every add.
    MOVES_PER_ADD = 2
    # In place of a length: the chunk holds no further entry.
    CHUNK_END = 0xFFFFFFFF

cdef uint64_t POSITION_MASK = (<uint64_t>1 << 48) - 1
LENGTH_MAX = 0xFFFF


cdef class DedupTable:
    """The ids of one stream."""

    def __cinit__(self, int64_t window_ns, load=None):
        """Keep ids for `window_ns`; 0: keep none.

        Args:
            load: called with the table before its first use, to put what a stream held at its start; most
                streams never need it.
        """
        self.window_ns, self.load = window_ns, load
        self.seed = int.from_bytes(os.urandom(8), "little")

    def __dealloc__(self):
        cdef uint64_t index
        for index in range(self.chunk_slots):
            free(self.chunks[index])
        free(self.chunks)
        free(self.table.slots)
        free(self.old.slots)

    # What the rest of the worker calls.

    cdef uint64_t find(self, const uint8_t *id, uint32_t length,
                       int64_t now_ns) except? 0xFFFFFFFFFFFFFFFF:
        cdef uint64_t hash, position
        if self.load is not None:
            self.prepare()
        if self.count == 0:
            return 0
        hash = hash_bytes(id, length, self.seed)
        position = self.lookup(&self.table, id, length, hash)
        if self.old.size:
            # Of an id that came twice the new table may have the first one yet, and the old one both.
            position = max(position, self.lookup(&self.old, id, length, hash))
        if position == 0 or now_ns - self.entry_at(position).stored_ns >= self.window_ns:
            return 0
        return self.entry_at(position).sequence

    cdef int add(self, const uint8_t *id, uint32_t length, uint64_t sequence, int64_t now_ns) except -1:
        cdef uint64_t hash, position
        cdef id_t *entry
        if self.window_ns <= 0 or length == 0:
            return 0
        if self.load is not None:
            self.prepare()
        if length > LENGTH_MAX:
            raise ValueError(f"message id of {length} bytes, at most {LENGTH_MAX} are possible")
        self.drop_old(now_ns, DROPS_PER_ADD)
        if self.table.used * 4 >= self.table.size * 3 and self.old.size == 0:
            self.begin_move()
        position = self.claim(length)
        hash = hash_bytes(id, length, self.seed)
        entry = self.entry_at(position)
        entry.stored_ns, entry.sequence = now_ns, sequence
        entry.length = length
        memcpy(<uint8_t *>entry + ENTRY_BYTES, id, length)
        self.last = position
        self.count += 1
        self.insert(position, hash)
        if self.old.size:
            self.move_entries()
        return 0

    cdef int prepare(self) except -1:
        """Have what the stream held at its start in the table."""
        load, self.load = self.load, None
        load(self)
        return 0

    # Entries.

    cdef id_t *entry_at(self, uint64_t position) noexcept nogil:
        return <id_t *>(self.chunks[(position >> CHUNK_SHIFT) & (self.chunk_slots - 1)]
                        + (position & (CHUNK_POSITIONS - 1)) * 8)

    cdef uint64_t after(self, uint64_t position) noexcept nogil:
        """Return the position of the entry behind one that is not the newest."""
        cdef uint64_t next_position = position + ((ENTRY_BYTES + self.entry_at(position).length + 7) >> 3)
        cdef uint64_t within = next_position & (CHUNK_POSITIONS - 1)
        if within and (CHUNK_POSITIONS - within < ENTRY_POSITIONS_MIN
                       or self.entry_at(next_position).length == CHUNK_END):
            return (next_position | (CHUNK_POSITIONS - 1)) + 1
        return next_position

    cdef uint64_t claim(self, uint32_t length) except 0:
        """Make room for an entry at the tail and return its position, which is never 0."""
        cdef uint64_t needed = (ENTRY_BYTES + <uint64_t>length + 7) >> 3
        cdef uint64_t left = CHUNK_POSITIONS - (self.tail & (CHUNK_POSITIONS - 1))
        cdef uint64_t position, first, number, slots
        cdef uint8_t **grown
        cdef uint8_t *chunk
        if self.tail == 0:
            self.head = self.tail = CHUNK_POSITIONS
            left = CHUNK_POSITIONS
        position = self.tail if needed <= left else self.tail + left
        if position & (CHUNK_POSITIONS - 1) == 0:
            first, number = self.head >> CHUNK_SHIFT, position >> CHUNK_SHIFT
            if number - first >= self.chunk_slots:
                slots = max(self.chunk_slots * 2, <uint64_t>1)
                grown = <uint8_t **>calloc(slots, sizeof(uint8_t *))
                if grown == NULL:
                    raise MemoryError
                while first < number and self.chunk_slots:
                    grown[first & (slots - 1)] = self.chunks[first & (self.chunk_slots - 1)]
                    first += 1
                free(self.chunks)
                self.chunks, self.chunk_slots = grown, slots
            chunk = <uint8_t *>malloc(CHUNK_POSITIONS * 8)
            if chunk == NULL:
                raise MemoryError
            self.chunks[number & (self.chunk_slots - 1)] = chunk
            if position != self.tail and left >= ENTRY_POSITIONS_MIN:
                self.entry_at(self.tail).length = CHUNK_END
        self.tail = position + needed
        return position

    cdef int drop_old(self, int64_t now_ns, uint64_t count_max) noexcept:
        """Forget at most `count_max` entries that are older than the window, the newest entry excepted."""
        cdef uint64_t chunk, next_head
        while count_max and self.count > 1 and now_ns - self.entry_at(self.head).stored_ns >= self.window_ns:
            chunk = self.head >> CHUNK_SHIFT
            next_head = self.after(self.head)
            if next_head >> CHUNK_SHIFT != chunk:
                free(self.chunks[chunk & (self.chunk_slots - 1)])
                self.chunks[chunk & (self.chunk_slots - 1)] = NULL
            self.head = next_head
            self.count -= 1
            count_max -= 1
        return 0

    # Slots.

    cdef uint64_t lookup(self, id_table_t *table, const uint8_t *id, uint32_t length,
                         uint64_t hash) noexcept nogil:
        """Return the position of an id's entry, or 0."""
        cdef uint64_t at = hash & (table.size - 1)
        cdef uint64_t tag = hash >> 48
        cdef uint64_t slot, position
        cdef id_t *entry
        while True:
            slot = table.slots[at]
            if slot == 0:
                return 0
            position = (slot & POSITION_MASK) - 1
            if slot >> 48 == tag and position >= self.head:
                entry = self.entry_at(position)
                if entry.length == length and memcmp(<uint8_t *>entry + ENTRY_BYTES, id, length) == 0:
                    return position
            at = (at + 1) & (table.size - 1)

    cdef int insert(self, uint64_t position, uint64_t hash) noexcept:
        """Lead to an entry, in place of a dead slot, of an older entry with the same id, or of an empty one."""
        cdef id_t *entry = self.entry_at(position)
        cdef id_t *found
        cdef uint64_t at = hash & (self.table.size - 1)
        cdef uint64_t free_at = self.table.size
        cdef uint64_t slot, other
        while True:
            slot = self.table.slots[at]
            if slot == 0:
                break
            other = (slot & POSITION_MASK) - 1
            if other < self.head:
                if free_at == self.table.size:
                    free_at = at
            elif slot >> 48 == hash >> 48:
                found = self.entry_at(other)
                if found.length == entry.length and memcmp(<uint8_t *>found + ENTRY_BYTES,
                                                           <uint8_t *>entry + ENTRY_BYTES, entry.length) == 0:
                    # The newer one wins whichever of them comes first.
                    if other < position:
                        self.table.slots[at] = (hash >> 48) << 48 | (position + 1)
                    return 0
            at = (at + 1) & (self.table.size - 1)
        if free_at == self.table.size:
            free_at = at
            self.table.used += 1
        self.table.slots[free_at] = (hash >> 48) << 48 | (position + 1)
        return 0

    cdef int begin_move(self) except -1:
        """Start a table for the entries there are; the adds that follow fill it."""
        cdef uint64_t size = TABLE_SIZE_MIN
        cdef uint64_t *slots
        # At most 7/16 full when all are moved. That takes up to 7/32 of `size` adds, two moves each, so that it
        # stays below 3/4 meanwhile.
        while self.count * 16 > size * 7:
            size *= 2
        slots = <uint64_t *>calloc(size, sizeof(uint64_t))
        if slots == NULL:
            raise MemoryError
        if self.count:
            self.old = self.table
            self.moving, self.moving_end = self.head, self.last
        else:
            free(self.table.slots)
        self.table.slots, self.table.size, self.table.used = slots, size, 0
        return 0

    cdef int move_entries(self) noexcept:
        """Have the new table lead to the next few entries, in the order in which they lie in memory."""
        cdef int moves = MOVES_PER_ADD
        cdef id_t *entry
        self.moving = max(self.moving, self.head)
        while moves and self.moving <= self.moving_end:
            entry = self.entry_at(self.moving)
            self.insert(self.moving, hash_bytes(<uint8_t *>entry + ENTRY_BYTES, entry.length, self.seed))
            self.moving = self.after(self.moving)
            moves -= 1
        if self.moving > self.moving_end:
            free(self.old.slots)
            self.old.slots, self.old.size = NULL, 0
        return 0

    # For Python.

    def __len__(self):
        """Return how many ids are kept, some perhaps too old already."""
        return self.count

    def get(self, bytes id not None, int64_t now_ns):
        """Return the sequence that was stored with an id within the window, or 0."""
        return self.find(<const uint8_t *><char *>id, <uint32_t>len(id), now_ns)

    def put(self, bytes id not None, uint64_t sequence, int64_t now_ns):
        """Keep an id that was stored at Unix time `now_ns`, which is not before that of the last one.

        Raises:
            ValueError: it is longer than 65,535 bytes.
        """
        if len(id) > LENGTH_MAX:
            raise ValueError(f"message id of {len(id)} bytes, at most {LENGTH_MAX} are possible")
        self.add(<const uint8_t *><char *>id, <uint32_t>len(id), sequence, now_ns)

    def put_new(self, list ids not None, uint64_t sequence, int64_t now_ns):
        """Keep those ids that are not known, with sequences from `sequence` on; return how many are new.

        This is what a publish does, without the rest of it: for measurements.
        """
        cdef bytes id
        cdef uint64_t first = sequence
        for id in ids:
            if not self.find(<const uint8_t *><char *>id, <uint32_t>len(id), now_ns):
                self.add(<const uint8_t *><char *>id, <uint32_t>len(id), sequence, now_ns)
                sequence += 1
        return sequence - first

    def expire(self, int64_t now_ns):
        """Forget all ids that are older than the window, the newest excepted; return how many."""
        cdef uint64_t before = self.count
        self.drop_old(now_ns, before)
        return before - self.count

    def set_window(self, int64_t window_ns):
        """Use another window from now on; 0 forgets everything with the next `expire` and keeps nothing."""
        self.window_ns = window_ns

    def newest(self):
        """Return (sequence, id) of the id that was added last, or (0, b"")."""
        cdef id_t *entry
        if self.load is not None:
            self.prepare()
        if self.count == 0:
            return 0, b""
        entry = self.entry_at(self.last)
        return entry.sequence, (<uint8_t *>entry + ENTRY_BYTES)[:entry.length]

    def stats(self):
        """Return {"ids", "bytes", "slots"}: memory held, for tests and measurements."""
        cdef uint64_t index, chunks = 0
        for index in range(self.chunk_slots):
            chunks += self.chunks[index] != NULL
        return {"ids": self.count, "bytes": chunks * CHUNK_POSITIONS * 8, "slots": self.table.size + self.old.size}
