# cython: language_level=3, embedsignature=True, wraparound=False
"""Apply the records of a log to a stream again: how recovery brings rows, subjects and deletes back.

A record that does not pass its checks costs itself: where the next whole record begins is found by its
length or, when that cannot be trusted, by trying every multiple of 8. Sequences that are missing then are
the stream's `lost` ones.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from storage.record import find_next

from storage.index cimport Segment
from storage.log cimport LogFile
from storage.reader cimport message_id_of
from storage.record cimport (
    COMPRESSED, DEAD_MAP, ENCRYPTED, ERASED, EXPIRES, HEAD, HEADER_BYTES, MESSAGE, RECORDS_START, SKIP,
    TOMBSTONES, TRUNCATE,
    crc32c_choose, record_check, record_header_t, record_padded, record_seal,
)
from storage.stream cimport StreamStore
from storage.subjects cimport subject_t

crc32c_choose()


def begin_log(StreamStore stream not None, LogFile log not None, uint64_t base):
    """Make `log` the stream's hot one; its first message has sequence `base` or a later one."""
    cdef Segment sealed = stream.hot
    if stream.messages == 0:
        stream.first_sequence = base
    if base <= stream.last_sequence:
        stream.apply_truncate(base - 1)
        sealed = stream.hot
        # That began a segment of its own, which this log takes the place of.
        stream.segments.remove(sealed)
        stream.backing.log_abandoned(sealed.log)
        sealed = <Segment>stream.segments[len(stream.segments) - 1] if stream.segments else None
    stream.last_sequence = base - 1
    stream.hot = Segment(base, log)
    stream.segments.append(stream.hot)
    if sealed is not None:
        sealed.is_sealed = True
        if sealed.live == 0:
            stream.drop_segment(sealed)


def move_end(LogFile log not None, uint64_t end):
    """Make `end` the place of the next record of a log that has nothing in memory."""
    assert log.end == log.tail_start
    log.tail_start = log.end = log.drained = log.durable = log.written = end


def replay_log(StreamStore stream not None, bytes data not None, uint64_t start, uint32_t salt,
               str path not None, *,
               bint compacted=False):
    """Apply the records of the hot log; data[0] lies at offset `start` of it, and all of `data` was
    acknowledged.

    Args:
        compacted: sequences that are not there were deleted, not lost.

    Returns:
        (offset behind the last whole record, or behind the damage at the end, what was damaged in words).
    """
    cdef const uint8_t *bytes_at = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef uint64_t size = PyBytes_GET_SIZE(data)
    cdef uint64_t at = 0
    cdef uint64_t padded, following
    cdef list damage = []
    cdef bint missing = False
    while at + HEADER_BYTES <= size:
        padded = record_check(bytes_at + at, size - at, salt, start + at)
        if padded:
            apply_record(stream, bytes_at + at, <uint32_t>(start + at), missing, compacted)
            if (<const record_header_t *>(bytes_at + at)).kind == MESSAGE:
                missing = False
            at += padded
            continue
        following = after_damage(stream, data, at, start, salt)
        damage.append(f"{path}: bytes {start + at} to {start + following} do not pass their checks")
        missing = True
        if following == size:
            lose_tail(stream, bytes_at + at, size - at, <uint32_t>(start + at))
        at = following
    return start + at, damage


cdef uint64_t after_damage(StreamStore stream, bytes data, uint64_t at, uint64_t start,
                           uint32_t salt) except? 0:
    """Return where the next whole record begins after a damaged one, or the size of `data`."""
    cdef const uint8_t *bytes_at = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef uint64_t size = PyBytes_GET_SIZE(data)
    cdef record_header_t header
    cdef uint64_t next_at
    memcpy(&header, bytes_at + at, HEADER_BYTES)
    next_at = at + record_padded(header.length)
    if header.length >= HEADER_BYTES and next_at <= size:
        if next_at == size or record_check(bytes_at + next_at, size - next_at, salt, start + next_at):
            return next_at
    return <uint64_t>find_next(data, <Py_ssize_t>at + 8, salt, start, stream.last_sequence)


