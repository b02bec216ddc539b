# cython: language_level=3, embedsignature=True, wraparound=False
"""Where every message of a stream is: columns per segment, and what is known per subject.

A segment has one row per sequence from its base on, 24 bytes in five columns, and one bit that says deleted.
Rows are found by subtraction. The columns of a sealed segment are dropped when nobody asked for a while, and
read again from the sidecar (storage/sidecar.py) when somebody does: sealed and unread, a message costs its
bit.

Messages of one subject are chained backwards: a row knows the distance to the one before. Deleting does not
touch the chain; a walk steps over dead rows, and falls back to a scan of the subject column (about 4 rows in
a nanosecond) where the chain leads into a segment that is gone. Per subject, `first` is only a lower bound
that `first_of` makes exact.

It knows nothing of bytes on disk but the offset that it is told. All of it belongs to one thread.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from storage.subjects cimport subject_t
from storage.writer cimport discard


cdef extern from *:
    int count_trailing_zeros "__builtin_ctzll"(unsigned long long) nogil
    int count_leading_zeros "__builtin_clzll"(unsigned long long) nogil
    int count_ones "__builtin_popcountll"(unsigned long long) nogil


cdef class Segment:
    """The rows of one log file."""

    def __cinit__(self, uint64_t base, LogFile log not None):
        self.base, self.log = base, log
        self.block = NULL
        self.dead = NULL

    def __dealloc__(self):
        discard(self.block, <size_t>self.capacity * ROW_BYTES)
        free(self.dead)

    @property
    def last(self):
        """The last sequence that it has a row for; base - 1 when there is none."""
        return self.base + self.rows - 1

    @property
    def is_loaded(self):
        """Whether the columns are in memory."""
        return self.block != NULL or self.rows == 0

    @property
    def dead_rows(self):
        """How many rows hold no live message."""
        return self.rows - self.live

    cdef int point_into(self, uint8_t *block, uint32_t capacity) noexcept:
        self.block, self.capacity = block, capacity
        self.timestamp = <int64_t *>block
        self.offset = <uint32_t *>(block + <size_t>capacity * 8)
        self.subject = self.offset + capacity
        self.size = self.subject + capacity
        self.previous = self.size + capacity
        return 0

    cdef int grow(self, uint32_t capacity) except -1:
        """Make room for `capacity` rows; every column moves."""
        cdef uint8_t *block = <uint8_t *>malloc(<size_t>capacity * ROW_BYTES)
        cdef uint8_t *old = self.block
        cdef uint32_t old_capacity = self.capacity
        if block == NULL:
            raise MemoryError
        cdef Py_ssize_t column
        if old != NULL:
            memcpy(block, old, <size_t>self.rows * 8)
            for column in range(4):
                memcpy(block + <size_t>capacity * (8 + 4 * column),
                       old + <size_t>old_capacity * (8 + 4 * column), <size_t>self.rows * 4)
            discard(old, <size_t>old_capacity * ROW_BYTES)
        self.point_into(block, capacity)
        return 0

    cdef int grow_dead(self) except -1:
        """Make the bitmap cover every row."""
        cdef uint32_t needed = (max(self.rows, 1) + 63) // 64
        cdef uint64_t *dead
        if self.dead_words >= needed:
            return 0
        if not self.is_sealed:
            needed += needed // 2 + 4
        dead = <uint64_t *>realloc(self.dead, needed * 8)
        if dead == NULL:
            raise MemoryError
        memset(dead + self.dead_words, 0, (needed - self.dead_words) * 8)
        self.dead, self.dead_words = dead, needed
        return 0

    cdef int cut(self, uint32_t rows) except -1:
        """Forget the rows from `rows` on, all of them dead; the columns must be loaded."""
        cdef uint32_t row
        if self.dead != NULL:
            # They may be rows of another segment later: their bits must not say anything any more.
            self.grow_dead()
            for row in range(rows, self.rows):
                self.dead[row >> 6] &= ~(<uint64_t>1 << (row & 63))
        self.rows = rows
        self.has_sidecar = False
        if rows:
            self.grow(rows)
            self.last_timestamp = self.timestamp[rows - 1]
        return 0

    cdef uint32_t row_at(self, int64_t timestamp_ns) noexcept:
        """Return the first row stored at or after a Unix time in ns, or `rows`; the columns must be loaded."""
        cdef uint32_t low = 0
        cdef uint32_t high = self.rows
        cdef uint32_t middle
        while low < high:
            middle = (low + high) // 2
            if self.timestamp[middle] < timestamp_ns:
                low = middle + 1
            else:
                high = middle
        return low

    cdef uint32_t next_live_row(self, uint32_t row) noexcept:
        """Return the first live row at or after `row`, or `rows`."""
        cdef uint64_t word
        cdef uint32_t at
        if row >= self.rows or self.live == 0:
            return self.rows
        if self.dead == NULL:
            return row
        at = row >> 6
        word = ~self.dead[at] & (<uint64_t>0xFFFFFFFFFFFFFFFF << (row & 63))
        while word == 0:
            at += 1
            if at >= self.dead_words:
                row = at * 64
                return row if row < self.rows else self.rows
            word = ~self.dead[at]
        row = at * 64 + <uint32_t>count_trailing_zeros(word)
        return row if row < self.rows else self.rows

    cdef long long last_live_row(self, uint32_t row) noexcept:
        """Return the last live row at or before `row` (below `rows`), or -1."""
        cdef uint64_t word
        cdef long long at
        if self.dead == NULL:
            return row
        at = row >> 6
        if at >= self.dead_words:
            return row
        word = ~self.dead[at] & (<uint64_t>0xFFFFFFFFFFFFFFFF >> (63 - (row & 63)))
        while word == 0:
            at -= 1
            if at < 0:
                return -1
            word = ~self.dead[at]
        return at * 64 + 63 - count_leading_zeros(word)

    def export_columns(self):
        """Return the columns as bytes, packed to `rows`."""
        cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>self.rows * ROW_BYTES)
        cdef char *at = PyBytes_AS_STRING(out)
        cdef size_t rows = self.rows
        if rows:
            memcpy(at, self.timestamp, rows * 8)
            memcpy(at + rows * 8, self.offset, rows * 4)
            memcpy(at + rows * 12, self.subject, rows * 4)
            memcpy(at + rows * 16, self.size, rows * 4)
            memcpy(at + rows * 20, self.previous, rows * 4)
        return out

    def import_columns(self, bytes data not None):
        """Take columns as `export_columns` gave them; the number of rows must be the segment's.

        Raises:
            ValueError: another number of rows.
        """
        cdef uint8_t *block
        if PyBytes_GET_SIZE(data) != <Py_ssize_t>self.rows * ROW_BYTES:
            raise ValueError(f"columns of {len(data)} bytes for {self.rows} rows")
        block = <uint8_t *>malloc(len(data) or 1)
        if block == NULL:
            raise MemoryError
        memcpy(block, PyBytes_AS_STRING(data), len(data))
        free(self.block)
        self.point_into(block, self.rows)

    def drop_columns(self):
        """Give the memory of the columns back; only with has_sidecar."""
        assert self.has_sidecar and self.is_sealed
        discard(self.block, <size_t>self.capacity * ROW_BYTES)
        self.block = NULL
        self.capacity = 0

    def export_dead(self):
        """Return the bitmap of dead rows, b"" for none."""
        cdef Py_ssize_t size = (self.rows + 7) // 8
        if self.dead == NULL or self.live == self.rows:
            return b""
        self.grow_dead()
        return PyBytes_FromStringAndSize(<char *>self.dead, size)

    def restore(self, uint32_t rows, uint32_t live, uint64_t live_bytes, int64_t last_timestamp,
                bytes dead not None):
        """Set what a checkpoint knows of the segment; the columns come by import_columns."""
        self.rows, self.live, self.live_bytes, self.last_timestamp = rows, live, live_bytes, last_timestamp
        if dead:
            self.grow_dead()
            memcpy(self.dead, PyBytes_AS_STRING(dead), min(<size_t>PyBytes_GET_SIZE(dead),
                                                           self.dead_words * 8))

    def memory_bytes(self):
        """Return how many bytes the rows take in memory."""
        return <uint64_t>self.capacity * ROW_BYTES + <uint64_t>self.dead_words * 8

    def record_place(self, uint64_t sequence):
        """Return (offset, upper bound of the record's bytes) of a row; the columns must be loaded."""
        cdef uint32_t row = <uint32_t>(sequence - self.base)
        if sequence < self.base or row >= self.rows:
            raise ValueError(f"sequence {sequence} outside {self.base}..{self.last}")
        cdef uint64_t end = self.offset[row + 1] if row + 1 < self.rows else self.log.end
        return self.offset[row], end - self.offset[row]

    def move(self, list places not None, LogFile log not None):
        """Take over the places that compaction gave the records, one a row; `log` becomes the segment's."""
        cdef uint32_t row
        if len(places) != self.rows:
            raise ValueError(f"{len(places)} places for {self.rows} rows")
        for row in range(self.rows):
            self.offset[row] = places[row]
        self.log = log
        self.has_sidecar = False


cdef class StreamIndex:
    """The rows and subjects of one stream."""

    def __cinit__(self):
        self.subjects = SubjectTable()
        self.segments = []
        self.first_sequence, self.last_sequence = 1, 0
        self.lost = {}

    cdef Segment segment_of(self, uint64_t sequence):
        """Return the segment with a row for `sequence`, or None."""
        cdef Py_ssize_t index = self.segment_index(sequence)
        cdef Segment segment
        if index == len(self.segments):
            return None
        segment = <Segment>self.segments[index]
        return segment if segment.base <= sequence else None

    cdef int ensure(self, Segment segment) except -1:
        """Have the columns of a segment in memory."""
        segment.used_tick = self.tick
        if segment.block == NULL and segment.rows:
            self.backing.load_columns(self, segment)
        return 0

    cdef int add_row(self, uint64_t sequence, int64_t timestamp_ns, uint32_t id, uint32_t size,
                     uint32_t offset) except -1:
        """Add the message `sequence`, the next of the hot segment, and count it."""
        cdef Segment hot = self.hot
        cdef uint32_t row = hot.rows
        cdef subject_t *entry = &self.subjects.entries[id]
        cdef uint64_t distance
        if row == hot.capacity:
            hot.grow(max(16, hot.capacity + hot.capacity // 2))
        if hot.dead != NULL and row >= hot.dead_words * 64:
            hot.rows = row + 1
            hot.grow_dead()
        hot.timestamp[row] = timestamp_ns
        hot.offset[row] = offset
        hot.subject[row] = id
        hot.size[row] = size
        if entry.count == 0:
            hot.previous[row] = NO_PREVIOUS
            entry.first = sequence
        else:
            distance = sequence - entry.last
            hot.previous[row] = <uint32_t>distance if distance < FAR_PREVIOUS else FAR_PREVIOUS
        entry.last = sequence
        entry.count += 1
        hot.rows = row + 1
        hot.live += 1
        hot.live_bytes += size
        hot.last_timestamp = timestamp_ns
        if self.messages == 0:
            self.first_sequence = sequence
        self.last_sequence = sequence
        self.last_timestamp_ns = timestamp_ns
        self.messages += 1
        self.bytes += size
        return 0

    cdef int add_gap(self, uint64_t last, uint32_t offset) except -1:
        """Add rows that hold nothing up to the sequence `last`."""
        cdef Segment hot = self.hot
        cdef uint32_t row
        cdef uint64_t count = last - self.last_sequence
        while <uint64_t>hot.rows + count > hot.capacity:
            hot.grow(<uint32_t>max(hot.rows + count, hot.capacity + hot.capacity // 2))
        for row in range(hot.rows, <uint32_t>(hot.rows + count)):
            hot.timestamp[row] = hot.last_timestamp
            hot.offset[row] = offset
            hot.subject[row] = hot.size[row] = hot.previous[row] = 0
        row = hot.rows
        hot.rows = <uint32_t>(hot.rows + count)
        hot.grow_dead()
        for row in range(row, hot.rows):
            hot.dead[row >> 6] |= <uint64_t>1 << (row & 63)
        self.last_sequence = last
        if self.messages == 0:
            self.first_sequence = last + 1
        return 0

    cdef bint remove_row(self, uint64_t sequence) except -1:
        """Take the message `sequence` out; False: there is none."""
        cdef Segment segment = self.segment_of(sequence)
        cdef uint32_t row, id
        cdef subject_t *entry
        if segment is None:
            return False
        row = <uint32_t>(sequence - segment.base)
        if segment.is_dead(row):
            return False
        if segment.block == NULL:
            # Making the columns again may find that the message is lost.
            self.ensure(segment)
            if segment.is_dead(row):
                return False
        segment.used_tick = self.tick
        if segment.dead == NULL or (row >> 6) >= segment.dead_words:
            segment.grow_dead()
        segment.dead[row >> 6] |= <uint64_t>1 << (row & 63)
        segment.live -= 1
        segment.live_bytes -= segment.size[row]
        self.messages -= 1
        self.bytes -= segment.size[row]
        id = segment.subject[row]
        entry = &self.subjects.entries[id]
        entry.count -= 1
        if entry.count == 0:
            self.subjects.release(id)
        elif entry.last == sequence:
            if entry.count == 1 and entry.first != sequence and self.is_live_of(id, entry.first):
                entry.last = entry.first
            else:
                entry.last = self.previous_of(id, sequence)
        elif entry.first == sequence:
            entry.first = entry.last if entry.count == 1 else sequence + 1
        if sequence == self.first_sequence:
            self.first_sequence = self.next_live(sequence + 1) if self.messages else self.last_sequence + 1
        if segment.live == 0 and segment is not self.hot:
            self.drop_segment(segment)
        return True

    cdef bint is_live_of(self, uint32_t id, uint64_t sequence) except -1:
        """Tell whether `sequence` is a live message of subject `id`."""
        cdef Segment segment = self.segment_of(sequence)
        if segment is None:
            return False
        self.ensure(segment)
        if segment.is_dead(<uint32_t>(sequence - segment.base)):
            return False
        return segment.subject[sequence - segment.base] == id

    cdef int drop_segment(self, Segment segment) except -1:
        """Forget a segment without live messages; its file goes."""
        self.segments.remove(segment)
        self.backing.segment_dropped(self, segment)
        return 0

    cdef uint64_t last_sequence_c(self, const uint8_t *subject, uint32_t length) except? 0:
        """Return the newest message of a literal subject, 0: it has none."""
        cdef long long id = self.subjects.find(subject, length)
        return 0 if id < 0 else self.subjects.entries[id].last

    def last_of(self, bytes subject not None):
        """Return the sequence of the newest message of a literal subject, 0: it has none."""
        return self.last_sequence_c(<const uint8_t *>PyBytes_AS_STRING(subject),
                                    <uint32_t>PyBytes_GET_SIZE(subject))

    def next_from(self, uint64_t start):
        """Return the first sequence at or after `start` that holds a message, or last_sequence + 1."""
        return self.next_live(start)

    cdef uint64_t next_live(self, uint64_t sequence) except? 0:
        """Return the first live sequence at or after `sequence`, or last_sequence + 1.

        A walk over all messages is `sequence = stream.next_live(sequence + 1)`: some ten nanoseconds a step.
        """
        cdef Py_ssize_t index = self.segment_index(sequence)
        cdef Segment segment
        cdef uint32_t row
        while index < len(self.segments):
            segment = <Segment>self.segments[index]
            row = segment.next_live_row(<uint32_t>(sequence - segment.base) if sequence > segment.base else 0)
            if row < segment.rows:
                return segment.base + row
            index += 1
        return self.last_sequence + 1

    cdef Py_ssize_t find_segment(self, uint64_t sequence) noexcept:
        """Return what segment_index does, by binary search."""
        cdef Py_ssize_t low = 0
        cdef Py_ssize_t high = len(self.segments)
        cdef Py_ssize_t middle
        while low < high:
            middle = (low + high) // 2
            if (<Segment>self.segments[middle]).ends_behind(sequence):
                high = middle
            else:
                low = middle + 1
        self.near = low
        return low

    cdef uint64_t previous_of(self, uint32_t id, uint64_t sequence) except? 0:
        """Return the live message of subject `id` before the one at `sequence` (which may be dead), or 0."""
        cdef Segment segment = self.segment_of(sequence)
        cdef uint32_t row, distance
        cdef uint64_t before
        while segment is not None:
            self.ensure(segment)
            row = <uint32_t>(sequence - segment.base)
            distance = segment.previous[row]
            if distance == NO_PREVIOUS:
                return 0
            if distance == FAR_PREVIOUS:
                break
            before = sequence - distance
            if before < self.first_sequence:
                return 0
            if before < segment.base:
                segment = self.segment_of(before)
                if segment is None:
                    break
            sequence = before
            if not segment.is_dead(<uint32_t>(sequence - segment.base)):
                return sequence
        return self.scan_back(id, sequence)

    cdef uint64_t scan_back(self, uint32_t id, uint64_t sequence) except? 0:
        """Return the last live message of subject `id` before `sequence`, or 0, by looking at the subject
        column."""
        cdef Py_ssize_t index = self.segment_index(sequence)
        cdef Segment segment
        cdef long long row
        if index == len(self.segments):
            index -= 1
        while index >= 0:
            segment = <Segment>self.segments[index]
            if segment.live and segment.base < sequence:
                self.ensure(segment)
                row = <long long>min(<uint64_t>segment.rows, sequence - segment.base) - 1
                while row >= 0:
                    if segment.subject[row] == id and not segment.is_dead(<uint32_t>row):
                        return segment.base + <uint64_t>row
                    row -= 1
            index -= 1
        return 0

    cdef uint64_t scan_forward(self, uint32_t id, uint64_t sequence) except? 0:
        """Return the first live message of subject `id` at or after `sequence`, or 0."""
        cdef Py_ssize_t index = self.segment_index(sequence)
        cdef Segment segment
        cdef uint32_t row
        while index < len(self.segments):
            segment = <Segment>self.segments[index]
            if segment.live:
                self.ensure(segment)
                for row in range(<uint32_t>(sequence - segment.base) if sequence > segment.base else 0,
                                 segment.rows):
                    if segment.subject[row] == id and not segment.is_dead(row):
                        return segment.base + row
            index += 1
        return 0

    cdef uint64_t first_of(self, uint32_t id) except? 0:
        """Return the first live message of a subject that has one."""
        cdef subject_t *entry = &self.subjects.entries[id]
        cdef uint64_t sequence
        if entry.count == 1:
            entry.first = entry.last
            return entry.last
        if self.is_live_of(id, entry.first):
            return entry.first
        if entry.count <= 256:
            # Fewer steps back from the newest than a scan forward would look at.
            sequence = entry.last
            for _ in range(entry.count - 1):
                sequence = self.previous_of(id, sequence)
        else:
            sequence = self.scan_forward(id, max(entry.first, self.first_sequence))
        entry.first = sequence
        return sequence

    cdef int forget_all(self, uint64_t first) except -1:
        """Take every message out at once; first_sequence becomes `first`, which is last_sequence + 1."""
        cdef Segment segment
        cdef list dropped = self.segments
        self.subjects.reset()
        self.messages = self.bytes = 0
        self.first_sequence = first
        self.segments = [self.hot]
        segment = self.hot
        if segment.rows:
            segment.grow_dead()
            memset(segment.dead, 255, <size_t>(segment.rows // 64) * 8)
            if segment.rows & 63:
                segment.dead[segment.rows >> 6] |= (<uint64_t>1 << (segment.rows & 63)) - 1
            # Ids start over with a smaller table: no row may name one beyond it.
            memset(segment.subject, 0, <size_t>segment.rows * 4)
        segment.live = 0
        segment.live_bytes = 0
        for segment in dropped:
            if segment is not self.hot:
                segment.live = 0
                self.backing.segment_dropped(self, segment)
        return 0

    def memory_bytes(self):
        """Return how many bytes rows and subjects take in memory, without the bytes of messages."""
        total = self.subjects.memory_bytes()
        for segment in self.segments:
            total += segment.memory_bytes()
        return total
