# cython: language_level=3, embedsignature=True, wraparound=False
"""Questions about many messages of one stream: the next match, all matches, counts, last by subject, by
time, purge.

Two ways lead to the messages of a filter: the chains of the subjects that match (a cache miss a message,
some 50 ns), or the subject column from end to end (half a nanosecond a row). `prefers_chains` takes the
cheaper one; nothing walks messages on disk.
"""
from cpython cimport array
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from storage.index cimport Segment
from storage.stream cimport StreamStore
from storage.subjects cimport SubjectTable, subject_t

import array


cdef enum:
    # A chain step costs about as much as a scan of so many rows.
    CHAIN_STEP_ROWS = 64
    # So few rows are matched by name sooner than the marks of a filter are brought up to date.
    NEAR_ROWS = 32
    # Rows to look at before it is considered to find many matches at once by their chains.
    LOOK_ROWS = 4096
    # Steps back from the newest message of a subject before its column is looked at instead.
    CHAIN_STEPS = 64


cdef array.array TEMPLATE = array.array("Q")


cdef class Numbers:
    """A growing array of sequences."""

    def __dealloc__(self):
        free(self.values)

    cdef int push(self, uint64_t value) except -1:
        cdef uint64_t *values
        if self.count == self.capacity:
            values = <uint64_t *>realloc(self.values, (self.capacity * 2 + 64) * sizeof(uint64_t))
            if values == NULL:
                raise MemoryError
            self.values, self.capacity = values, self.capacity * 2 + 64
        self.values[self.count] = value
        self.count += 1
        return 0

    cdef int sort(self) except -1:
        """Bring them into ascending order, a byte at a time from the lowest; bytes that all share cost one pass."""
        cdef uint64_t *spare
        cdef uint64_t *source = self.values
        cdef uint64_t *target
        cdef Py_ssize_t starts[256]
        cdef Py_ssize_t i, sum, count
        cdef int shift
        if self.count < 2:
            return 0
        spare = <uint64_t *>malloc(self.count * sizeof(uint64_t))
        if spare == NULL:
            raise MemoryError
        target = spare
        for shift in range(0, 64, 8):
            memset(starts, 0, sizeof(starts))
            for i in range(self.count):
                starts[(source[i] >> shift) & 255] += 1
            if starts[(source[0] >> shift) & 255] == self.count:
                continue
            sum = 0
            for i in range(256):
                count = starts[i]
                starts[i] = sum
                sum += count
            for i in range(self.count):
                target[starts[(source[i] >> shift) & 255]] = source[i]
                starts[(source[i] >> shift) & 255] += 1
            source, target = target, source
        if source == spare:
            memcpy(self.values, spare, self.count * sizeof(uint64_t))
        free(spare)
        return 0

    def array(self):
        """Return the numbers as an array of unsigned 64-bit integers."""
        cdef array.array out = array.clone(TEMPLATE, self.count, False)
        if self.count:
            memcpy(out.data.as_voidptr, self.values, self.count * sizeof(uint64_t))
        return out


cdef inline bint dead_at(const uint64_t *dead, uint32_t row) noexcept nogil:
    return (dead[row >> 6] >> (row & 63)) & 1


cdef uint64_t count_rows(const uint32_t *subject, const uint64_t *dead, uint32_t start, uint32_t stop,
                         const uint8_t *marks) noexcept nogil:
    """Count live rows start .. stop whose subject is marked. Ids in the column are below the size of
    `marks`."""
    cdef uint64_t count = 0
    cdef uint32_t row
    if dead == NULL:
        for row in range(start, stop):
            count += marks[subject[row]]
    else:
        for row in range(start, stop):
            count += marks[subject[row]] & (1 - <uint8_t>dead_at(dead, row))
    return count


cdef uint64_t count_equal(const uint32_t *subject, const uint64_t *dead, uint32_t start, uint32_t stop,
                          uint32_t id) noexcept nogil:
    """Count live rows start .. stop of one subject."""
    cdef uint64_t count = 0
    cdef uint32_t row
    if dead == NULL:
        for row in range(start, stop):
            count += subject[row] == id
    else:
        for row in range(start, stop):
            if subject[row] == id and not dead_at(dead, row):
                count += 1
    return count


cdef uint64_t count_live(const uint64_t *dead, uint32_t start, uint32_t stop) noexcept nogil:
    """Count live rows start .. stop."""
    cdef uint64_t count = stop - start
    cdef uint32_t row
    if dead != NULL:
        for row in range(start, stop):
            count -= dead_at(dead, row)
    return count


