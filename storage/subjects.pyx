# cython: language_level=3, embedsignature=True, wraparound=False
"""The distinct subjects of one stream: name ↔ id, and per subject its first, last and count.

An id is the index of a 32-byte entry; names lie packed in one block; a table of 4-byte slots finds an id by
hash. A
subject whose last message went away gives its id back, and the id is used again: rows of deleted messages
may then carry an id that means something else now, so whoever scans rows looks at the dead bitmap too.

A SubjectFilter says which ids match a set of patterns: one byte per id, brought up to date from the table's
list of changes instead of by matching every subject again. `*` stands for one token, `>` as last token for
one or more.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from storage.writer cimport discard

cdef enum:
    SLOTS_AT_FIRST = 16


cdef inline uint32_t hash_name(const uint8_t *name, uint32_t length) noexcept nogil:
    """Mix eight bytes at a time; not keyed: the ids of one stream are bounded by its own limits."""
    cdef uint64_t state = <uint64_t>0x9E3779B97F4A7C15 ^ length
    cdef uint64_t word
    cdef uint32_t at = 0
    while at + 8 <= length:
        memcpy(&word, name + at, 8)
        state = (state ^ word) * <uint64_t>0xFF51AFD7ED558CCD
        state ^= state >> 32
        at += 8
    if at < length:
        word = 0
        memcpy(&word, name + at, length - at)
        state = (state ^ word) * <uint64_t>0xFF51AFD7ED558CCD
        state ^= state >> 32
    state *= <uint64_t>0xC4CEB9FE1A85EC53
    return <uint32_t>(state >> 32)


cdef class SubjectTable:
    """The subjects of a stream."""

    def __cinit__(self):
        self.entries = NULL
        self.names = NULL
        self.changes = NULL
        self.slots = <uint32_t *>calloc(SLOTS_AT_FIRST, sizeof(uint32_t))
        if self.slots == NULL:
            raise MemoryError
        self.slot_mask = SLOTS_AT_FIRST - 1

    def __dealloc__(self):
        discard(self.entries, self.capacity * sizeof(subject_t))
        discard(self.names, self.names_capacity)
        discard(self.slots, (<size_t>self.slot_mask + 1) * sizeof(uint32_t))
        free(self.changes)

    def __len__(self):
        return self.used

    cdef const uint8_t *name_of(self, uint32_t id, uint32_t *length) noexcept:
        """Return where the name of `id` lies (until the next intern) and set its length in bytes."""
        cdef const uint8_t *at = self.names + self.entries[id].name
        length[0] = at[0] | (<uint32_t>at[1] << 8)
        return at + 2

    cdef bytes name(self, uint32_t id):
        cdef uint32_t length = 0
        cdef const uint8_t *at = self.name_of(id, &length)
        return PyBytes_FromStringAndSize(<const char *>at, length)

    cdef int64_or_error find(self, const uint8_t *name, uint32_t length) noexcept:
        """Return the id of a subject, or -1: it holds no message."""
        cdef uint32_t hash = hash_name(name, length)
        cdef uint32_t slot = hash & self.slot_mask
        cdef uint32_t found, found_length = 0
        cdef const uint8_t *found_name
        while True:
            found = self.slots[slot]
            if found == 0:
                return -1
            if self.entries[found - 1].hash == hash:
                found_name = self.name_of(found - 1, &found_length)
                if found_length == length and memcmp(found_name, name, length) == 0:
                    return found - 1
            slot = (slot + 1) & self.slot_mask

    cdef int64_or_error intern(self, const uint8_t *name, uint32_t length) except -1:
        """Return the id of a subject, giving it one with count 0 when it has none.

        The caller raises the count, or calls release.
        """
        cdef int64_or_error known = self.find(name, length)
        cdef uint32_t id, hash, slot
        cdef subject_t *entry
        if known >= 0:
            return known
        if (<uint64_t>self.used + 1) * 3 > <uint64_t>(self.slot_mask + 1) * 2:
            self.rebuild_slots((self.slot_mask + 1) * 2)
        if self.names_used + length + 2 > self.names_capacity:
            self.grow_names(self.names_used + length + 2)
        if self.free_head:
            id = self.free_head - 1
            self.free_head = <uint32_t>self.entries[id].last
        else:
            if self.size == self.capacity:
                self.grow_entries(self.size + 1)
            id = self.size
            self.size += 1
        hash = hash_name(name, length)
        entry = &self.entries[id]
        entry.first = entry.last = 0
        entry.count = 0
        entry.hash = hash
        entry.name = self.names_used
        self.names[self.names_used] = length & 255
        self.names[self.names_used + 1] = (length >> 8) & 255
        memcpy(self.names + self.names_used + 2, name, length)
        self.names_used += length + 2
        slot = hash & self.slot_mask
        while self.slots[slot]:
            slot = (slot + 1) & self.slot_mask
        self.slots[slot] = id + 1
        self.used += 1
        self.add_change(id)
        return id

    cdef int release(self, uint32_t id) except -1:
        """Give back the id of a subject whose count came down to 0."""
        cdef uint32_t length = 0
        cdef uint32_t slot = self.entries[id].hash & self.slot_mask
        cdef uint32_t hole, home
        self.name_of(id, &length)
        while self.slots[slot] != id + 1:
            slot = (slot + 1) & self.slot_mask
        # Close the gap: move back every later entry of the run that may not lie behind its home slot.
        hole = slot
        while True:
            slot = (slot + 1) & self.slot_mask
            if self.slots[slot] == 0:
                break
            home = self.entries[self.slots[slot] - 1].hash & self.slot_mask
            if ((slot - home) & self.slot_mask) >= ((slot - hole) & self.slot_mask):
                self.slots[hole] = self.slots[slot]
                hole = slot
        self.slots[hole] = 0
        self.entries[id].count = 0
        self.entries[id].last = self.free_head
        self.free_head = id + 1
        self.used -= 1
        self.names_dead += length + 2
        if self.names_dead > 65536 and self.names_dead * 2 > self.names_used:
            self.compact_names()
        return 0

    cdef int compact_names(self) except -1:
        """Copy the names in use together; freed ones go."""
        cdef uint64_t capacity = self.names_used - self.names_dead + 65536
        cdef uint8_t *fresh = <uint8_t *>malloc(capacity)
        cdef uint64_t used = 0
        cdef uint32_t id, length = 0
        cdef const uint8_t *name
        if fresh == NULL:
            raise MemoryError
        for id in range(self.size):
            if self.slot_holds(id):
                name = self.name_of(id, &length)
                memcpy(fresh + used, name - 2, length + 2)
                self.entries[id].name = used
                used += length + 2
        free(self.names)
        self.names, self.names_used, self.names_capacity, self.names_dead = fresh, used, capacity, 0
        return 0

    cdef bint slot_holds(self, uint32_t id) noexcept:
        """Tell whether an id is in use, count 0 included (between intern and its first message)."""
        cdef uint32_t slot = self.entries[id].hash & self.slot_mask
        while self.slots[slot]:
            if self.slots[slot] == id + 1:
                return True
            slot = (slot + 1) & self.slot_mask
        return False

    cdef int grow_names(self, uint64_t needed) except -1:
        cdef uint64_t capacity = max(needed, self.names_capacity + self.names_capacity // 2, 64)
        cdef uint8_t *names = <uint8_t *>realloc(self.names, capacity)
        if names == NULL:
            raise MemoryError
        self.names, self.names_capacity = names, capacity
        return 0

    cdef int grow_entries(self, uint32_t needed) except -1:
        cdef uint32_t capacity = max(needed, self.capacity + self.capacity // 2, 4)
        cdef subject_t *entries = <subject_t *>realloc(self.entries, capacity * sizeof(subject_t))
        if entries == NULL:
            raise MemoryError
        self.entries, self.capacity = entries, capacity
        return 0

    cdef int rebuild_slots(self, uint32_t capacity) except -1:
        """Make `capacity` (a power of two) slots and put every id in use into them."""
        cdef uint32_t *slots = <uint32_t *>calloc(capacity, sizeof(uint32_t))
        cdef uint32_t *old = self.slots
        cdef uint32_t old_capacity = self.slot_mask + 1
        cdef uint32_t at, slot
        if slots == NULL:
            raise MemoryError
        self.slot_mask = capacity - 1
        for at in range(old_capacity):
            if old[at]:
                slot = self.entries[old[at] - 1].hash & self.slot_mask
                while slots[slot]:
                    slot = (slot + 1) & self.slot_mask
                slots[slot] = old[at]
        self.slots = slots
        free(old)
        return 0

    cdef int add_change(self, uint32_t id) except -1:
        cdef uint32_t *changes
        if self.changes_count > 2 * self.size + 1024:
            self.changes_base += self.changes_count
            self.changes_count = 0
        if self.changes_count == self.changes_capacity:
            changes = <uint32_t *>realloc(self.changes, (self.changes_capacity * 2 + 8) * sizeof(uint32_t))
            if changes == NULL:
                raise MemoryError
            self.changes, self.changes_capacity = changes, self.changes_capacity * 2 + 8
        self.changes[self.changes_count] = id
        self.changes_count += 1
        return 0

    cdef int reset(self) except -1:
        """Forget every subject at once."""
        cdef uint32_t *slots = <uint32_t *>calloc(SLOTS_AT_FIRST, sizeof(uint32_t))
        if slots == NULL:
            raise MemoryError
        discard(self.slots, (<size_t>self.slot_mask + 1) * sizeof(uint32_t))
        discard(self.entries, self.capacity * sizeof(subject_t))
        discard(self.names, self.names_capacity)
        self.slots, self.slot_mask = slots, SLOTS_AT_FIRST - 1
        self.entries, self.names = NULL, NULL
        self.capacity, self.names_capacity = 0, 0
        self.size = self.used = self.free_head = 0
        self.names_used = self.names_dead = 0
        # Filters see a base above their position and start over.
        self.changes_base += self.changes_count + 1
        self.changes_count = 0
        return 0

    def export(self):
        """Return the table as bytes for a checkpoint: sizes, entries, names."""
        cdef uint64_t head[4]
        head[0], head[1], head[2], head[3] = self.size, self.used, self.free_head, self.names_used
        cdef Py_ssize_t entries_bytes = <Py_ssize_t>self.size * <Py_ssize_t>sizeof(subject_t)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, 32 + entries_bytes + <Py_ssize_t>self.names_used)
        cdef char *at = PyBytes_AS_STRING(out)
        memcpy(at, head, 32)
        memcpy(at + 32, self.entries, entries_bytes)
        memcpy(at + 32 + entries_bytes, self.names, self.names_used)
        return out

    @staticmethod
    def restore(bytes data not None):
        """Return the table that `export` described.

        Raises:
            ValueError: the sizes do not fit (the caller checks a CRC, so the file was made by something
            else).
        """
        cdef SubjectTable table = SubjectTable()
        cdef uint64_t head[4]
        cdef const char *at = PyBytes_AS_STRING(data)
        cdef uint64_t entries_bytes
        cdef uint32_t id, slot, slots
        cdef uint64_t live_names = 0
        cdef uint32_t length = 0
        if PyBytes_GET_SIZE(data) < 32:
            raise ValueError("subject table: no header")
        memcpy(head, at, 32)
        entries_bytes = head[0] * sizeof(subject_t)
        if head[0] > 0xFFFFFFF0 or 32 + entries_bytes + head[3] != <uint64_t>PyBytes_GET_SIZE(data):
            raise ValueError(f"subject table: {len(data)} bytes for {head[0]} entries, {head[3]} of names")
        if head[0]:
            table.grow_entries(<uint32_t>head[0])
        if head[3]:
            table.grow_names(head[3])
        memcpy(table.entries, at + 32, entries_bytes)
        memcpy(table.names, at + 32 + entries_bytes, head[3])
        table.size, table.used, table.free_head = <uint32_t>head[0], <uint32_t>head[1], <uint32_t>head[2]
        table.names_used = head[3]
        slots = SLOTS_AT_FIRST
        while <uint64_t>slots * 2 < head[1] * 3 + 3:
            slots *= 2
        table.rebuild_slots(slots)
        for id in range(table.size):
            if table.entries[id].count == 0:
                continue
            if table.entries[id].name + 2 > head[3]:
                raise ValueError(f"subject table: name of {id} at {table.entries[id].name}")
            slot = table.entries[id].hash & table.slot_mask
            while table.slots[slot]:
                slot = (slot + 1) & table.slot_mask
            table.slots[slot] = id + 1
            table.name_of(id, &length)
            live_names += length + 2
        table.names_dead = table.names_used - live_names
        return table

    def memory_bytes(self):
        """Return how many bytes the table has allocated."""
        return (
            self.capacity * sizeof(subject_t) + self.names_capacity + (<uint64_t>self.slot_mask + 1) * 4
            + self.changes_capacity * 4
        )


cdef list split_pattern(bytes pattern):
    """Return the tokens of a pattern, or None when it has no wildcard."""
    tokens = pattern.split(b".")
    return tokens if b"*" in tokens or tokens[len(tokens) - 1] == b">" else None


cdef bint match_tokens(list tokens, const uint8_t *name, uint32_t length) noexcept:
    """Tell whether a literal subject matches the tokens of a pattern."""
    cdef Py_ssize_t index = 0
    cdef Py_ssize_t count = len(tokens)
    cdef const uint8_t *end = name + length
    cdef const uint8_t *dot
    cdef const char *token
    cdef Py_ssize_t size, token_size
    while index < count:
        token = PyBytes_AS_STRING(<bytes>tokens[index])
        token_size = PyBytes_GET_SIZE(<bytes>tokens[index])
        if token_size == 1 and token[0] == b">" and index == count - 1:
            return True
        dot = <const uint8_t *>memchr(name, b".", end - name)
        size = (dot if dot != NULL else end) - name
        if not (token_size == 1 and token[0] == b"*"):
            if size != token_size or memcmp(token, name, size) != 0:
                return False
        index += 1
        if dot == NULL:
            return index == count
        name = dot + 1
    return False


cdef class SubjectFilter:
    """Which subjects of one table match a set of patterns."""

    def __cinit__(self, SubjectTable table not None, patterns):
        self.table = table
        self.marks = NULL
        self.patterns = tuple(patterns) or (b">",)
        self.tokens = [split_pattern(pattern) for pattern in self.patterns]
        self.matches_all = b">" in self.patterns
        self.is_literal = len(self.patterns) == 1 and self.tokens[0] is None
        # Below any base: the first refresh looks at every subject.
        self.position = 0
        self.marked = 0

    def __dealloc__(self):
        free(self.marks)

    cdef bint matches(self, const uint8_t *name, uint32_t length) noexcept:
        cdef Py_ssize_t index
        cdef bytes pattern
        for index in range(len(self.tokens)):
            if self.tokens[index] is None:
                pattern = <bytes>self.patterns[index]
                if PyBytes_GET_SIZE(pattern) == length and memcmp(PyBytes_AS_STRING(pattern), name,
                                                                  length) == 0:
                    return True
            elif match_tokens(<list>self.tokens[index], name, length):
                return True
        return False

    def matches_subject(self, bytes subject not None):
        """Tell whether a literal subject matches."""
        return self.matches(<const uint8_t *>PyBytes_AS_STRING(subject), <uint32_t>PyBytes_GET_SIZE(subject))

    cdef int64_or_error literal_id(self) noexcept:
        """Return the id of the only subject that can match, or -1: it holds nothing. Only when is_literal."""
        cdef bytes pattern = <bytes>self.patterns[0]
        return self.table.find(<const uint8_t *>PyBytes_AS_STRING(pattern),
                               <uint32_t>PyBytes_GET_SIZE(pattern))

    cdef int refresh(self) except -1:
        """Bring `marks` up to date for every id of the table."""
        cdef SubjectTable table = self.table
        cdef uint32_t id, length = 0
        cdef uint64_t at
        cdef const uint8_t *name
        cdef uint8_t *marks
        if self.capacity < table.size:
            marks = <uint8_t *>realloc(self.marks, table.size + table.size // 4 + 16)
            if marks == NULL:
                raise MemoryError
            self.marks, self.capacity = marks, table.size + table.size // 4 + 16
        if self.position < table.changes_base or self.marked == 0:
            memset(self.marks, 0, table.size)
            if self.is_literal:
                if self.literal_id() >= 0:
                    self.marks[self.literal_id()] = 1
            elif self.matches_all:
                memset(self.marks, 1, table.size)
            else:
                for id in range(table.size):
                    if table.entries[id].count:
                        name = table.name_of(id, &length)
                        self.marks[id] = self.matches(name, length)
        else:
            for at in range(self.position - table.changes_base, table.changes_count):
                id = table.changes[at]
                if self.matches_all:
                    self.marks[id] = 1
                elif table.slot_holds(id):
                    name = table.name_of(id, &length)
                    self.marks[id] = self.matches(name, length)
        self.marked = table.size
        self.position = table.changes_base + table.changes_count
        return 0
