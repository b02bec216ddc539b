# cython: language_level=3, embedsignature=True, wraparound=False
"""Reading the messages of one stream: one by sequence, many in order, or as they lie.

Every record is checked when it is read. One that does not pass is counted as lost and costs itself alone.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from storage.errors import RecordDamaged

from storage.pages cimport PAGE_BYTES, PageCache
from storage.record cimport (
    COMPRESSED, ENCRYPTED, EXPIRES, HEADER_BYTES, crc32c_choose, record_check, record_padded,
)

crc32c_choose()

cdef enum:
    # Reading ahead this far makes a sequential read one system call per some 1,500 small messages.
    WINDOW_BYTES = 262144


@cython.final
@cython.freelist(512)
cdef class Message:
    """One stored message."""

    def __repr__(self):
        return f"Message({self.sequence}, {self.subject!r}, {len(self.payload)} bytes)"

    def astuple(self):
        """Return (sequence, timestamp_ns, subject, headers, payload)."""
        return self.sequence, self.timestamp_ns, self.subject, self.headers, self.payload


cdef class StreamReader(StreamIndex):
    """The half of a StreamStore that reads."""

    def __cinit__(self, *args, **kwargs):
        self.pages = PageCache()

    cdef const uint8_t *record_of(self, Segment segment, uint32_t row, bint is_sequential) except? NULL:
        """Return the checked record of a live row, valid until the next call.

        Raises:
            RecordDamaged: it does not pass its checks; it is counted as lost from now on.
            ReadFailed: the file could not be read.
        """
        cdef LogFile log = segment.log
        cdef uint64_t offset, end, wanted
        cdef const uint8_t *at
        cdef Py_ssize_t got
        cdef bint is_checked = False
        if segment.block == NULL:
            self.ensure(segment)
        offset = segment.offset[row]
        end = segment.offset[row + 1] if row + 1 < segment.rows else log.end
        # No record is longer than its accounted size and this; what lies between two may be (tombstones).
        wanted = min(end - offset, record_padded(<uint64_t>segment.size[row] + (HEADER_BYTES + 160)))
        at = log.locate(offset, wanted)
        if at == NULL:
            if self.window_log is log and offset >= self.window_start and offset + wanted <= self.window_end:
                at = self.window.data + (offset - self.window_start)
            elif is_sequential or wanted > PAGE_BYTES:
                got = self.fill_window(log, offset, max(wanted, WINDOW_BYTES) if is_sequential else wanted)
                at = self.window.data
                wanted = min(wanted, <uint64_t>got)
            else:
                at = self.pages.find(log, offset, wanted)
                if at == NULL or record_check(at, wanted, log.salt, offset) == 0:
                    got = self.fill_window(log, offset, wanted)
                    at = self.window.data
                    wanted = min(wanted, <uint64_t>got)
                else:
                    is_checked = True
        if not is_checked and record_check(at, wanted, log.salt, offset) == 0 or (
                <const record_header_t *>at).sequence != segment.base + row:
            self.window_log = None
            self.mark_lost(segment.base + row)
            raise RecordDamaged(
                f"{log.path} at {offset}: message {segment.base + row} does not pass its checks")
        return at

    cdef Py_ssize_t fill_window(self, LogFile log, uint64_t offset, uint64_t size) except -1:
        cdef Py_ssize_t got
        self.window_log = None
        if self.window.capacity < size:
            self.window = Block(size)
        got = log.read_into(self.window.data, size, offset)
        self.window_log, self.window_start, self.window_end = log, offset, offset + <uint64_t>got
        return got

    def mark_lost(self, uint64_t sequence):
        """Count the message `sequence` as lost: its record is damaged."""
        cdef Segment segment = self.segment_of(sequence)
        if sequence in self.lost:
            return
        self.damaged_reads += 1
        if segment is None or segment.is_dead(<uint32_t>(sequence - segment.base)):
            self.lost[sequence] = 0
            return
        self.ensure(segment)
        self.lost[sequence] = segment.size[sequence - segment.base]
        self.remove_row(sequence)
        self.version += 1

    cdef int peek(self, uint64_t sequence, record_view_t *view) except -1:
        """Fill `view` with the message where it lies, without a Python object; 0: there is none.

        The memory is valid until the next call into the stream. A coded message is decoded first.

        Raises:
            RecordDamaged, ReadFailed: as record_of. KeyRequired: it is encrypted with another key.
        """
        cdef Segment segment = self.segment_of(sequence)
        cdef const uint8_t *at
        cdef const record_header_t *header
        cdef uint32_t row
        if segment is None:
            return 0
        row = <uint32_t>(sequence - segment.base)
        if segment.is_dead(row):
            return 0
        at = self.record_of(segment, row, sequence == self.read_next)
        self.read_next = sequence + 1
        header = <const record_header_t *>at
        view.sequence, view.timestamp_ns = header.sequence, header.timestamp_ns
        at += HEADER_BYTES + (8 if header.flags & EXPIRES else 0)
        if header.flags & (COMPRESSED | ENCRYPTED):
            return self.peek_decoded(header, at, view)
        view.subject, view.subject_bytes = at, header.subject_length
        view.headers, view.headers_bytes = at + header.subject_length, header.headers_length
        view.payload = view.headers + header.headers_length
        view.payload_bytes = <uint32_t>(<const uint8_t *>header + header.length - view.payload)
        return 1

    cdef int peek_decoded(self, const record_header_t *header, const uint8_t *body, record_view_t *view) except -1:
        cdef bytes subject, headers, payload
        self.decoded = self.codec.decode(
            header.flags, header.sequence, body[:<const uint8_t *>header + header.length - body])
        subject, headers, payload = self.decoded
        view.subject, view.subject_bytes = <const uint8_t *>PyBytes_AS_STRING(subject), <uint32_t>len(subject)
        view.headers, view.headers_bytes = <const uint8_t *>PyBytes_AS_STRING(headers), <uint32_t>len(headers)
        view.payload, view.payload_bytes = <const uint8_t *>PyBytes_AS_STRING(payload), <uint32_t>len(payload)
        return 1

    def peeked(self, uint64_t sequence):
        """Return a copy of what `peek` shows as a Message, or None: there is none.

        Raises:
            RecordDamaged, ReadFailed: as get.
        """
        cdef record_view_t view
        cdef Message message
        if not self.peek(sequence, &view):
            return None
        message = Message.__new__(Message)
        message.sequence, message.timestamp_ns = view.sequence, view.timestamp_ns
        message.subject = view.subject[:view.subject_bytes]
        message.headers = view.headers[:view.headers_bytes]
        message.payload = view.payload[:view.payload_bytes]
        return message

    cdef Message message_of(self, Segment segment, uint32_t row, bint is_sequential):
        """Return a live row as a Message."""
        cdef const uint8_t *at = self.record_of(segment, row, is_sequential)
        cdef const record_header_t *header = <const record_header_t *>at
        cdef const uint8_t *end = at + header.length
        cdef Message message = Message.__new__(Message)
        message.sequence, message.timestamp_ns = header.sequence, header.timestamp_ns
        at += HEADER_BYTES + (8 if header.flags & EXPIRES else 0)
        if header.flags & (COMPRESSED | ENCRYPTED):
            message.subject, message.headers, message.payload = self.codec.decode(
                header.flags, header.sequence, at[:end - at])
            return message
        message.subject = PyBytes_FromStringAndSize(<const char *>at, header.subject_length)
        at += header.subject_length
        message.headers = PyBytes_FromStringAndSize(<const char *>at, header.headers_length)
        at += header.headers_length
        message.payload = PyBytes_FromStringAndSize(<const char *>at, end - at)
        return message

    def get(self, uint64_t sequence):
        """Return the Message with this sequence, or None: there is none.

        Raises:
            RecordDamaged: it does not pass its checks and is counted in `lost`; asking again gives None.
            ReadFailed: the file could not be read.
        """
        cdef Segment segment = self.segment_of(sequence)
        cdef uint32_t row
        cdef bint is_sequential
        if segment is None:
            return None
        row = <uint32_t>(sequence - segment.base)
        if segment.is_dead(row):
            return None
        is_sequential = sequence == self.read_next
        self.read_next = sequence + 1
        return self.message_of(segment, row, is_sequential)

    def read(self, uint64_t start, Py_ssize_t count, uint64_t bytes_max=1 << 62):
        """Return up to `count` messages from sequence `start`, in order.

        Stops after the message that makes the accounted bytes pass `bytes_max`. Damaged ones are left out
        and counted in `lost`.

        Raises:
            ReadFailed: the file could not be read.
        """
        cdef list out = []
        cdef uint64_t used = 0
        cdef Segment segment
        cdef uint32_t row
        cdef Py_ssize_t index = self.segment_index(start)
        cdef list segments = list(self.segments)
        while index < len(segments) and len(out) < count:
            segment = <Segment>segments[index]
            index += 1
            row = segment.next_live_row(<uint32_t>(start - segment.base) if start > segment.base else 0)
            while row < segment.rows and len(out) < count:
                if segment.block == NULL:
                    self.ensure(segment)
                used += segment.size[row]
                try:
                    out.append(self.message_of(segment, row, True))
                except RecordDamaged:
                    pass
                row = segment.next_live_row(row + 1)
                if used > bytes_max:
                    return out
        if out:
            self.read_next = (<Message>out[len(out) - 1]).sequence + 1
        return out

    def timestamp_of(self, uint64_t sequence):
        """Return the Unix ns of a row, dead ones included; 0: no such row."""
        cdef Segment segment = self.segment_of(sequence)
        if segment is None:
            return 0
        self.ensure(segment)
        return segment.timestamp[sequence - segment.base]

    def live_sequences(self, Segment segment not None):
        """Return the live sequences of a segment, in order."""
        cdef list out = []
        cdef uint32_t row = segment.next_live_row(0)
        while row < segment.rows:
            out.append(segment.base + row)
            row = segment.next_live_row(row + 1)
        return out

    def deleted(self, Py_ssize_t count_max=1 << 40):
        """Return the sequences between first and last that hold no message, in order."""
        cdef list out = []
        cdef uint64_t sequence = self.first_sequence
        cdef uint64_t live
        while self.messages and sequence <= self.last_sequence and len(out) < count_max:
            live = self.next_live(sequence)
            while sequence < live and len(out) < count_max:
                out.append(sequence)
                sequence += 1
            sequence = live + 1
        return out

    def message_ids(self, int64_t since_ns):
        """Return (id, sequence, timestamp_ns) of the messages with a Nats-Msg-Id stored since a Unix time in ns.

        They come in order. Segments in which no message has one cost nothing; damaged messages are left out.

        Raises:
            ReadFailed: the file could not be read.
        """
        cdef list out = []
        cdef Segment segment
        cdef uint32_t row
        cdef uint32_t id_bytes = 0
        cdef record_view_t view
        cdef const uint8_t *id
        for segment in list(self.segments):
            if not segment.has_ids or segment.last_timestamp < since_ns:
                continue
            self.ensure(segment)
            row = segment.next_live_row(segment.row_at(since_ns))
            while row < segment.rows:
                self.read_next = segment.base + row
                try:
                    if self.peek(segment.base + row, &view):
                        id = message_id_of(view.headers, view.headers_bytes, &id_bytes)
                        if id != NULL:
                            out.append((id[:id_bytes], view.sequence, view.timestamp_ns))
                except RecordDamaged:
                    pass
                row = segment.next_live_row(row + 1)
        return out


@cython.final
cdef class FrozenSegment:
    """The rows of a segment that were live at one moment; see snapshot.py."""

    def __init__(self, StreamReader stream not None, Segment segment not None):
        stream.ensure(segment)
        self.stream = stream
        self.segment = Segment(segment.base, segment.log)
        self.segment.restore(segment.rows, segment.live, segment.live_bytes, segment.last_timestamp,
                             segment.export_dead())
        self.segment.import_columns(segment.export_columns())
        if segment.log.written and segment.log.file is None and not segment.log.is_memory:
            # Open, so that it can be read when its name is gone.
            stream.backing.open_log(segment.log)
        self.file = segment.log.file

    def rows(self):
        """Yield the rows."""
        cdef uint32_t row = self.segment.next_live_row(0)
        while row < self.segment.rows:
            yield row
            row = self.segment.next_live_row(row + 1)

    def message(self, uint32_t row):
        """Return the message of a row, or None: it was erased.

        Raises:
            RecordDamaged, ReadFailed: as StreamReader.get.
        """
        cdef Message message
        if self.segment.log.file is None:
            self.segment.log.file = self.file
        message = self.stream.message_of(self.segment, row, True)
        return message if message.subject else None
