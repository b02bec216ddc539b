# cython: language_level=3, embedsignature=True, wraparound=False
"""Messages of one stream on their way into another: packed by the owner of the origin, stored by who mirrors or
sources it.

    A block is messages one behind the other; little-endian:
    0  8  sequence in the origin        16  4  bytes of headers        24  2  bytes of the subject
    8  8  timestamp, Unix ns            20  4  bytes of the payload    26  …  subject, headers, payload

`mirror` and `source` store what needs no further look and stop at the first message that does, or that the store
refuses: that one is the caller's.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy

from storage.errors import RecordDamaged

from storage.queries cimport next_match
from storage.reader cimport record_view_t
from storage.stream cimport StreamStore
from storage.subjects cimport SubjectFilter
from workers.octets cimport write_decimal


cdef extern from "<string.h>" nogil:
    void* memmem(const void* text, size_t length, const void* part, size_t part_length)


cdef enum:
    HEAD_BYTES = 26
    HEADERS_MAX = 65535            # more is refused, by the publisher
    DIGITS_MAX = 20

cdef const char* FIRST_LINE = b"NATS/1.0\r\n"
cdef const char* SOURCE_NAME = b"Nats-Stream-Source: "


def pack(StreamStore store not None, SubjectFilter filter not None, uint64_t start, uint64_t stop,
         Py_ssize_t count_max, size_t bytes_max):
    """Return a block of messages from sequence `start` to `stop`, and the first sequence not looked at.

    Args:
        count_max: messages at the most. bytes_max: the message that passes it is the last.
    Raises:
        ReadFailed: the file could not be read.
    """
    cdef record_view_t view
    cdef head_t head
    cdef uint64_t sequence
    cdef size_t used = 0, need, capacity = bytes_max + 65536
    cdef uint8_t* grown
    cdef uint8_t* data = <uint8_t*>malloc(capacity)
    if data == NULL:
        raise MemoryError
    try:
        while count_max > 0 and used < bytes_max and start <= stop:
            sequence = next_match(store, filter, start)
            if sequence == 0 or sequence > stop:
                start = stop + 1
                break
            start = sequence + 1
            store.read_next = sequence         # they are read in order
            try:
                if not store.peek(sequence, &view):
                    continue
            except RecordDamaged:              # counted as lost by the store
                continue
            need = used + HEAD_BYTES + view.subject_bytes + view.headers_bytes + view.payload_bytes
            if need > capacity:
                grown = <uint8_t*>realloc(data, need)
                if grown == NULL:
                    raise MemoryError
                data, capacity = grown, need
            head.sequence, head.timestamp_ns = view.sequence, view.timestamp_ns
            head.headers_bytes, head.payload_bytes = view.headers_bytes, view.payload_bytes
            head.subject_bytes = <unsigned short>view.subject_bytes
            memcpy(data + used, &head, HEAD_BYTES)
            used += HEAD_BYTES
            memcpy(data + used, view.subject, view.subject_bytes)
            used += view.subject_bytes
            memcpy(data + used, view.headers, view.headers_bytes)
            used += view.headers_bytes
            memcpy(data + used, view.payload, view.payload_bytes)
            used += view.payload_bytes
            count_max -= 1
        return data[:used], start
    finally:
        free(data)


cdef bint needs_care(const uint8_t* headers, uint32_t length, bint has_window) noexcept nogil:
    """Tell whether headers mean something to the server, other than an id where nobody looks for duplicates."""
    cdef const uint8_t* at = headers
    cdef const uint8_t* end = headers + length
    if length == 0:
        return False
    if length < 12 or length > HEADERS_MAX or headers[8] != c"\r":
        return True
    while True:
        at = <const uint8_t*>memmem(at, <size_t>(end - at), <const char*>b"\r\nNats-", 7)
        if at == NULL:
            return False
        at += 7
        if has_window or <size_t>(end - at) < 7 or memcmp(at, <const char*>b"Msg-Id:", 7) != 0:
            return True


cdef class Block:
    """Messages that another stream sent, taken one after the other."""

    def __cinit__(self, bytes data not None):
        self.data = data

    def __init__(self, data):
        """Take what `pack` made."""

    def __dealloc__(self):
        free(self.scratch)

    def __len__(self):
        """Return its bytes."""
        return len(self.data)

    @property
    def is_done(self):
        """Whether all messages have been taken."""
        return self.position == len(self.data)

    cdef const uint8_t* next_head(self, head_t* head) except NULL:
        """Fill `head` with the next message's and return where its subject begins."""
        cdef size_t left = <size_t>(len(self.data) - self.position)
        cdef const uint8_t* at = <const uint8_t*>self.data + self.position
        if left >= HEAD_BYTES:
            memcpy(head, at, HEAD_BYTES)
            if left - HEAD_BYTES >= <size_t>head.subject_bytes + head.headers_bytes + head.payload_bytes:
                return at + HEAD_BYTES
        raise ValueError(f"block of {len(self.data)} bytes ends within the message at {self.position}")

    cdef int step(self, const head_t* head) except -1:
        """Go on to the message after this one."""
        self.position += HEAD_BYTES + <Py_ssize_t>head.subject_bytes + head.headers_bytes + head.payload_bytes
        self.last_sequence = head.sequence
        return 0

    def message(self):
        """Return sequence, timestamp_ns, subject, headers and payload of the next message.

        Raises:
            ValueError: the block is cut off, or all has been taken.
        """
        cdef head_t head
        cdef const uint8_t* at = self.next_head(&head)
        cdef const uint8_t* body = at + head.subject_bytes
        return (head.sequence, head.timestamp_ns, at[:head.subject_bytes], body[:head.headers_bytes],
                body[head.headers_bytes:<size_t>head.headers_bytes + head.payload_bytes])

    def skip(self):
        """Count the next message as taken.

        Raises:
            ValueError: as message().
        """
        cdef head_t head
        self.next_head(&head)
        self.step(&head)

    def mirror(self, StreamStore store not None, transformed, *, bint has_window):
        """Store messages with their own sequences and times; those that are there already are passed over.

        Args:
            transformed: changes subjects, or None.
            has_window: ids of messages matter.
        Raises:
            ValueError: the block is cut off.
            StorageError: the store has failed.
        """
        cdef head_t head
        cdef const uint8_t* at
        cdef const uint8_t* headers
        cdef const uint8_t* name
        cdef uint32_t length
        cdef bytes subject = None
        while self.position < len(self.data):
            at = self.next_head(&head)
            if head.sequence > store.last_sequence:
                headers = at + head.subject_bytes
                if needs_care(headers, head.headers_bytes, has_window):
                    return
                if head.sequence > store.last_sequence + 1:
                    store.skip_to(head.sequence - 1, store.last_timestamp_ns)
                name, length = at, head.subject_bytes
                if transformed is not None:
                    subject = transformed(at[:head.subject_bytes])
                    name, length = subject, <uint32_t>len(subject)
                if store.append_c(name, length, headers, head.headers_bytes, headers + head.headers_bytes,
                                  head.payload_bytes,
                                  max(head.timestamp_ns, store.last_timestamp_ns), 0) < 0:
                    return
            self.step(&head)

    def source(self, StreamStore store not None, int64_t now_ns, bytes origin not None, bytes rest not None,
               bytes identity not None, transformed, *, bint has_window):
        """Store messages at the end, each with a header that says where it is from:

            Nats-Stream-Source: <origin> <sequence> <rest> <subject> <identity>

        Args:
            now_ns: time of the messages.
            transformed: changes subjects, or None.
            has_window: ids of messages matter.
        Raises:
            ValueError: the block is cut off.
            StorageError: the store has failed.
        """
        cdef head_t head
        cdef const uint8_t* at
        cdef const uint8_t* name
        cdef uint32_t length, name_length
        cdef bytes subject = None
        now_ns = max(now_ns, store.last_timestamp_ns)
        while self.position < len(self.data):
            at = self.next_head(&head)
            if needs_care(at + head.subject_bytes, head.headers_bytes, has_window):
                return
            length = self.with_source(&head, at, origin, rest, identity)
            name, name_length = at, head.subject_bytes
            if transformed is not None:
                subject = transformed(at[:head.subject_bytes])
                name, name_length = subject, <uint32_t>len(subject)
            if length > HEADERS_MAX or store.append_c(
                    name, name_length, self.scratch, length, at + head.subject_bytes + head.headers_bytes,
                    head.payload_bytes, now_ns, 0) < 0:
                return
            self.step(&head)

    cdef uint32_t with_source(self, const head_t* head, const uint8_t* parts, bytes origin, bytes rest,
                              bytes identity) except 0:
        """Make the message's header block with Nats-Stream-Source at its end; return its bytes in `scratch`."""
        cdef size_t need = (<size_t>head.headers_bytes + head.subject_bytes + len(origin) + len(rest)
                            + len(identity) + DIGITS_MAX + 64)
        cdef const uint8_t* headers = parts + head.subject_bytes
        cdef uint8_t* at
        if need > self.scratch_bytes:
            at = <uint8_t*>realloc(self.scratch, need)
            if at == NULL:
                raise MemoryError
            self.scratch, self.scratch_bytes = at, need
        at = self.scratch
        if head.headers_bytes:
            at = put(at, headers, head.headers_bytes - 2)
        else:
            at = put(at, <const uint8_t*>FIRST_LINE, 10)
        at = put(at, <const uint8_t*>SOURCE_NAME, 20)
        at = put_word(at, origin)
        at += write_decimal(at, head.sequence)
        at[0] = c" "
        at = put_word(at + 1, rest)
        at = put(at, parts, head.subject_bytes)
        at[0] = c" "
        at = put(at + 1, <const uint8_t*>identity, <size_t>len(identity))
        at = put(at, <const uint8_t*>b"\r\n\r\n", 4)
        return <uint32_t>(at - self.scratch)


cdef inline uint8_t* put(uint8_t* at, const uint8_t* text, size_t length) noexcept nogil:
    memcpy(at, text, length)
    return at + length


cdef inline uint8_t* put_word(uint8_t* at, bytes text) noexcept:
    at = put(at, <const uint8_t*>text, <size_t>len(text))
    at[0] = c" "
    return at + 1