cdef int lose_tail(StreamStore stream, const uint8_t *record, uint64_t available, uint32_t offset) except -1:
    """Count the last record as lost when it looks like the next message, so that its sequence is not used
    again."""
    cdef record_header_t header
    memcpy(&header, record, HEADER_BYTES)
    cdef uint64_t sequence = stream.last_sequence + 1
    if header.kind == MESSAGE or header.sequence == sequence:
        stream.add_gap(sequence, offset)
        stream.lost[sequence] = 0
    return 0


cdef int apply_record(StreamStore stream, const uint8_t *record, uint32_t offset, bint missing,
                      bint compacted) except -1:
    cdef const record_header_t *header = <const record_header_t *>record
    cdef const uint8_t *body = record + HEADER_BYTES
    cdef uint64_t sequence = header.sequence
    cdef uint64_t index
    cdef uint32_t delta
    if header.kind == MESSAGE:
        return apply_message(stream, record, offset, missing, compacted)
    if header.kind == TOMBSTONES:
        for index in range((header.length - HEADER_BYTES) // 4):
            memcpy(&delta, body + index * 4, 4)
            stream.remove_row(sequence + delta)
            stream.lost.pop(sequence + delta, None)
    elif header.kind == HEAD:
        stream.last_timestamp_ns = max(stream.last_timestamp_ns, header.timestamp_ns)
        if sequence > stream.last_sequence:
            stream.last_sequence = max(stream.last_sequence, sequence - 1)
            stream.forget_all(sequence)
        while stream.messages and stream.first_sequence < sequence:
            stream.remove_row(stream.first_sequence)
        for lost in [one for one in stream.lost if one < sequence]:
            del stream.lost[lost]
    elif header.kind == SKIP:
        stream.last_timestamp_ns = max(stream.last_timestamp_ns, header.timestamp_ns)
        if sequence > stream.last_sequence:
            apply_skip_row(stream, sequence, offset)
    elif header.kind == TRUNCATE:
        # The log after a truncation begins at the right sequence: begin_log has done it.
        pass
    elif header.kind == DEAD_MAP:
        for index in range(<uint64_t>(header.length - HEADER_BYTES) * 8):
            if (body[index >> 3] >> (index & 7)) & 1 and sequence + index <= stream.last_sequence:
                stream.remove_row(sequence + index)
    return 0


cdef int apply_skip_row(StreamStore stream, uint64_t last, uint32_t offset) except -1:
    # A long skip was followed by a new log, whose base says the rest.
    if last - stream.last_sequence <= 65536:
        stream.add_gap(last, offset)
    return 0


cdef int apply_message(StreamStore stream, const uint8_t *record, uint32_t offset, bint missing,
                       bint compacted) except -1:
    cdef const record_header_t *header = <const record_header_t *>record
    cdef const uint8_t *at = record + HEADER_BYTES
    cdef int64_t expires_ns = 0
    cdef uint64_t sequence = header.sequence
    cdef uint64_t payload_bytes, lost
    cdef uint32_t subject_bytes = header.subject_length
    cdef uint32_t headers_bytes = header.headers_length
    cdef uint32_t id_bytes = 0
    cdef const uint8_t *subject
    cdef const uint8_t *message_headers
    cdef bytes decoded, headers
    if sequence <= stream.last_sequence:
        return 0
    if sequence > stream.last_sequence + 1:
        if sequence - stream.last_sequence > 65536 and not missing:
            return 0
        if not compacted:
            for lost in range(stream.last_sequence + 1, sequence):
                stream.lost[lost] = 0
        stream.add_gap(sequence - 1, offset)
    if header.flags & ERASED:
        stream.hot.last_timestamp = stream.last_timestamp_ns = header.timestamp_ns
        stream.add_gap(sequence, offset)
        return 0
    if header.flags & EXPIRES:
        memcpy(&expires_ns, at, 8)
        at += 8
    if header.flags & (COMPRESSED | ENCRYPTED):
        decoded, headers, payload = stream.codec.decode(header.flags, sequence,
                                                        at[:record + header.length - at])
        subject, subject_bytes = <const uint8_t *>PyBytes_AS_STRING(decoded), <uint32_t>len(decoded)
        headers_bytes, payload_bytes = <uint32_t>len(headers), <uint64_t>len(payload)
        message_headers = <const uint8_t *>PyBytes_AS_STRING(headers)
    else:
        subject = at
        message_headers = at + subject_bytes
        payload_bytes = <uint64_t>(record + header.length - at) - subject_bytes - headers_bytes
    if headers_bytes and message_id_of(message_headers, headers_bytes, &id_bytes) != NULL:
        stream.hot.has_ids = True
    stream.add_row(sequence, header.timestamp_ns, <uint32_t>stream.subjects.intern(subject, subject_bytes),
                   stream.accounted(subject_bytes, headers_bytes, payload_bytes), offset)
    if expires_ns:
        stream.note_expiry(expires_ns, sequence)
    return 0


def replay_columns(StreamStore stream not None, Segment segment not None, bytes data not None,
                   LogFile log not None):
    """Fill the columns of a sealed segment from the bytes of `log`, which becomes its log; what is dead
    stays dead.

    A live message that is not in `data` is lost from then on. The chain of each subject begins anew with the
    segment, marked as going on where only a scan finds it.
    """
    cdef const uint8_t *bytes_at = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef const record_header_t *header
    cdef const uint8_t *body
    cdef uint64_t size = PyBytes_GET_SIZE(data)
    cdef uint64_t at = RECORDS_START
    cdef uint64_t padded
    cdef uint32_t row
    cdef dict last = {}
    cdef long long id
    segment.log = log
    segment.grow(max(segment.rows, 1))
    for row in range(segment.rows):
        segment.timestamp[row] = 0
        segment.offset[row] = segment.subject[row] = segment.size[row] = segment.previous[row] = 0
    while at + HEADER_BYTES <= size:
        padded = record_check(bytes_at + at, size - at, log.salt, at)
        if padded == 0:
            at = <uint64_t>find_next(data, <Py_ssize_t>at + 8, log.salt, 0, 0)
            continue
        header = <const record_header_t *>(bytes_at + at)
        # An erased one of a live row: its tombstone is further on in the journal. It counts as missing until
        # then.
        if (header.kind == MESSAGE and segment.base <= header.sequence < segment.base + segment.rows
                and (not header.flags & ERASED
                     or segment.is_dead(<uint32_t>(header.sequence - segment.base)))):
            row = <uint32_t>(header.sequence - segment.base)
            segment.timestamp[row] = header.timestamp_ns
            segment.offset[row] = <uint32_t>at
            if not segment.is_dead(row):
                body = bytes_at + at + HEADER_BYTES + (8 if header.flags & EXPIRES else 0)
                if header.flags & (COMPRESSED | ENCRYPTED):
                    subject, headers, payload = stream.codec.decode(
                        header.flags, header.sequence, body[:bytes_at + at + header.length - body])
                    id = stream.subjects.find(<const uint8_t *><char *>subject, <uint32_t>len(subject))
                    segment.size[row] = stream.accounted(len(subject), len(headers), len(payload))
                else:
                    id = stream.subjects.find(body, header.subject_length)
                    segment.size[row] = stream.accounted(
                        header.subject_length, header.headers_length,
                        <uint64_t>(bytes_at + at + header.length - body) - header.subject_length
                        - header.headers_length)
                if id >= 0:
                    segment.subject[row] = <uint32_t>id
                    before = last.get(id)
                    segment.previous[row] = 0xFFFFFFFF
                    if before is not None:
                        segment.previous[row] = <uint32_t>(header.sequence - before)
                    last[id] = header.sequence
        at += padded
    fill_missing(stream, segment)


cdef int fill_missing(StreamStore stream, Segment segment) except -1:
    """Give rows without a record the place of the next one; those that should have one are lost."""
    cdef long long row
    cdef uint32_t offset = <uint32_t>segment.log.end
    cdef list missing = []
    cdef int64_t timestamp = 0
    for row in range(segment.rows):
        if segment.offset[row] == 0:
            segment.timestamp[row] = timestamp
        timestamp = segment.timestamp[row]
    for row in range(<long long>segment.rows - 1, -1, -1):
        if segment.offset[row] == 0:
            segment.offset[row] = offset
            if not segment.is_dead(<uint32_t>row):
                missing.append(segment.base + <uint64_t>row)
        offset = segment.offset[row]
    if missing:
        lose_unknown(stream, segment, missing)
    return 0


cdef int lose_unknown(StreamStore stream, Segment segment, list missing) except -1:
    """Lose messages whose subjects and sizes nobody knows any more, and count everything again from the
    rows."""
    cdef uint64_t sequence
    cdef uint32_t row, id
    cdef Segment one
    cdef subject_t *entry
    segment.grow_dead()
    for sequence in missing:
        row = <uint32_t>(sequence - segment.base)
        segment.dead[row >> 6] |= <uint64_t>1 << (row & 63)
        segment.live -= 1
        stream.lost[sequence] = 0
    for id in range(stream.subjects.size):
        if stream.subjects.slot_holds(id):
            stream.subjects.entries[id].count = 0
    stream.messages = stream.bytes = 0
    for one in stream.segments:
        stream.ensure(one)
        one.live_bytes = 0
        row = one.next_live_row(0)
        while row < one.rows:
            entry = &stream.subjects.entries[one.subject[row]]
            if entry.count == 0:
                entry.first = one.base + row
            entry.last = one.base + row
            entry.count += 1
            one.live_bytes += one.size[row]
            row = one.next_live_row(row + 1)
        stream.messages += one.live
        stream.bytes += one.live_bytes
    for id in range(stream.subjects.size):
        if stream.subjects.entries[id].count == 0 and stream.subjects.slot_holds(id):
            stream.subjects.release(id)
    stream.first_sequence = stream.next_live(0) if stream.messages else stream.last_sequence + 1
    return 0


def copy_live(Segment segment not None, bytes data not None, LogFile target not None):
    """Return (the records of `data` that are live messages or no messages, as they go into `target`; a place
    per row).

    `data` is the whole log of the segment. A row without a message gets the place of the next one. Records
    that do not
    pass their checks are left out: their rows get a place where nothing is, and reading says so.
    """
    cdef const uint8_t *bytes_at = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef uint64_t size = PyBytes_GET_SIZE(data)
    cdef uint64_t at = RECORDS_START
    cdef uint64_t padded, offset = RECORDS_START
    cdef const record_header_t *header
    cdef uint32_t row
    cdef list places = [None] * segment.rows
    cdef list parts = []
    cdef bytes part
    while at + HEADER_BYTES <= size:
        padded = record_check(bytes_at + at, size - at, segment.log.salt, at)
        if padded == 0:
            at = <uint64_t>find_next(data, <Py_ssize_t>at + 8, segment.log.salt, 0, 0)
            continue
        header = <const record_header_t *>(bytes_at + at)
        if header.kind == MESSAGE:
            row = <uint32_t>(header.sequence - segment.base)
            if header.sequence < segment.base or row >= segment.rows or segment.is_dead(row):
                at += padded
                continue
            places[row] = offset
        part = PyBytes_FromStringAndSize(<const char *>bytes_at + at, <Py_ssize_t>padded)
        record_seal(<uint8_t *>PyBytes_AS_STRING(part), header.length, target.salt, offset)
        parts.append(part)
        offset += padded
        at += padded
    following = offset
    for index in range(len(places) - 1, -1, -1):
        if places[index] is None:
            places[index] = following
        following = places[index]
    return b"".join(parts), places


def copy_live_rows(Segment segment not None, LogFile target not None):
    """Copy the live records of a segment in memory into `target`, which is empty and becomes its log.

    A snapshot that holds the old log goes on reading there.
    """
    cdef LogFile log = segment.log
    cdef const uint8_t *at
    cdef uint8_t *start
    cdef uint64_t padded
    cdef uint64_t total = 0
    cdef uint32_t length
    cdef uint32_t row = segment.next_live_row(0)
    while row < segment.rows:
        total += record_padded((<const record_header_t *>(log.tail.data + segment.offset[row])).length)
        row = segment.next_live_row(row + 1)
    start = target.reserve(total)
    for row in range(segment.rows):
        at = log.tail.data + segment.offset[row]
        segment.offset[row] = <uint32_t>target.end
        if segment.is_dead(row):
            continue
        length = (<const record_header_t *>at).length
        padded = record_padded(length)
        memcpy(start, at, padded)
        if record_check(at, padded, log.salt, <uint64_t>(at - log.tail.data)):
            record_seal(start, length, target.salt, target.end)
        start += padded
        target.end += padded
    segment.log = target
