# cython: language_level=3, embedsignature=True, wraparound=False
"""The messages of one stream: append, read, delete, limits. The same class serves file and memory streams.

A *backing* (storage/directory.py, storage/memory.py) makes the log of each segment and takes back those that
are done with. What is deleted is noted in an array first and goes to the log as one record, when the round
is committed or an append follows an explicit delete, so that a log replayed up to any record is a state the
stream really had. What limits
evicted may follow later: it would be evicted again.

Nothing here waits, syncs or knows of a round; Store.commit drains the logs. Queries over many messages are
in queries.pyx.
"""

from heapq import heapify, heappop, heappush

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from storage.errors import RecordDamaged
from storage.limits import (
    MAXIMUM_BYTES, MAXIMUM_MESSAGES, MAXIMUM_PER_SUBJECT, MEMORY_SEGMENT_BYTES, NEVER_NS, TOO_LARGE, StreamLimits,
    StreamState,
)

from storage.index cimport StreamIndex
from storage.log cimport LogFile
from storage.reader cimport message_id_of
from storage.record cimport (
    DEAD_MAP, ERASED, EXPIRES, HEAD, HEADER_BYTES, MESSAGE, SKIP, TOMBSTONES, TRUNCATE,
    crc32c_choose, record_header_t, record_padded, record_seal,
)
from storage.subjects cimport SubjectTable
from storage.writer cimport Block

crc32c_choose()

cdef enum:
    TOMBSTONES_PER_RECORD = 16384
    # A longer run of sequences without messages starts a new segment instead of taking rows.
    GAP_ROWS_MAX = 65536
    # And so does one that would make a segment's columns longer than 24 MiB: few messages far apart
    # never fill its log.
    SEGMENT_ROWS_MAX = 1 << 20
    TOO_LARGE_C = -1
    MAXIMUM_MESSAGES_C = -2
    MAXIMUM_BYTES_C = -3
    MAXIMUM_PER_SUBJECT_C = -4

cdef int64_t NEVER_C = NEVER_NS

assert (TOO_LARGE, MAXIMUM_MESSAGES, MAXIMUM_BYTES, MAXIMUM_PER_SUBJECT) == (
    TOO_LARGE_C, MAXIMUM_MESSAGES_C, MAXIMUM_BYTES_C, MAXIMUM_PER_SUBJECT_C)