cdef uint64_t marked_messages(SubjectFilter filter, uint64_t *subjects) noexcept:
    """Return how many live messages match, and set how many subjects those are; the filter is fresh."""
    cdef SubjectTable table = filter.table
    cdef uint64_t count = 0
    cdef uint64_t found = 0
    cdef uint32_t id
    for id in range(table.size):
        if filter.marks[id] and table.entries[id].count:
            count += table.entries[id].count
            found += 1
    subjects[0] = found
    return count


cdef bint is_fresh(SubjectFilter filter) noexcept:
    """Tell whether the marks of a filter are right without a refresh."""
    cdef SubjectTable table = filter.table
    return filter.marked != 0 and filter.marked == table.size \
        and filter.position == table.changes_base + table.changes_count


cdef bint prefers_chains(StreamIndex index, uint64_t matching, uint64_t start) noexcept:
    """Tell whether walking the chains of `matching` messages beats a scan from `start`."""
    return matching * CHAIN_STEP_ROWS < index.last_sequence + 1 - min(start, index.last_sequence)


cdef bint is_match(StreamIndex index, SubjectFilter filter, uint64_t sequence) except -1:
    """Tell whether a live message with this sequence is there and matches."""
    cdef Segment segment = index.segment_of(sequence)
    cdef uint32_t length = 0
    cdef const uint8_t *name
    if segment is None or segment.is_dead(<uint32_t>(sequence - segment.base)):
        return False
    if filter.matches_all:
        return True
    index.ensure(segment)
    name = index.subjects.name_of(segment.subject[sequence - segment.base], &length)
    return filter.matches(name, length)


cdef uint64_t next_match(StreamIndex index, SubjectFilter filter, uint64_t start) except? 0:
    """Return the first live sequence at or after `start` that matches, or 0."""
    return next_within(index, filter, start, index.last_sequence)


cdef uint64_t next_within(StreamIndex index, SubjectFilter filter, uint64_t start, uint64_t last) except? 0:
    """Return the first live sequence from `start` up to `last` that matches, or 0."""
    cdef uint64_t sequence, near
    cdef long long id
    start = max(start, index.first_sequence)
    last = min(last, index.last_sequence)
    if index.messages == 0 or start > last:
        return 0
    if filter.matches_all:
        sequence = index.next_live(start)
        return sequence if sequence <= last else 0
    if filter.is_literal:
        id = filter.literal_id()
        sequence = 0 if id < 0 else next_of_subject(index, <uint32_t>id, start, last)
        return sequence if sequence <= last else 0
    if not is_fresh(filter):
        near = min(last, start + NEAR_ROWS - 1)
        while start <= near:
            if is_match(index, filter, start):
                return start
            start += 1
        if start > last:
            return 0
        filter.refresh()
    return next_marked(index, filter, start, last)


cdef uint64_t next_marked(StreamIndex index, SubjectFilter filter, uint64_t start, uint64_t last) except? 0:
    """Do as next_within by a scan of the subject column; the filter is fresh."""
    cdef Py_ssize_t at = index.segment_index(start)
    cdef Segment segment
    cdef uint32_t row, end
    while at < len(index.segments):
        segment = <Segment>index.segments[at]
        at += 1
        if segment.live == 0:
            continue
        if segment.base > last:
            break
        index.ensure(segment)
        end = <uint32_t>min(<uint64_t>segment.rows, last + 1 - segment.base)
        row = segment.next_live_row(<uint32_t>(start - segment.base) if start > segment.base else 0)
        while row < end:
            if filter.marks[segment.subject[row]] and not segment.is_dead(row):
                return segment.base + row
            row += 1
    return 0


cdef uint64_t next_of_subject(StreamIndex index, uint32_t id, uint64_t start, uint64_t last) except? 0:
    """Return the first live message of a subject at or after `start`, or 0; beyond `last` it may be any of them."""
    cdef subject_t *entry = &index.subjects.entries[id]
    cdef uint64_t sequence, before
    cdef uint64_t near = min(last, start + (LOOK_ROWS if entry.count > CHAIN_STEPS else NEAR_ROWS) - 1)
    if start > entry.last:
        return 0
    if start <= entry.first or entry.count == 1:
        return index.first_of(id)
    sequence = scan_within(index, id, start, near)
    if sequence or near == last:
        return sequence
    sequence = entry.last
    for _ in range(CHAIN_STEPS):
        before = index.previous_of(id, sequence)
        if before < start:
            return sequence
        sequence = before
    return scan_within(index, id, near + 1, last)


