# cython: language_level=3, embedsignature=True, wraparound=False
"""Direct get of one stream: the two commonest requests answered without a Python object.

Those are DIRECT.GET.<stream>.<subject> with an empty body, and a body of exactly `{"seq":n}` or
`{"last_by_subj":"..."}` with a literal subject in plain letters; blanks between the parts do not matter. All others
go to direct_requests.py. An answer is the stored message with the headers Nats-Stream, Nats-Subject, Nats-Sequence
and Nats-Time-Stamp behind its own, published to the reply subject.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy

from storage.errors import StorageError
from workers.jetstream.direct_requests import DirectRequests

from storage.reader cimport Message as StoredMessage, record_view_t
from workers.dataplane cimport DataPlane
from workers.model cimport Message
from workers.octets cimport write_decimal
from workers.outbox cimport send_message
from workers.sinks cimport Sink, message_headers, message_payload, message_reply


cdef enum:
    # Names, numbers and ends of lines of the headers that are added, beside the stream's name and the subject.
    BLOCK_ROOM = 320
    # Tokens before the stream's name in $JS.API.DIRECT.GET.<stream>; with a domain, one more.
    NAME_TOKEN = 4
    # More digits may not fit 64 bits: left to the slow reader.
    DIGITS_MAX = 19

cdef const char* NOT_FOUND = b"NATS/1.0 404 Message Not Found\r\n\r\n"
cdef const char* FIRST_LINE = b"NATS/1.0\r\n"


# ---- text ------------------------------------------------------------------------------------------------------

cdef inline uint32_t put(uint8_t* at, const char* text, uint32_t length) noexcept nogil:
    memcpy(at, text, length)
    return length


cdef inline void put_digits(uint8_t* at, uint32_t number, uint32_t digits) noexcept nogil:
    while digits:
        digits -= 1
        at[digits] = <uint8_t>(c"0" + number % 10)
        number //= 10


cdef uint32_t write_time(uint8_t* at, int64_t time_ns) noexcept nogil:
    """Write a Unix time, 0 or later, as RFC 3339 in UTC without trailing zeros; return its bytes, at most 30.

    The day's date is counted in eras of 400 years from 0000-03-01, so that leap days come last.
    """
    cdef uint64_t seconds = <uint64_t>time_ns // 1000000000
    cdef uint32_t fraction = <uint32_t>(<uint64_t>time_ns % 1000000000)
    cdef uint32_t second = <uint32_t>(seconds % 86400)
    cdef uint32_t day = <uint32_t>(seconds // 86400) + 719468
    cdef uint32_t era = day // 146097
    cdef uint32_t day_of_era = day % 146097
    cdef uint32_t year = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    cdef uint32_t day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    cdef uint32_t month = (5 * day_of_year + 2) // 153
    cdef uint32_t length = 19
    cdef uint32_t digits = 9
    put_digits(at + 8, day_of_year - (153 * month + 2) // 5 + 1, 2)
    put_digits(at + 5, month + 3 if month < 10 else month - 9, 2)
    put_digits(at, year + 400 * era + (month >= 10), 4)
    put_digits(at + 11, second // 3600, 2)
    put_digits(at + 14, second // 60 % 60, 2)
    put_digits(at + 17, second % 60, 2)
    at[4] = at[7] = c"-"
    at[10] = c"T"
    at[13] = at[16] = c":"
    if fraction:
        while fraction % 10 == 0:
            fraction //= 10
            digits -= 1
        at[19] = c"."
        put_digits(at + 20, fraction, digits)
        length = 20 + digits
    at[length] = c"Z"
    return length + 1


def format_time(int64_t time_ns):
    """Return what write_time writes."""
    cdef uint8_t text[32]
    return text[:write_time(text, time_ns)]


# ---- requests --------------------------------------------------------------------------------------------------

cdef const uint8_t* subject_key(const Message* message, uint32_t* length) noexcept nogil:
    """Return where what follows the stream's name in the subject begins and set its length; NULL: nothing does."""
    cdef const uint8_t* at = message.subject
    cdef const uint8_t* end = at + message.subject_length
    cdef uint32_t dots = NAME_TOKEN + 1
    if message.subject_length > 8 and memcmp(at + 4, b"API.", 4) != 0:
        dots += 1
    while dots:
        at = <const uint8_t*>memchr(at, c".", end - at)
        if at == NULL:
            return NULL
        at += 1
        dots -= 1
    length[0] = <uint32_t>(end - at)
    return at


cdef inline bint is_blank(uint8_t letter) noexcept nogil:
    return letter == c" " or letter == c"\n" or letter == c"\r" or letter == c"\t"


