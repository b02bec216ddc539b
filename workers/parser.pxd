"""Parser of what clients send: one operation at a time from a block of bytes, no I/O, no state.

An unfinished operation is parsed again from its start when more bytes have come; the caller keeps them together.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


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


cdef ParseResult parse_op(uint8_t* start, uint8_t* end, const ParseLimits* limits, uint8_t* scratch, Op* op) noexcept nogil