cdef uint64_t scan_within(StreamIndex index, uint32_t id, uint64_t start, uint64_t last) except? 0:
    """Return the first live message of a subject from `start` up to `last`, or 0, by a scan of the subject column."""
    cdef Py_ssize_t at = index.segment_index(start)
    cdef Segment segment
    cdef uint32_t row, end
    while at < len(index.segments):
        segment = <Segment>index.segments[at]
        at += 1
        if segment.live == 0:
            continue
        if segment.base > last:
            break
        index.ensure(segment)
        end = <uint32_t>min(<uint64_t>segment.rows, last + 1 - segment.base)
        for row in range(<uint32_t>(start - segment.base) if start > segment.base else 0, end):
            if segment.subject[row] == id and not segment.is_dead(row):
                return segment.base + row
    return 0


cdef class Matches:
    """The matching messages in order, for somebody who goes through them. Where they lie far apart many are found
    at once by the chains of their subjects, so that what lies between costs nothing."""

    def __init__(self, StreamIndex index not None, SubjectFilter filter not None):
        """Begin anywhere."""
        self.index, self.filter = index, filter

    def find_next(self, uint64_t start):
        """Return the first sequence at or after `start` that matches, or None."""
        return self.next(start) or None

    cdef uint64_t next(self, uint64_t start) except? 0:
        """Return the first live sequence at or after `start` that matches, or 0."""
        cdef uint64_t sequence
        cdef uint64_t last = self.index.last_sequence
        start = max(start, self.index.first_sequence)
        if self.found is not None:
            if self.asked <= start <= self.covered:
                sequence = self.next_found(start)
                if sequence:
                    return sequence
                start = self.covered + 1
            self.found = None
        sequence = next_within(self.index, self.filter, start, start + LOOK_ROWS - 1)
        if sequence or last < start + LOOK_ROWS:
            return sequence
        start += LOOK_ROWS
        if self.find_ahead(start):
            return self.next_found(start)
        return next_match(self.index, self.filter, start)

    cdef uint64_t next_found(self, uint64_t start) except? 0:
        """Return the first of `found` at or after `start` that has not been removed meanwhile, or 0."""
        cdef uint64_t sequence
        self.asked = start
        while self.at < self.found.count:
            sequence = self.found.values[self.at]
            if sequence >= start and self.index.next_live(sequence) == sequence:
                return sequence
            self.at += 1
        return 0

    cdef bint find_ahead(self, uint64_t start) except -1:
        """Find all matches from `start` on, if looking for them one by one costs more; return whether."""
        cdef SubjectTable table = self.filter.table
        cdef uint64_t last = self.index.last_sequence
        cdef uint64_t matching, subjects = 0
        cdef long long id
        if self.filter.matches_all:
            return False
        if self.filter.is_literal:
            id = self.filter.literal_id()
            matching = table.entries[id].count if id >= 0 else 0
        elif table.size > last - start:
            return False
        else:
            self.filter.refresh()
            matching = marked_messages(self.filter, &subjects)
        if not prefers_chains(self.index, matching, start):
            return False
        self.found = Numbers()
        self.at = 0
        self.covered = last
        self.times_ahead += 1
        push_chains(self.index, self.filter, start, last + 1, self.found)
        return True


cdef int push_chains(StreamIndex index, SubjectFilter filter, uint64_t start, uint64_t stop, Numbers numbers) except -1:
    """Push the matching sequences from `start` to before `stop`, in order, found by the chains of their subjects."""
    cdef SubjectTable table = filter.table
    cdef uint32_t id
    cdef long long literal
    if filter.is_literal:
        literal = filter.literal_id()
        if literal >= 0:
            push_chain(index, <uint32_t>literal, start, stop, numbers)
    else:
        filter.refresh()
        for id in range(table.size):
            if filter.marks[id] and table.entries[id].count:
                push_chain(index, id, start, stop, numbers)
    return numbers.sort()


cdef int push_chain(StreamIndex index, uint32_t id, uint64_t start, uint64_t stop, Numbers numbers) except -1:
    cdef uint64_t sequence = index.subjects.entries[id].last
    while sequence >= start:
        if sequence < stop:
            numbers.push(sequence)
        sequence = index.previous_of(id, sequence)
    return 0


def find_next(StreamIndex index not None, SubjectFilter filter not None, uint64_t start):
    """Return the first sequence at or after `start` that matches, or None."""
    return next_match(index, filter, start) or None


def read_next(StreamStore stream not None, SubjectFilter filter not None, uint64_t start):
    """Return the first Message at or after `start` that matches, or None.

    Raises:
        RecordDamaged: it does not pass its checks; asking again passes over it. ReadFailed: no reading from
        the file.
    """
    cdef uint64_t sequence = next_match(stream, filter, start)
    return stream.get(sequence) if sequence else None