cdef class StreamStore(StreamReader):
    """One stream's messages, in files or in memory."""

    def __init__(self, backing, *, limits=None, bint is_memory=False, list pending_streams=None, codec=None):
        """Make an empty stream; `restore_state` or recovery fills it.

        Args:
            backing: makes logs; see storage/directory.py.
            limits: a StreamLimits.
            is_memory: account bytes as nats-server's memory store does.
            pending_streams: the store's list of streams that need flush_pending before a commit.
            codec: see storage/codec.py; None keeps records plain.
        """
        self.backing = backing
        # nats-server counts 22 bytes of header and 8 of checksum in files, and 16 in memory.
        self.overhead, self.headers_overhead = (16, 0) if is_memory else (30, 4)
        self.is_memory = is_memory
        self.pending_streams = [] if pending_streams is None else pending_streams
        self.codec = codec
        self.expiries, self.never, self.expiries_max = [], set(), 1024
        self.window = Block(0)
        self.version = 0
        self.apply_limits(limits or StreamLimits())

    def __dealloc__(self):
        free(self.tombstones)

    def apply_limits(self, limits):
        """Use other limits from now on; `enforce_limits` makes old messages obey them."""
        self.limits = limits
        self.max_messages = limits.max_messages
        self.max_bytes = limits.max_bytes
        self.max_message_bytes = limits.max_message_bytes
        self.max_per_subject = max(limits.max_messages_per_subject, 0)
        self.discard_new = limits.discard_new
        self.discard_new_per_subject = limits.discard_new_per_subject
        self.segment_bytes = min(limits.segment_bytes, MEMORY_SEGMENT_BYTES if self.is_memory else 1 << 31)

    def start(self, uint64_t first_sequence=1):
        """Begin an empty stream whose first message gets `first_sequence`."""
        self.first_sequence, self.last_sequence = first_sequence, first_sequence - 1
        self.rotate(first_sequence)

    # Appending.

    cdef uint32_t accounted(self, uint64_t subject_bytes, uint64_t headers_bytes,
                            uint64_t payload_bytes) noexcept:
        return <uint32_t>(self.overhead + subject_bytes + payload_bytes
                          + (headers_bytes + self.headers_overhead if headers_bytes else 0))

    cdef int check_limits(self, const uint8_t *subject, uint32_t subject_bytes, uint64_t size,
                          uint64_t body_bytes) noexcept:
        """Return 0, or why a message of `size` accounted bytes is refused."""
        cdef long long id
        cdef uint32_t count = 0
        if self.max_message_bytes >= 0 and body_bytes > <uint64_t>self.max_message_bytes:
            return TOO_LARGE_C
        if not self.discard_new:
            return 0
        if self.max_per_subject:
            id = self.subjects.find(subject, subject_bytes)
            if id >= 0:
                count = self.subjects.entries[id].count
            if self.discard_new_per_subject and count >= self.max_per_subject:
                return MAXIMUM_PER_SUBJECT_C
        # A message that takes the place of an older one of its subject makes its own room.
        if self.max_per_subject and count >= self.max_per_subject:
            return 0
        if self.max_messages >= 0 and self.messages >= <uint64_t>self.max_messages:
            return MAXIMUM_MESSAGES_C
        if self.max_bytes >= 0 and self.bytes + size > <uint64_t>self.max_bytes:
            return MAXIMUM_BYTES_C
        return 0

    cdef int64_t append_c(self, const uint8_t *subject, uint32_t subject_bytes, const uint8_t *headers,
                          uint32_t headers_bytes, const uint8_t *payload, uint32_t payload_bytes,
                          int64_t timestamp_ns, int64_t expires_ns) except? -100:
        """Add one message; return its sequence, or why it was refused (negative, see limits.py)."""
        cdef uint32_t size = self.accounted(subject_bytes, headers_bytes, payload_bytes)
        cdef uint64_t sequence = self.last_sequence + 1
        cdef uint64_t length = <uint64_t>HEADER_BYTES + 8 + subject_bytes + headers_bytes + payload_bytes
        cdef uint64_t offset
        cdef uint32_t id_bytes = 0
        cdef int refusal = self.check_limits(subject, subject_bytes, size,
                                             <uint64_t>headers_bytes + payload_bytes)
        cdef long long id
        if self.failure is not None:
            raise self.failure
        if refusal:
            return refusal
        if self.discard_new and self.max_bytes >= 0 and self.bytes + size > <uint64_t>self.max_bytes:
            # check_limits lets it pass because it takes the place of an older message of its subject.
            if size > size_of(self, self.first_of(<uint32_t>self.subjects.find(subject, subject_bytes))):
                return MAXIMUM_BYTES_C
        if self.has_explicit:
            self.flush_pending()
        if self.hot.log.end + length > self.segment_bytes and self.hot.rows:
            self.rotate(sequence)
        offset = self.hot.log.end
        if self.codec is None:
            self.write_record(MESSAGE, 0, sequence, timestamp_ns, expires_ns, subject, subject_bytes, headers,
                              headers_bytes, payload, payload_bytes)
        else:
            self.write_coded(sequence, timestamp_ns, expires_ns, subject[:subject_bytes],
                             headers[:headers_bytes],
                             payload[:payload_bytes])
        if headers_bytes and message_id_of(headers, headers_bytes, &id_bytes) != NULL:
            self.hot.has_ids = True
        id = self.subjects.intern(subject, subject_bytes)
        self.add_row(sequence, timestamp_ns, <uint32_t>id, size, <uint32_t>offset)
        if expires_ns:
            self.note_expiry(expires_ns, sequence)
        if self.max_per_subject:
            self.enforce_subject(<uint32_t>id)
        if self.max_messages >= 0 or self.max_bytes >= 0:
            self.enforce_totals()
        return <int64_t>sequence

    cdef int write_record(self, int kind, int flags, uint64_t sequence, int64_t timestamp_ns,
                          int64_t expires_ns,
                          const uint8_t *subject, uint32_t subject_bytes, const uint8_t *headers,
                          uint32_t headers_bytes, const uint8_t *payload, uint64_t payload_bytes) except -1:
        """Put one record at the end of the hot log."""
        cdef LogFile log = self.hot.log
        cdef record_header_t header
        cdef uint64_t length = <uint64_t>HEADER_BYTES + subject_bytes + headers_bytes + payload_bytes
        cdef uint8_t *start
        cdef uint8_t *at
        if expires_ns:
            length += 8
            flags |= EXPIRES
        start = log.reserve(record_padded(length))
        header.crc, header.length = 0, <uint32_t>length
        header.sequence, header.timestamp_ns = sequence, timestamp_ns
        header.subject_length = <unsigned short>subject_bytes
        header.kind, header.flags = <uint8_t>kind, <uint8_t>flags
        header.headers_length = headers_bytes
        memcpy(start, &header, HEADER_BYTES)
        at = start + HEADER_BYTES
        if expires_ns:
            memcpy(at, &expires_ns, 8)
            at += 8
        memcpy(at, subject, subject_bytes)
        at += subject_bytes
        memcpy(at, headers, headers_bytes)
        memcpy(at + headers_bytes, payload, payload_bytes)
        record_seal(start, <uint32_t>length, log.salt, log.end)
        log.end += record_padded(length)
        return 0

    cdef int write_coded(self, uint64_t sequence, int64_t timestamp_ns, int64_t expires_ns, bytes subject,
                         bytes headers, bytes payload) except -1:
        flags, body = self.codec.encode(sequence, subject, headers, payload)
        cdef bytes coded = body
        return self.write_record(MESSAGE, flags, sequence, timestamp_ns, expires_ns, NULL, 0, NULL, 0,
                                 <const uint8_t *>PyBytes_AS_STRING(coded), <uint64_t>PyBytes_GET_SIZE(coded))

    cdef int enforce_subject(self, uint32_t id) except -1:
        """Evict the oldest messages of a subject that has too many."""
        cdef uint64_t sequence
        while self.subjects.entries[id].count > self.max_per_subject:
            sequence = self.first_of(id)
            if not self.remove_row(sequence):
                break
            self.note_tombstone(sequence)
        return 0

    cdef int enforce_totals(self) except -1:
        """Evict the oldest messages of all when the stream has too many and does not refuse new ones instead."""
        if self.discard_new:
            return 0
        while ((self.max_messages >= 0 and self.messages > <uint64_t>self.max_messages)
               or (self.max_bytes >= 0 and self.bytes > <uint64_t>self.max_bytes)) and self.messages:
            self.remove_row(self.first_sequence)
            if not self.head_moved:
                self.head_moved = True
                self.mark_pending()
        return 0

    def enforce_limits(self):
        """Evict what is too much by the limits, the age limit excepted (see expire); return how many
        messages."""
        cdef uint64_t before = self.messages
        cdef uint32_t id
        if not self.messages:
            return 0
        if self.max_per_subject:
            for id in range(self.subjects.size):
                if self.subjects.entries[id].count > self.max_per_subject:
                    self.enforce_subject(id)
        self.enforce_totals()
        return before - self.messages

    def append(self, bytes subject not None, bytes headers not None, bytes payload not None,
               int64_t timestamp_ns, *,
               int64_t expires_ns=0):
        """Add one message at the end and return its sequence.

        The message can be read at once; it is durable when the round that Store.commit returns next is.

        Args:
            subject: literal, 1..65,535 bytes. headers: the block as on the wire, b"" for none.
            timestamp_ns: Unix time, not smaller than the last one's.
            expires_ns: Unix time at which `expire` takes it out; 0: never.

        Returns:
            The sequence, or TOO_LARGE, MAXIMUM_MESSAGES, MAXIMUM_BYTES or MAXIMUM_PER_SUBJECT (negative):
            refused.

        Raises:
            ValueError: the subject or the whole is longer than a record can hold.
        """
        if not 0 < len(subject) <= 0xFFFF or len(headers) + len(payload) > 1 << 30:
            raise ValueError(f"subject of {len(subject)}, message of {len(headers) + len(payload)} bytes")
        return self.append_c(
            <const uint8_t *>PyBytes_AS_STRING(subject), <uint32_t>PyBytes_GET_SIZE(subject),
            <const uint8_t *>PyBytes_AS_STRING(headers), <uint32_t>PyBytes_GET_SIZE(headers),
            <const uint8_t *>PyBytes_AS_STRING(payload), <uint32_t>PyBytes_GET_SIZE(payload),
            timestamp_ns, expires_ns)

    def append_batch(self, list messages not None, int64_t timestamp_ns):
        """Add (subject, headers, payload) tuples; return what `append` would have returned for each."""
        cdef tuple parts
        cdef bytes subject, headers, payload
        cdef list out = []
        for parts in messages:
            subject, headers, payload = parts
            if not 0 < PyBytes_GET_SIZE(subject) <= 0xFFFF or PyBytes_GET_SIZE(payload) > 1 << 30:
                raise ValueError(f"subject of {len(subject)}, payload of {len(payload)} bytes")
            out.append(self.append_c(
                <const uint8_t *>PyBytes_AS_STRING(subject), <uint32_t>PyBytes_GET_SIZE(subject),
                <const uint8_t *>PyBytes_AS_STRING(headers), <uint32_t>PyBytes_GET_SIZE(headers),
                <const uint8_t *>PyBytes_AS_STRING(payload), <uint32_t>PyBytes_GET_SIZE(payload),
                timestamp_ns, 0))
        return out

    def skip_to(self, uint64_t last_sequence, int64_t timestamp_ns):
        """Use up sequences without storing anything: last_sequence becomes this one.

        Args:
            timestamp_ns: becomes last_timestamp_ns unless that is later.
        Raises:
            ValueError: it is not above last_sequence.
        """
        if last_sequence <= self.last_sequence:
            raise ValueError(f"skip to {last_sequence}, the last sequence is {self.last_sequence}")
        self.flush_pending()
        self.write_record(SKIP, 0, last_sequence, timestamp_ns, 0, NULL, 0, NULL, 0, NULL, 0)
        self.apply_skip(last_sequence)
        self.last_timestamp_ns = max(self.last_timestamp_ns, timestamp_ns)

    cdef int apply_skip(self, uint64_t last_sequence) except -1:
        cdef uint64_t gap = last_sequence - self.last_sequence
        if gap > GAP_ROWS_MAX or (self.hot.rows and self.hot.rows + gap > SEGMENT_ROWS_MAX):
            self.last_sequence = last_sequence
            if self.messages == 0:
                self.first_sequence = last_sequence + 1
            self.rotate(last_sequence + 1)
            return 0
        return self.add_gap(last_sequence, <uint32_t>self.hot.log.end)

    cdef int rotate(self, uint64_t base) except -1:
        """Seal the hot segment and begin another at sequence `base`."""
        cdef Segment sealed = self.hot
        cdef LogFile log = self.backing.new_log(self, base)
        self.hot = Segment(base, log)
        if sealed is not None:
            sealed.is_sealed = True
            if sealed.rows and sealed.capacity != sealed.rows:
                sealed.grow(sealed.rows)
            if self.is_memory:
                sealed.log.tail.shrink(<size_t>sealed.log.end)
        self.segments.append(self.hot)
        self.version += 1
        if sealed is not None:
            if sealed.live == 0:
                self.drop_segment(sealed)
            else:
                self.backing.segment_sealed(self, sealed)
        return 0

    # What is not in the log yet.

    cdef int mark_pending(self) except -1:
        if not self.is_pending and not self.is_memory:
            self.is_pending = True
            self.pending_streams.append(self)
        return 0

    cdef int note_tombstone(self, uint64_t sequence) except -1:
        cdef uint64_t *grown
        if self.is_memory:
            # Nobody reads its log again.
            return 0
        if self.tombstone_count == self.tombstone_capacity:
            grown = <uint64_t *>realloc(self.tombstones,
                                        (self.tombstone_capacity * 2 + 16) * sizeof(uint64_t))
            if grown == NULL:
                raise MemoryError
            self.tombstones, self.tombstone_capacity = grown, self.tombstone_capacity * 2 + 16
        self.tombstones[self.tombstone_count] = sequence
        self.tombstone_count += 1
        return self.mark_pending()

    cdef int drop_segment(self, Segment segment) except -1:
        """Forget a segment; dead maps take over for the tombstones that its log held."""
        StreamIndex.drop_segment(self, segment)
        self.version += 1
        self.dead_maps_below = max(self.dead_maps_below, segment.base)
        return self.mark_pending()

    def flush_pending(self):
        """Put what was deleted since the last time into the log."""
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t count
        cdef uint64_t base
        cdef uint32_t *deltas
        cdef bytes body
        cdef Segment segment
        if self.is_memory:
            self.dead_maps_below, self.head_moved, self.has_explicit = 0, False, False
            return
        if self.dead_maps_below:
            for segment in self.segments:
                has_dead = segment.live != segment.rows and segment is not self.hot
                if segment.base < self.dead_maps_below and has_dead:
                    body = segment.export_dead()
                    self.write_record(DEAD_MAP, 0, segment.base, 0, 0, NULL, 0, NULL, 0,
                                      <const uint8_t *>PyBytes_AS_STRING(body),
                                      <uint64_t>PyBytes_GET_SIZE(body))
            self.dead_maps_below = 0
        while at < self.tombstone_count:
            base = self.tombstones[at]
            count = min(self.tombstone_count - at, TOMBSTONES_PER_RECORD)
            for index in range(at, at + count):
                base = min(base, self.tombstones[index])
            body = PyBytes_FromStringAndSize(NULL, count * 4)
            deltas = <uint32_t *>PyBytes_AS_STRING(body)
            for index in range(count):
                if self.tombstones[at + index] - base > 0xFFFFFFFF:
                    # The rest is too far from this base: it gets a record of its own.
                    count = index
                    break
                deltas[index] = <uint32_t>(self.tombstones[at + index] - base)
            if count == 0:
                # The first one is far above the smallest: swap them, then it is its own base.
                for index in range(at, self.tombstone_count):
                    if self.tombstones[index] == base:
                        self.tombstones[index] = self.tombstones[at]
                        self.tombstones[at] = base
                        break
                continue
            self.write_record(TOMBSTONES, 0, base, 0, 0, NULL, 0, NULL, 0,
                              <const uint8_t *>PyBytes_AS_STRING(body), <uint64_t>count * 4)
            at += count
        self.tombstone_count = 0
        if self.head_moved:
            self.write_record(HEAD, 0, self.first_sequence, self.last_timestamp_ns, 0, NULL, 0, NULL, 0, NULL,
                              0)
            self.head_moved = False
        self.has_explicit = False
        if self.is_pending:
            self.is_pending = False
            self.pending_streams.remove(self)
        if self.hot.log.end > self.segment_bytes and self.hot.log.end > 4096:
            self.rotate(self.last_sequence + 1)

    # Deleting.

    def check_writable(self):
        """Raise the WriteFailed that made the stream read-only, if one did."""
        if self.failure is not None:
            raise self.failure

    def delete(self, uint64_t sequence, *, bint erase=False):
        """Take one message out; with `erase` its bytes are overwritten too. False: there is none.

        Raises:
            ReadFailed: `erase` could not read the record's header; nothing was deleted.
        """
        cdef Segment segment = self.segment_of(sequence)
        cdef uint32_t row
        if segment is None or segment.is_dead(<uint32_t>(sequence - segment.base)):
            return False
        self.check_writable()
        self.ensure(segment)
        row = <uint32_t>(sequence - segment.base)
        if erase:
            self.erase_row(segment, row)
        self.remove_row(sequence)
        self.note_tombstone(sequence)
        self.has_explicit = True
        return True

    cdef int erase_row(self, Segment segment, uint32_t row) except -1:
        """Overwrite the body of a record with zeros; it stays a valid record."""
        cdef record_header_t header
        cdef const uint8_t *at
        cdef bytes erased
        cdef uint8_t *start
        try:
            at = self.record_of(segment, row, False)
        except RecordDamaged:
            return 0
        memcpy(&header, at, HEADER_BYTES)
        header.subject_length = 0
        header.headers_length = 0
        header.flags = ERASED
        erased = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>record_padded(header.length))
        start = <uint8_t *>PyBytes_AS_STRING(erased)
        memset(start, 0, record_padded(header.length))
        memcpy(start, &header, HEADER_BYTES)
        record_seal(start, header.length, segment.log.salt, segment.offset[row])
        self.window_log = None
        segment.log.overwrite(segment.offset[row], erased)
        return 0

    def delete_many(self, sequences):
        """Take out the messages with these sequences; return how many there were."""
        cdef uint64_t sequence
        cdef uint64_t before = self.messages
        self.check_writable()
        for sequence in sequences:
            if self.remove_row(sequence):
                self.note_tombstone(sequence)
                self.has_explicit = True
        return before - self.messages

    cdef uint64_t remove_front(self, uint64_t first) except? 0:
        """Take out every message below sequence `first`; return how many."""
        cdef uint64_t before = self.messages
        self.check_writable()
        if first > self.last_sequence:
            self.forget_all(self.last_sequence + 1)
            self.tombstone_count = 0
            self.version += 1
        else:
            while self.messages and self.first_sequence < first:
                self.remove_row(self.first_sequence)
        if before != self.messages:
            self.head_moved = self.has_explicit = True
            self.mark_pending()
        return before - self.messages

    def purge_to(self, uint64_t first):
        """Take out every message below sequence `first`; return how many."""
        return self.remove_front(first)

    def purge_all(self):
        """Take out every message; first_seq becomes last_seq + 1. Return how many there were."""
        return self.remove_front(self.last_sequence + 1)

    def truncate(self, uint64_t last, int64_t timestamp_ns):
        """Make `last` the last sequence again: what came after is gone and its sequences are given out again.

        Raises:
            ValueError: there is no message with that sequence.
        """
        cdef Segment segment = self.segment_of(last)
        if segment is None or segment.is_dead(<uint32_t>(last - segment.base)):
            raise ValueError(f"no message {last} to truncate to")
        self.flush_pending()
        self.apply_truncate(last)
        self.write_record(TRUNCATE, 0, last, timestamp_ns, 0, NULL, 0, NULL, 0, NULL, 0)

    def apply_truncate(self, uint64_t last):
        """Drop the rows after `last` and begin a new segment behind it."""
        cdef Segment segment
        cdef uint64_t sequence
        for sequence in range(last + 1, self.last_sequence + 1):
            self.remove_row(sequence)
        self.last_sequence = last
        # Sequences are given out again: what was to happen to their former owners must not happen to the new
        # ones.
        self.expiries = [one for one in self.expiries if one[1] <= last]
        heapify(self.expiries)
        self.never = {one for one in self.never if one <= last}
        self.age_from, self.aged_sequence = 0, 0
        for sequence in [one for one in self.lost if one > last]:
            del self.lost[sequence]
        self.rotate(last + 1)
        for segment in list(self.segments):
            if segment is self.hot or segment.base + segment.rows <= last + 1:
                continue
            self.ensure(segment)
            segment.cut(<uint32_t>(last + 1 - segment.base) if segment.base <= last else 0)
            if segment.rows == 0:
                self.drop_segment(segment)
        if self.segment_of(last) is not None:
            self.last_timestamp_ns = self.timestamp_of(last)
        if self.messages == 0:
            self.first_sequence = last + 1

    def expire(self, int64_t now_ns, *, Py_ssize_t count_max=1000):
        """Take out messages whose time is over; return [(sequence, subject, it was the last of its subject)].

        Both limits count: the stream's max_age_ns and each message's own expires_ns, which is NEVER_NS for one
        that stays whatever its age. At most `count_max` at a time.
        """
        cdef list out = []
        cdef uint64_t sequence
        cdef int64_t max_age_ns = self.limits.max_age_ns
        while self.expiries and self.expiries[0][0] <= now_ns and len(out) < count_max:
            _, sequence = heappop(self.expiries)
            if self.holds(sequence):
                self.expire_one(self.segment_of(sequence), sequence, out)
        while max_age_ns and len(out) < count_max:
            sequence = self.next_aged()
            if sequence == 0 or self.aged_ns(sequence) > now_ns - max_age_ns:
                break
            self.expire_one(self.segment_of(sequence), sequence, out)
        return out

    def next_expiry_ns(self):
        """Return the Unix ns at which the next message ends, 0: none will.

        Costs the same however many messages there are.
        """
        cdef uint64_t sequence
        cdef int64_t max_age_ns = self.limits.max_age_ns
        cdef int64_t soonest = 0
        while self.expiries and not self.holds(self.expiries[0][1]):
            heappop(self.expiries)
        if self.expiries:
            soonest = self.expiries[0][0]
        if max_age_ns:
            sequence = self.next_aged()
            if sequence and (soonest == 0 or self.aged_ns(sequence) + max_age_ns < soonest):
                soonest = self.aged_ns(sequence) + max_age_ns
        return soonest

    cdef bint holds(self, uint64_t sequence) except -1:
        """Tell whether there is a message with this sequence."""
        cdef Segment segment = self.segment_of(sequence)
        return segment is not None and not segment.is_dead(<uint32_t>(sequence - segment.base))

    cdef int note_expiry(self, int64_t expires_ns, uint64_t sequence) except -1:
        """Remember when a message ends, or that it never does."""
        if expires_ns == NEVER_C:
            self.never.add(sequence)
        else:
            heappush(self.expiries, (expires_ns, sequence))
        if len(self.expiries) + len(self.never) > self.expiries_max:
            self.prune_expiries()
        return 0

    cdef int prune_expiries(self) except -1:
        """Drop what is remembered of messages that are gone."""
        self.expiries = [one for one in self.expiries if self.holds(one[1])]
        heapify(self.expiries)
        self.never = {one for one in self.never if self.holds(one)}
        self.expiries_max = 2 * (len(self.expiries) + len(self.never)) + 1024
        return 0

    cdef uint64_t next_aged(self) except? 0:
        """Return the first message that the age limit counts for, 0: there is none."""
        cdef uint64_t sequence = self.next_live(max(self.age_from, self.first_sequence))
        while self.never and sequence <= self.last_sequence and sequence in self.never:
            sequence = self.next_live(sequence + 1)
        self.age_from = sequence
        return sequence if sequence <= self.last_sequence else 0

    cdef int64_t aged_ns(self, uint64_t sequence) except? -1:
        """Return the time of a message, kept so that asking again does not load its segment's columns."""
        if sequence != self.aged_sequence:
            self.aged_timestamp_ns, self.aged_sequence = self.timestamp_of(sequence), sequence
        return self.aged_timestamp_ns

    def export_expiries(self):
        """Return (expires_ns, sequence) of every message that has such a time, NEVER_NS among them."""
        return self.expiries + [(NEVER_NS, sequence) for sequence in sorted(self.never)]

    cdef int expire_one(self, Segment segment, uint64_t sequence, list out) except -1:
        cdef uint32_t id
        self.ensure(segment)
        if segment.is_dead(<uint32_t>(sequence - segment.base)):
            return 0
        id = segment.subject[sequence - segment.base]
        out.append((sequence, self.subjects.name(id), self.subjects.entries[id].count == 1))
        self.remove_row(sequence)
        self.note_tombstone(sequence)
        self.has_explicit = True
        return 0

    # State.

    @property
    def is_behind(self):
        """Whether something was deleted and is not in the log yet."""
        return self.is_pending

    @property
    def hot_log(self):
        """The log that is appended to, or None: the stream has not been started."""
        return None if self.hot is None else self.hot.log

    def state(self):
        """Return the StreamState."""
        empty = self.messages == 0
        return StreamState(
            messages=self.messages,
            bytes=self.bytes,
            first_seq=0 if empty and self.last_sequence == 0 else self.first_sequence,
            first_ts_ns=0 if empty else self.timestamp_of(self.first_sequence),
            last_seq=self.last_sequence,
            last_ts_ns=self.last_timestamp_ns,
            num_subjects=self.subjects.used,
            num_deleted=0 if empty else self.last_sequence + 1 - self.first_sequence - self.messages,
            lost=tuple(sorted(self.lost)),
            lost_bytes=sum(self.lost.values()),
        )

    # Restoring; see checkpoint.py and replay.pyx.

    def restore_state(self, SubjectTable subjects not None, list segments not None, counters, lost, expiries):
        """Take over what a checkpoint describes; the last segment is hot.

        Args:
            counters: (first_sequence, last_sequence, messages, bytes, last_timestamp_ns).
        """
        self.subjects, self.segments = subjects, segments
        self.hot = segments[len(segments) - 1]
        self.first_sequence, self.last_sequence, self.messages, self.bytes, self.last_timestamp_ns = counters
        self.lost = dict(lost)
        expiries = list(expiries)
        self.never = {sequence for expires_ns, sequence in expiries if expires_ns == NEVER_NS}
        self.expiries = [one for one in expiries if one[0] != NEVER_NS]
        heapify(self.expiries)
        self.prune_expiries()

    def forget_pending(self):
        """Drop what is noted for the log but not in it: recovery applied it from there."""
        self.tombstone_count = 0
        self.head_moved = self.has_explicit = False
        self.dead_maps_below = 0
        if self.is_pending:
            self.is_pending = False
            self.pending_streams.remove(self)


cdef uint32_t size_of(StreamStore stream, uint64_t sequence) except? 0:
    """Return the accounted bytes of a message."""
    cdef Segment segment = stream.segment_of(sequence)
    stream.ensure(segment)
    return segment.size[sequence - segment.base]
