# C face of loadtest/parser.pyx: bytes from a server -> one operation at a time, no I/O, no allocation.

from libc.stdint cimport uint32_t

# The longest line that is accepted. nats-server limits the arguments of a control line to 4096 bytes; only
# INFO with many connect_urls is longer.
cdef enum:
    LINE_BYTES_MAX = 65536

cdef enum parse_state_t:
    PARSE_BROKEN = -1
    PARSE_NEED_MORE = 0
    PARSE_DONE = 1

cdef enum operation_kind_t:
    OPERATION_MSG = 0
    OPERATION_PING = 1
    OPERATION_PONG = 2
    OPERATION_OK = 3
    OPERATION_ERR = 4
    OPERATION_INFO = 5

# Pointers lead into the parsed bytes and live as long as they do.
ctypedef struct operation_t:
    operation_kind_t kind
    const char *subject     # MSG and HMSG
    size_t subject_bytes
    const char *sid
    size_t sid_bytes
    const char *reply       # reply_bytes is 0 where there is none
    size_t reply_bytes
    const char *payload     # MSG and HMSG: after the headers; ERR and INFO: the text
    size_t payload_bytes
    size_t header_bytes     # 0 for MSG
    size_t line_bytes       # control line with its CR LF
    size_t frame_bytes      # line, headers, payload, CR LF; 0 as long as the line is not complete

cdef parse_state_t parse_operation(const char *data, size_t available, operation_t *operation) noexcept nogil