def find_all(StreamIndex index not None, SubjectFilter filter not None, uint64_t start=0, uint64_t stop=0,
             Py_ssize_t count_max=0):
    """Return the matching sequences from `start` up to before `stop` (0: all), in order, as a array of
    uint64.

    With `count_max` only the first so many.
    """
    cdef Numbers numbers = Numbers()
    cdef uint64_t subjects = 0
    start = max(start, index.first_sequence)
    if stop == 0 or stop > index.last_sequence + 1:
        stop = index.last_sequence + 1
    if index.messages == 0 or start >= stop:
        return numbers.array()
    filter.refresh()
    if not filter.matches_all and not count_max and prefers_chains(index, marked_messages(filter, &subjects),
                                                                   start):
        push_chains(index, filter, start, stop, numbers)
        return numbers.array()
    collect(index, filter, start, stop, count_max, numbers)
    return numbers.array()


cdef int collect(StreamIndex index, SubjectFilter filter, uint64_t start, uint64_t stop, Py_ssize_t count_max,
                 Numbers numbers) except -1:
    """Push matching sequences by scanning rows."""
    cdef Py_ssize_t at = index.segment_index(start)
    cdef Segment segment
    cdef uint32_t row, end
    while at < len(index.segments):
        segment = <Segment>index.segments[at]
        at += 1
        if segment.live == 0:
            continue
        if segment.base >= stop:
            break
        index.ensure(segment)
        end = <uint32_t>min(<uint64_t>segment.rows, stop - segment.base)
        row = segment.next_live_row(<uint32_t>(start - segment.base) if start > segment.base else 0)
        while row < end:
            if filter.marks[segment.subject[row]] and not segment.is_dead(row):
                numbers.push(segment.base + row)
                if count_max and numbers.count == count_max:
                    return 0
            row += 1
    return 0


cdef uint64_t count_from(StreamIndex index, SubjectFilter filter, uint64_t start) except? 0xFFFFFFFF:
    """Return how many live messages at or after `start` match."""
    cdef uint64_t subjects = 0
    cdef uint64_t total, rows, count = 0
    cdef uint64_t sequence
    cdef SubjectTable table = filter.table
    if index.messages == 0 or start > index.last_sequence:
        return 0
    start = max(start, index.first_sequence)
    rows = index.last_sequence + 1 - start
    if rows <= NEAR_ROWS:
        for sequence in range(start, index.last_sequence + 1):
            count += is_match(index, filter, sequence)
        return count
    if filter.matches_all:
        total = index.messages
    elif filter.is_literal:
        total = table.entries[filter.literal_id()].count if filter.literal_id() >= 0 else 0
    else:
        filter.refresh()
        if rows <= table.size:
            # Fewer rows than subjects.
            return count_between(index, filter, start, index.last_sequence + 1)
        total = marked_messages(filter, &subjects)
    if start == index.first_sequence or total == 0:
        return total
    if not filter.matches_all and prefers_chains(index, total, start):
        return count_chains(index, filter, start)
    # Count on the side of `start` that has fewer rows.
    if start - index.first_sequence < index.last_sequence - start:
        return total - count_between(index, filter, index.first_sequence, start)
    return count_between(index, filter, start, index.last_sequence + 1)


cdef uint64_t count_chains(StreamIndex index, SubjectFilter filter, uint64_t start) except? 0xFFFFFFFF:
    """Count matching live messages at or after `start` by the chains of their subjects."""
    cdef SubjectTable table = filter.table
    cdef uint64_t count = 0
    cdef uint32_t id
    if filter.is_literal:
        return count_chain(index, <uint32_t>filter.literal_id(), start) if filter.literal_id() >= 0 else 0
    for id in range(table.size):
        if filter.marks[id] and table.entries[id].count:
            count += count_chain(index, id, start)
    return count


cdef uint64_t count_chain(StreamIndex index, uint32_t id, uint64_t start) except? 0xFFFFFFFF:
    cdef uint64_t count = 0
    cdef uint64_t sequence = index.subjects.entries[id].last
    while sequence >= start:
        count += 1
        sequence = index.previous_of(id, sequence)
    return count


