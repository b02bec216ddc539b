"""Parser of what clients send: one operation at a time from a block of bytes, no I/O, no state.

An unfinished operation is parsed again from its start when more bytes have come; the caller keeps them together.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.octets cimport lowest_bit, scan_blanks


cdef enum OpKind:
    OP_NONE = 0
    OP_PUB                         # PUB and HPUB: subject, reply, header_size, size, tail
    OP_SUB                         # subject, queue, sid
    OP_UNSUB                       # sid, size is the maximum or -1
    OP_CONNECT                     # text
    OP_PING
    OP_PONG
    OP_INFO                        # text
    OP_ERR                         # text
    OP_OK


cdef enum ParseResult:
    PARSE_DONE = 0                 # op is filled, op.consumed bytes are used
    PARSE_MORE = 1                 # op.need is the length of the whole operation, 0 while unknown
    PARSE_UNKNOWN = -1             # -ERR 'Unknown Protocol Operation', close
    PARSE_ARGUMENTS = -2           # wrong number or form of arguments: close without a word
    PARSE_CONTROL_LINE = -3        # -ERR 'maximum control line exceeded', close
    PARSE_PAYLOAD = -4             # -ERR 'Maximum Payload Violation', close


cdef struct ParseLimits:
    uint64_t max_control_line      # of the arguments, without the verb
    uint64_t max_payload           # header block and payload together
    int headers                    # HPUB is allowed


cdef struct Span:
    uint8_t* text
    uint32_t length


cdef struct Op:
    OpKind kind
    Span subject
    Span reply                     # length 0: none
    Span queue                     # length 0: none
    Span sid
    Span text
    int64_t size                   # PUB: bytes of headers and payload; UNSUB: maximum, -1 for none or not a number
    int64_t header_size            # -1: PUB
    uint8_t* tail                  # "[reply ][#hdr ]#total\r\n<payload>\r\n": what follows the sid in MSG or HMSG
    uint64_t tail_length
    uint64_t consumed
    uint64_t need


cdef enum:
    BLANK = 0x20
    CR = 0x0D
    LF = 0x0A
    SIZE_DIGITS_MAX = 9
    PUB_WINDOW = 32                # bytes after `PUB ` that the fast path looks at


cdef ParseResult parse_any(uint8_t* start, uint8_t* end, const ParseLimits* limits, uint8_t* scratch,
                           Op* op) noexcept nogil


# The fast path, here so that it is compiled into its caller.

cdef inline int64_t parse_size(const uint8_t* text, uint64_t length) noexcept nogil:
    """Return the number, or -1 if it is not one to nine decimal digits."""
    cdef int64_t value = 0
    cdef uint64_t i
    cdef uint32_t digit
    if length == 0 or length > SIZE_DIGITS_MAX:
        return -1
    for i in range(length):
        digit = <uint32_t>text[i] - 48
        if digit > 9:
            return -1
        value = value * 10 + digit
    return value


cdef inline ParseResult finish_pub(uint8_t* start, uint8_t* end, uint8_t* payload, const ParseLimits* limits,
                                   Op* op) noexcept nogil:
    """Check the sizes and that the whole payload is there."""
    op.need = 0
    if op.size < 0 or op.header_size > op.size:
        return PARSE_ARGUMENTS
    if <uint64_t>op.size > limits.max_payload:
        return PARSE_PAYLOAD
    op.consumed = 0
    op.need = <uint64_t>(payload - start) + <uint64_t>op.size + 2
    if <uint64_t>(end - start) < op.need:
        # The two bytes after the payload decide as soon as they are there.
        if <uint64_t>(end - start) == op.need - 1 and payload[op.size] != CR:
            return PARSE_UNKNOWN
        return PARSE_MORE
    if payload[op.size] != CR or payload[op.size + 1] != LF:
        return PARSE_UNKNOWN
    op.consumed = op.need
    op.kind = OP_PUB
    return PARSE_DONE


cdef inline int starts_pub(uint8_t* start) noexcept nogil:
    return ((start[0] | 32) == c"p" and (start[1] | 32) == c"u" and (start[2] | 32) == c"b"
            and start[3] == BLANK)


cdef inline int parse_pub(uint8_t* start, uint8_t* end, const ParseLimits* limits, Op* op,
                          ParseResult* result) noexcept nogil:
    """Parse `PUB subject [reply] size` CR LF with single blanks and CR LF within PUB_WINDOW; 0: it is not that."""
    cdef uint8_t* text = start + 4
    cdef uint8_t* token
    cdef uint64_t blanks
    cdef int first, second, last
    if end - text < 6:
        return 0
    blanks = scan_blanks(text, PUB_WINDOW)
    if end - text < PUB_WINDOW:
        blanks &= (<uint64_t>1 << (end - text)) - 1
    if blanks == 0:
        return 0
    first = lowest_bit(blanks)
    blanks &= blanks - 1
    if first == 0 or text[first] != BLANK or blanks == 0:
        return 0
    second = lowest_bit(blanks)
    blanks &= blanks - 1
    if second == first + 1 or blanks == 0:
        return 0
    op.subject.text = text
    op.subject.length = first
    op.tail = text + first + 1
    token = op.tail
    if text[second] == BLANK:
        op.reply.text = token
        op.reply.length = second - first - 1
        last = lowest_bit(blanks)
        blanks &= blanks - 1
        if last == second + 1 or blanks == 0:
            return 0
        token = text + second + 1
    else:
        op.reply.length = 0
        last = second
    if text[last] != CR or last == PUB_WINDOW - 1 or text[last + 1] != LF or text + last + 1 >= end:
        return 0
    op.header_size = -1
    op.size = parse_size(token, <uint64_t>(text + last - token))
    result[0] = finish_pub(start, end, text + last + 2, limits, op)
    op.tail_length = <uint64_t>(text + last + 2 - op.tail) + <uint64_t>op.size + 2
    return 1


cdef inline ParseResult parse_op(uint8_t* start, uint8_t* end, const ParseLimits* limits, uint8_t* scratch,
                                 Op* op) noexcept nogil:
    """Parse the operation at `start`; see parse_any."""
    cdef ParseResult result
    if end - start > 4 and starts_pub(start) and parse_pub(start, end, limits, op, &result):
        return result
    return parse_any(start, end, limits, scratch, op)