cdef inline const uint8_t* skip_blanks(const uint8_t* at, const uint8_t* end) noexcept nogil:
    while at < end and is_blank(at[0]):
        at += 1
    return at


cdef bint ends_object(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Tell whether `}` and blanks are all that is left."""
    at = skip_blanks(at, end)
    return at < end and at[0] == c"}" and skip_blanks(at + 1, end) == end


cdef const uint8_t* read_member(const uint8_t* at, const uint8_t* end, const char* name, size_t length) noexcept nogil:
    """Return where the value begins if `{ "name" :` comes first, else NULL; a byte follows it."""
    at = skip_blanks(at, end)
    if at == end or at[0] != c"{":
        return NULL
    at = skip_blanks(at + 1, end)
    if <size_t>(end - at) < length or memcmp(at, name, length) != 0:
        return NULL
    at = skip_blanks(at + length, end)
    if at == end or at[0] != c":":
        return NULL
    at = skip_blanks(at + 1, end)
    return at if at < end else NULL


cdef uint64_t read_sequence(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Return n of `{"seq":n}`, 0: the body is anything else."""
    cdef uint64_t number = 0
    cdef uint32_t digits = 0
    at = read_member(at, end, b'"seq"', 5)
    if at == NULL or at[0] == c"0":
        return 0
    while at < end and c"0" <= at[0] <= c"9":
        number = number * 10 + (at[0] - c"0")
        at += 1
        digits += 1
        if digits > DIGITS_MAX:
            return 0
    return number if ends_object(at, end) else 0


cdef const uint8_t* read_subject(const uint8_t* at, const uint8_t* end, uint32_t* length) noexcept nogil:
    """Return the subject of `{"last_by_subj":"subject"}` and set its length; NULL: the body is anything else."""
    cdef const uint8_t* start
    at = read_member(at, end, b'"last_by_subj"', 14)
    if at == NULL or at[0] != c'"':
        return NULL
    at += 1
    start = at
    while at < end and at[0] != c'"':
        # Escapes, control letters and what is not ASCII need a real JSON reader.
        if at[0] == c"\\" or at[0] < 32 or at[0] > 126:
            return NULL
        at += 1
    length[0] = <uint32_t>(at - start)
    if at == end or length[0] == 0 or not ends_object(at + 1, end):
        return NULL
    return start


cdef inline bint is_literal(const uint8_t* subject, uint32_t length) noexcept nogil:
    """Tell whether a subject holds neither `*` nor `>`; those may be letters of a literal one too."""
    return memchr(subject, c"*", length) == NULL and memchr(subject, c">", length) == NULL


# ---- the sink --------------------------------------------------------------------------------------------------

cdef class DirectGet(Sink):
    """Answers $JS.API.DIRECT.GET.<stream> and $JS.API.DIRECT.GET.<stream>.>, also with a domain."""

    def __cinit__(self):
        self.block = NULL

    def __init__(self, stream not None):
        """Answer from `stream.store`; batches go on through `stream.engine.later`."""
        self.store = stream.store
        self.name = f"Nats-Stream: {stream.name}\r\nNats-Subject: ".encode()
        self.requests = DirectRequests(
            stream.store, self, is_memory=stream.is_memory, max_bytes=stream.engine.config.max_pending,
            later=stream.engine.later)

    def __dealloc__(self):
        free(self.block)

    cdef int take(self, const Message* message) except -1:
        cdef uint32_t key_length = 0
        cdef const uint8_t* key
        if message.reply_length == 0:
            return 0
        key = subject_key(message, &key_length)
        if message.header_size > 0 or not self.take_fast(message, key, key_length):
            self.take_slow(message, key, key_length, key != NULL)
        return 0

    cdef int take_fast(self, const Message* message, const uint8_t* key, uint32_t key_length) except -1:
        """Answer one of the two commonest requests; 0: it is another. It has no headers."""
        cdef const uint8_t* end = message.tail + message.tail_length - 2
        cdef const uint8_t* body = end - message.size
        cdef uint64_t sequence
        if key == NULL:
            sequence = read_sequence(body, end)
            if sequence:
                return self.answer_sequence(message, sequence)
            key = read_subject(body, end, &key_length)
        elif message.size:
            return 0
        if key == NULL or key_length == 0 or not is_literal(key, key_length):
            return 0
        return self.answer_subject(message, key, key_length)

    cdef int take_slow(self, const Message* message, const uint8_t* key, uint32_t key_length,
                       bint has_key) except -1:
        subject = key[:key_length].decode("utf-8", "surrogateescape") if has_key else None
        self.requests.take(subject, message_reply(message), message_headers(message), message_payload(message))
        return 0

    cdef int answer_subject(self, const Message* message, const uint8_t* subject, uint32_t length) except -1:
        cdef long long id = self.store.subjects.find(subject, length)
        return self.answer_sequence(message, self.store.subjects.entries[id].last if id >= 0 else 0)

    cdef int answer_sequence(self, const Message* message, uint64_t sequence) except -1:
        """Send a stored message, or that there is none; return 1."""
        cdef record_view_t view
        cdef uint32_t length
        cdef int is_found = 0
        if sequence:
            try:
                is_found = self.store.peek(sequence, &view)
            except StorageError:
                # The store has counted it; to the client a message that cannot be read is none.
                is_found = 0
        if not is_found:
            send_message(self.plane, self.account, message.reply, message.reply_length, NULL, 0,
                         <const uint8_t*>NOT_FOUND, 34, NULL, 0)
            return 1
        length = self.write_block(&view, -1, 0)
        send_message(self.plane, self.account, message.reply, message.reply_length, NULL, 0, self.block, length,
                     view.payload, view.payload_bytes)
        return 1

    cdef uint32_t write_block(self, const record_view_t* view, int64_t num_pending, uint64_t last_sequence) except 0:
        """Write the headers of an answer into `block`; return their bytes."""
        cdef uint64_t room = <uint64_t>view.headers_bytes + len(self.name) + view.subject_bytes + BLOCK_ROOM
        cdef uint8_t* at
        cdef uint8_t* grown
        if room > self.block_capacity:
            grown = <uint8_t*>realloc(self.block, 2 * room)
            if grown == NULL:
                raise MemoryError
            self.block, self.block_capacity = grown, 2 * room
        at = self.block
        if view.headers_bytes > 2:
            # Without the empty line that ends it.
            memcpy(at, view.headers, view.headers_bytes - 2)
            at += view.headers_bytes - 2
        else:
            at += put(at, FIRST_LINE, 10)
        at += put(at, self.name, <uint32_t>len(self.name))
        memcpy(at, view.subject, view.subject_bytes)
        at += view.subject_bytes
        at += put(at, b"\r\nNats-Sequence: ", 17)
        at += write_decimal(at, view.sequence)
        at += put(at, b"\r\nNats-Time-Stamp: ", 19)
        at += write_time(at, view.timestamp_ns)
        if num_pending >= 0:
            at += put(at, b"\r\nNats-Num-Pending: ", 20)
            at += write_decimal(at, <uint64_t>num_pending)
            at += put(at, b"\r\nNats-Last-Sequence: ", 22)
            at += write_decimal(at, last_sequence)
        at += put(at, b"\r\n\r\n", 4)
        return <uint32_t>(at - self.block)

    # What direct_requests.py sends through.

    def send_message(self, bytes reply not None, StoredMessage message not None, int64_t num_pending,
                     uint64_t last_sequence, *, bint with_headers):
        """Send a stored message; see direct_requests.Sender."""
        cdef record_view_t view
        cdef uint32_t length = 0
        if self.plane == NULL:
            return False
        if with_headers:
            view_of(message, &view)
            length = self.write_block(&view, num_pending, last_sequence)
        send_message(self.plane, self.account, reply, <uint32_t>len(reply), NULL, 0, self.block, length,
                     message.payload, len(message.payload))
        return self.run_soon()

    def send_status(self, bytes reply not None, bytes status not None):
        """Send a status; see direct_requests.Sender."""
        cdef bytes block = b"NATS/1.0 " + status + b"\r\n\r\n"
        if self.plane == NULL:
            return False
        send_message(self.plane, self.account, reply, <uint32_t>len(reply), NULL, 0, block, <uint32_t>len(block),
                     NULL, 0)
        return self.run_soon()

    cdef bint run_soon(self) except -1:
        """Have written what was sent, which may be outside of a round; return True."""
        (<DataPlane>self.plane.face)._run_soon()
        return True

    def header_block(self, uint64_t sequence, int64_t num_pending=-1, uint64_t last_sequence=0):
        """Return the headers of an answer with the message `sequence`, None: there is none."""
        cdef record_view_t view
        if not self.store.peek(sequence, &view):
            return None
        return self.block[:self.write_block(&view, num_pending, last_sequence)]


cdef int view_of(StoredMessage message, record_view_t* view) except -1:
    """Show a message that was read; the view is valid as long as it is."""
    view.sequence, view.timestamp_ns = message.sequence, message.timestamp_ns
    view.subject, view.subject_bytes = message.subject, <uint32_t>len(message.subject)
    view.headers, view.headers_bytes = message.headers, <uint32_t>len(message.headers)
    view.payload, view.payload_bytes = message.payload, <uint32_t>len(message.payload)
    return 0