cdef uint64_t count_between(StreamIndex index, SubjectFilter filter, uint64_t start,
                            uint64_t stop) except? 0xFFFFFFFF:
    """Count matching live messages start .. stop by scanning rows."""
    cdef Py_ssize_t at = index.segment_index(start)
    cdef Segment segment
    cdef uint32_t first, end
    cdef uint64_t count = 0
    cdef long long id = filter.literal_id() if filter.is_literal else -1
    while at < len(index.segments):
        segment = <Segment>index.segments[at]
        at += 1
        if segment.base >= stop:
            break
        if segment.live == 0:
            continue
        first = <uint32_t>(start - segment.base) if start > segment.base else 0
        end = <uint32_t>min(<uint64_t>segment.rows, stop - segment.base)
        if first >= end:
            continue
        if filter.matches_all and first == 0 and end == segment.rows:
            count += segment.live
            continue
        index.ensure(segment)
        if segment.dead != NULL:
            segment.grow_dead()
        if filter.matches_all:
            count += count_live(segment.dead, first, end)
        elif id >= 0:
            count += count_equal(segment.subject, segment.dead, first, end, <uint32_t>id)
        else:
            count += count_rows(segment.subject, segment.dead, first, end, filter.marks)
    return count


def count_pending(StreamIndex index not None, SubjectFilter filter not None, uint64_t start, *,
                  bint last_per_subject=False):
    """Return how many messages at or after `start` match; with `last_per_subject` only the newest of each
    subject."""
    cdef uint64_t count = 0
    cdef uint32_t id
    cdef SubjectTable table = filter.table
    if not last_per_subject:
        return count_from(index, filter, start)
    filter.refresh()
    for id in range(table.size):
        if filter.marks[id] and table.entries[id].count and table.entries[id].last >= start:
            count += 1
    return count


def last_sequence_of(StreamIndex index not None, bytes subject not None, uint64_t up_to=0):
    """Return the sequence of the newest message of a literal subject (not above `up_to` unless 0), or
    None."""
    cdef long long id = index.subjects.find(<const uint8_t *><char *>subject, <uint32_t>len(subject))
    cdef uint64_t sequence
    if id < 0:
        return None
    sequence = index.subjects.entries[id].last
    while up_to and sequence > up_to:
        sequence = index.previous_of(<uint32_t>id, sequence)
    return sequence or None


def last_sequences(StreamIndex index not None, SubjectFilter filter not None, uint64_t up_to=0):
    """Return the newest message (not above `up_to` unless 0) of every matching subject: sorted array
    of uint64."""
    cdef Numbers numbers = Numbers()
    cdef SubjectTable table = filter.table
    cdef uint32_t id
    cdef uint64_t sequence
    filter.refresh()
    for id in range(table.size):
        if filter.marks[id] and table.entries[id].count:
            sequence = table.entries[id].last
            while up_to and sequence > up_to:
                sequence = index.previous_of(id, sequence)
            if sequence:
                numbers.push(sequence)
    numbers.sort()
    return numbers.array()


def subject_counts(StreamIndex index not None, SubjectFilter filter not None):
    """Return {subject: live messages} of the matching subjects."""
    cdef SubjectTable table = filter.table
    cdef uint32_t id
    cdef dict out = {}
    filter.refresh()
    for id in range(table.size):
        if filter.marks[id] and table.entries[id].count:
            out[table.name(id)] = table.entries[id].count
    return out


def sequence_at(StreamIndex index not None, int64_t timestamp_ns):
    """Return the first live sequence stored at or after a Unix time in ns, or None: all are older."""
    cdef Segment segment
    cdef uint64_t sequence
    for segment in index.segments:
        if segment.rows == 0 or segment.live == 0 or segment.last_timestamp < timestamp_ns:
            continue
        index.ensure(segment)
        sequence = index.next_live(segment.base + segment.row_at(timestamp_ns))
        return sequence if sequence <= index.last_sequence else None
    return None


def purge(StreamStore stream not None, SubjectFilter filter not None, *, uint64_t before=0, uint64_t keep=0):
    """Take out the matching messages below sequence `before` (0: all), the newest `keep` of them excepted.

    Returns:
        How many were taken out.
    """
    cdef uint64_t[::1] sequences
    cdef Py_ssize_t at, stop
    if filter.matches_all and keep == 0:
        return stream.purge_to(before) if before else stream.purge_all()
    found = find_all(stream, filter, 0, before)
    stop = len(found) - <Py_ssize_t>min(keep, <uint64_t>len(found))
    if stop == 0:
        return 0
    if filter.matches_all:
        return stream.purge_to(int(found[stop - 1]) + 1)
    sequences = found
    for at in range(stop):
        stream.remove_row(sequences[at])
        stream.note_tombstone(sequences[at])
    stream.has_explicit = True
    return stop
