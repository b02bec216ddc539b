# cython: language_level=3, embedsignature=True, wraparound=False
"""Parser of what clients send: one operation at a time from a block of bytes, no I/O, no state.

The rules are nats-server's, oddities included: verbs in any case, blanks are runs of space and tab, a line ends with LF
and may have CR before it, PING and PONG ignore the rest of their line, a published payload must be followed by
exactly CR LF. Most operations are `PUB subject [reply] size` with single blanks: parse_pub finds their parts with one
64-byte scan. Everything else takes the slow way through split_arguments.

What a subscriber is sent after its sid is, byte for byte, what the publisher sent after the subject: reply, sizes,
payload. Op.tail points there, so a delivery is two copies. A line with other separators is rewritten in place first.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memchr, memcpy, memmove

from workers.octets cimport OCTETS_SLACK, must_calloc, must_malloc


cdef enum:
    TAB = 0x09
    ARGUMENTS_MAX = 4              # HPUB subject reply #hdr #total


cdef inline int is_blank(uint8_t byte) noexcept nogil:
    return byte == BLANK or byte == TAB


cdef inline int parts(uint8_t byte, int line_ends) noexcept nogil:
    return is_blank(byte) or (line_ends and (byte == CR or byte == LF))


cdef int split_arguments(uint8_t* text, uint64_t length, int line_ends, Span* arguments) noexcept nogil:
    """Fill `arguments`, which are parted by blanks, and by CR and LF if `line_ends`; return their number.

    That is at most ARGUMENTS_MAX + 1, which means too many.
    """
    cdef uint64_t i = 0, begin
    cdef int count = 0
    while True:
        while i < length and parts(text[i], line_ends):
            i += 1
        if i == length:
            return count
        if count == ARGUMENTS_MAX:
            return count + 1
        begin = i
        while i < length and not parts(text[i], line_ends):
            i += 1
        arguments[count].text = text + begin
        arguments[count].length = <uint32_t>(i - begin)
        count += 1


cdef void rewrite_tail(uint8_t* payload, Span* sizes, int size_count, uint8_t* scratch, Op* op) noexcept nogil:
    """Write `[reply ]#sizes CR LF` so that it ends where the payload starts, and let op.tail begin there.

    The subject and the words move to `scratch` first (it holds a whole control line), since the line's own room, verb
    included, is what is written over; it always suffices.
    """
    cdef uint64_t used = 0, length
    cdef int i
    memcpy(scratch, op.subject.text, op.subject.length)
    op.subject.text = scratch
    used = op.subject.length
    if op.reply.length:
        memcpy(scratch + used, op.reply.text, op.reply.length)
        used += op.reply.length
        scratch[used] = BLANK
        used += 1
    for i in range(size_count):
        memcpy(scratch + used, sizes[i].text, sizes[i].length)
        used += sizes[i].length
        if i + 1 < size_count:
            scratch[used] = BLANK
            used += 1
    scratch[used] = CR
    scratch[used + 1] = LF
    used += 2
    length = used - op.subject.length
    op.tail = payload - length
    memmove(op.tail, scratch + op.subject.length, length)
    if op.reply.length:
        op.reply.text = op.tail
    op.tail_length = length + <uint64_t>op.size + 2


cdef ParseResult publish_arguments(uint8_t* start, uint8_t* end, uint8_t* payload, Span* arguments, int count,
                                   int has_headers, const ParseLimits* limits, uint8_t* scratch,
                                   Op* op) noexcept nogil:
    cdef int size_count = 2 if has_headers else 1
    cdef ParseResult result
    if count != size_count + 1 and count != size_count + 2:
        return PARSE_ARGUMENTS
    op.subject = arguments[0]
    op.reply.length = 0
    if count == size_count + 2:
        op.reply = arguments[1]
    op.header_size = -1
    if has_headers:
        op.header_size = parse_size(arguments[count - 2].text, arguments[count - 2].length)
        if op.header_size < 0:
            return PARSE_ARGUMENTS
    if op.header_size == 0:                # no header block at all: subscribers get a MSG
        op.header_size = -1
        size_count = 1
    op.size = parse_size(arguments[count - 1].text, arguments[count - 1].length)
    result = finish_pub(start, end, payload, limits, op)
    if result == PARSE_DONE:
        rewrite_tail(payload, &arguments[count - size_count], size_count, scratch, op)
    return result


cdef ParseResult line_operation(OpKind kind, int has_headers, uint8_t* start, uint8_t* text, uint8_t* end,
                                const ParseLimits* limits, uint8_t* scratch, Op* op) noexcept nogil:
    """Parse an operation with arguments, which start at `text`."""
    cdef Span arguments[ARGUMENTS_MAX]
    cdef uint8_t* line_end
    cdef uint64_t length
    cdef int count
    while text < end and is_blank(text[0]):
        text += 1
    # The first byte belongs to the arguments whatever it is, a LF too, as in nats-server's parser.
    line_end = <uint8_t*>memchr(text + 1, LF, <size_t>(end - text) - 1) if text < end else NULL
    if line_end is NULL:
        # The blanks in front do not count as arguments, but they must not fill memory either. The last byte may be the
        # CR of a line whose LF has not come.
        if (<uint64_t>(end - text) > limits.max_control_line + 1
                or <uint64_t>(end - start) > limits.max_control_line + OCTETS_SLACK):
            return PARSE_CONTROL_LINE
        return PARSE_MORE
    length = <uint64_t>(line_end - text)
    # A CR anywhere but in front takes the last byte of the line away, as nats-server's parser does.
    if length > 1 and memchr(text + 1, CR, length - 1) is not NULL:
        length -= 1
    if length > limits.max_control_line:
        return PARSE_CONTROL_LINE
    op.text.text = text
    op.text.length = <uint32_t>length
    op.consumed = <uint64_t>(line_end + 1 - start)
    op.kind = kind
    if kind == OP_CONNECT or kind == OP_INFO or kind == OP_ERR:
        return PARSE_DONE
    # A stray CR belongs to its token in PUB and HPUB but parts tokens in SUB and UNSUB.
    count = split_arguments(text, length, kind != OP_PUB, arguments)
    if kind == OP_PUB:
        if has_headers and not limits.headers:
            return PARSE_ARGUMENTS
        op.kind = OP_NONE
        return publish_arguments(start, end, line_end + 1, arguments, count, has_headers, limits, scratch, op)
    if kind == OP_SUB:
        if count != 2 and count != 3:
            return PARSE_ARGUMENTS
        op.subject = arguments[0]
        op.queue.length = 0
        if count == 3:
            op.queue = arguments[1]
        op.sid = arguments[count - 1]
        return PARSE_DONE
    if count != 1 and count != 2:
        return PARSE_ARGUMENTS
    op.sid = arguments[0]
    op.size = -1 if count == 1 else parse_size(arguments[1].text, arguments[1].length)
    return PARSE_DONE


cdef int match_verb(uint8_t* start, uint8_t* end, const char* verb) noexcept nogil:
    """Return 1 if the text starts with `verb` in any case, 0 if it may once more has come, -1 if not."""
    cdef int i = 0
    cdef uint8_t byte
    while verb[i] != 0:
        if start + i == end:
            return 0
        byte = start[i]
        if c"a" <= byte <= c"z":
            byte -= 32
        if byte != <uint8_t>verb[i]:
            return -1
        i += 1
    return 1


cdef ParseResult whole_line(OpKind kind, int verb_length, uint8_t* start, uint8_t* end, Op* op) noexcept nogil:
    """Parse an operation whose line is ignored after the verb; op.need says how much of it must be kept."""
    cdef uint8_t* line_end = <uint8_t*>memchr(start, LF, <size_t>(end - start))
    if line_end is NULL:
        op.consumed = <uint64_t>verb_length
        return PARSE_MORE
    op.kind = kind
    op.consumed = <uint64_t>(line_end + 1 - start)
    return PARSE_DONE


cdef struct Verb:
    const char* name
    int length
    int needs_blank                # a blank must follow; else the arguments may
    OpKind kind

cdef Verb[10] VERBS
VERBS[0] = Verb(b"PUB", 3, 1, OP_PUB)
VERBS[1] = Verb(b"HPUB", 4, 1, OP_PUB)
VERBS[2] = Verb(b"SUB", 3, 1, OP_SUB)
VERBS[3] = Verb(b"UNSUB", 5, 1, OP_UNSUB)
VERBS[4] = Verb(b"PING", 4, 0, OP_PING)
VERBS[5] = Verb(b"PONG", 4, 0, OP_PONG)
VERBS[6] = Verb(b"CONNECT", 7, 0, OP_CONNECT)
VERBS[7] = Verb(b"INFO", 4, 0, OP_INFO)
VERBS[8] = Verb(b"-ERR", 4, 1, OP_ERR)
VERBS[9] = Verb(b"+OK", 3, 0, OP_OK)


cdef int parse_long_pub(uint8_t* start, uint8_t* end, const ParseLimits* limits, Op* op,
                        ParseResult* result) noexcept nogil:
    """As parse_pub, for lines of any length that a limit allows: an acknowledgement has some 70 bytes."""
    cdef uint8_t* text = start + 4
    cdef uint32_t places[4]        # of the blanks, CR and LF
    cdef uint64_t blanks, at = 0, size = <uint64_t>(end - text)
    cdef uint32_t last
    cdef int count = 0
    while count < 4 and at < size and at <= limits.max_control_line:
        blanks = scan_blanks(text + at, 64)
        if size - at < 64:
            blanks &= (<uint64_t>1 << (size - at)) - 1
        while blanks and count < 4:
            places[count] = <uint32_t>at + <uint32_t>lowest_bit(blanks)
            blanks &= blanks - 1
            count += 1
        at += 64
    if count < 3 or places[0] == 0 or text[places[0]] != BLANK or places[1] == places[0] + 1:
        return 0
    op.subject.text, op.subject.length = text, places[0]
    op.tail = text + places[0] + 1
    op.reply.length = 0
    last = places[1]
    if text[places[1]] == BLANK:
        if count < 4 or places[2] == places[1] + 1:
            return 0
        op.reply.text, op.reply.length = op.tail, places[1] - places[0] - 1
        last = places[2]
    if last > limits.max_control_line or text[last] != CR or last + 1 >= size or text[last + 1] != LF:
        return 0
    op.header_size = -1
    op.size = parse_size(text + places[1 if op.reply.length else 0] + 1,
                         last - places[1 if op.reply.length else 0] - 1)
    result[0] = finish_pub(start, end, text + last + 2, limits, op)
    op.tail_length = <uint64_t>(text + last + 2 - op.tail) + <uint64_t>op.size + 2
    return 1


cdef ParseResult parse_any(uint8_t* start, uint8_t* end, const ParseLimits* limits, uint8_t* scratch,
                           Op* op) noexcept nogil:
    """Parse the operation at `start`, whatever it is.

    Args:
        start: first byte; OCTETS_SLACK bytes after `end` may be read, and the control line may be rewritten.
        scratch: room for a control line, its verb and OCTETS_SLACK more; op.subject may point into it.
    """
    cdef ParseResult result
    cdef int i, matched, may_match = 0
    if end - start > 4 and starts_pub(start) and parse_long_pub(start, end, limits, op, &result):
        return result
    op.need = 0
    op.consumed = 0
    for i in range(10):
        matched = match_verb(start, end, VERBS[i].name)
        if matched < 0:
            continue
        if matched == 0:
            may_match = 1
            continue
        if VERBS[i].kind == OP_PING or VERBS[i].kind == OP_PONG or VERBS[i].kind == OP_OK:
            return whole_line(VERBS[i].kind, VERBS[i].length, start, end, op)
        if VERBS[i].needs_blank:
            if start + VERBS[i].length == end:
                return PARSE_MORE
            if not is_blank(start[VERBS[i].length]):
                return PARSE_UNKNOWN
        return line_operation(VERBS[i].kind, VERBS[i].length == 4 and VERBS[i].kind == OP_PUB, start,
                              start + VERBS[i].length, end, limits, scratch, op)
    return PARSE_MORE if may_match else PARSE_UNKNOWN


cdef bytes span_bytes(Span* span):
    return span.text[:span.length]


def parse_all(bytes data, uint64_t max_control_line=4096, uint64_t max_payload=1 << 20, bint headers=True):
    """Parse as many operations as `data` holds; for tests.

    Returns:
        (operations, rest, error): tuples that start with the verb, the bytes of an unfinished operation, and None or
        the name of the ParseResult that ended it.
    """
    cdef ParseLimits limits = ParseLimits(max_control_line, max_payload, headers)
    cdef Op op
    cdef ParseResult result = PARSE_MORE
    cdef size_t size = <size_t>len(data)
    cdef uint8_t* copy = <uint8_t*>must_calloc(1, size + OCTETS_SLACK)
    cdef uint8_t* scratch = <uint8_t*>must_malloc(max_control_line + 2 * OCTETS_SLACK)
    cdef uint8_t* at = copy
    memcpy(copy, <const uint8_t*>data, size)
    operations = []
    try:
        while at < copy + size:
            result = parse_op(at, copy + size, &limits, scratch, &op)
            if result != PARSE_DONE:
                break
            operations.append(describe(&op))
            at += op.consumed
        rest = (<uint8_t*>at)[:copy + size - at]
        error = {PARSE_UNKNOWN: "unknown", PARSE_ARGUMENTS: "arguments", PARSE_CONTROL_LINE: "control line",
                 PARSE_PAYLOAD: "payload"}.get(result)
        return operations, rest, error
    finally:
        free(copy)
        free(scratch)


cdef tuple describe(Op* op):
    cdef uint8_t* payload
    if op.kind == OP_PUB:
        payload = op.tail + op.tail_length - 2 - op.size
        return ("PUB", span_bytes(&op.subject), span_bytes(&op.reply) if op.reply.length else b"", op.header_size,
                payload[:op.size], op.tail[:op.tail_length])
    if op.kind == OP_SUB:
        return ("SUB", span_bytes(&op.subject), span_bytes(&op.queue) if op.queue.length else b"", span_bytes(&op.sid))
    if op.kind == OP_UNSUB:
        return ("UNSUB", span_bytes(&op.sid), op.size)
    if op.kind == OP_CONNECT or op.kind == OP_INFO or op.kind == OP_ERR:
        return ({OP_CONNECT: "CONNECT", OP_INFO: "INFO", OP_ERR: "-ERR"}[op.kind], span_bytes(&op.text))
    return ({OP_PING: "PING", OP_PONG: "PONG", OP_OK: "+OK"}[op.kind],)


def count_operations(bytes data, int rounds, bint headers=True):
    """Parse `data` so many times without making Python objects, for measuring; return the operations of one round."""
    cdef ParseLimits limits = ParseLimits(4096, 1 << 20, headers)
    cdef Op op
    cdef size_t size = <size_t>len(data)
    cdef uint8_t* copy = <uint8_t*>must_calloc(1, size + OCTETS_SLACK)
    cdef uint8_t* scratch = <uint8_t*>must_malloc(4096 + 2 * OCTETS_SLACK)
    cdef uint8_t* at
    cdef uint64_t count = 0
    memcpy(copy, <const uint8_t*>data, size)
    for _ in range(rounds):
        count = 0
        at = copy
        while at < copy + size and parse_op(at, copy + size, &limits, scratch, &op) == PARSE_DONE:
            count += 1
            at += op.consumed
    free(copy)
    free(scratch)
    return count
