# cython: language_level=3, embedsignature=True, wraparound=False
"""Parse what a server sends to a client: bytes in, operations out.

Strict on purpose: a server writes exactly one space between arguments and CR LF at every end, so anything
else is a fault worth a failed run. Knows neither sockets nor what a message should hold.
"""

from libc.string cimport memchr, memcmp

LINE_BYTES_LIMIT = LINE_BYTES_MAX

cdef enum:
    TOKENS_MAX = 5
    # Nine digits, as in nats-server: sizes stay far below 2**32.
    SIZE_DIGITS_MAX = 9

ctypedef struct token_t:
    const char *start
    size_t size


class BrokenInput(Exception):
    """The bytes are nothing that a server sends."""


cdef Py_ssize_t read_size(const token_t *token) noexcept nogil:
    """Return the decimal number in a token, -1 where it is none."""
    cdef Py_ssize_t value = 0
    cdef size_t position
    if token.size == 0 or token.size > SIZE_DIGITS_MAX:
        return -1
    for position in range(token.size):
        if token.start[position] < c'0' or token.start[position] > c'9':
            return -1
        value = value * 10 + (token.start[position] - c'0')
    return value


cdef int split_tokens(const char *start, const char *end, token_t *tokens) noexcept nogil:
    """Split at single spaces into at most TOKENS_MAX tokens; -1 for an empty token or too many."""
    cdef int count = 0
    cdef const char *token_start = start
    cdef const char *cursor = start
    while True:
        if cursor == end or cursor[0] == c' ':
            if cursor == token_start or count == TOKENS_MAX:
                return -1
            tokens[count].start = token_start
            tokens[count].size = <size_t>(cursor - token_start)
            count += 1
            if cursor == end:
                return count
            token_start = cursor + 1
        cursor += 1


cdef parse_state_t parse_message(
    const char *data, size_t available, size_t verb_bytes, bint has_headers, operation_t *operation
) noexcept nogil:
    """Parse `MSG subject sid [reply] size` or `HMSG subject sid [reply] headers total` of a whole line."""
    cdef token_t tokens[TOKENS_MAX]
    cdef int count = split_tokens(data + verb_bytes, data + operation.line_bytes - 2, tokens)
    cdef int count_least = 4 if has_headers else 3
    cdef Py_ssize_t total_bytes, header_bytes = 0
    if count != count_least and count != count_least + 1:
        return PARSE_BROKEN
    total_bytes = read_size(&tokens[count - 1])
    if has_headers:
        header_bytes = read_size(&tokens[count - 2])
    if total_bytes < 0 or header_bytes < 0 or header_bytes > total_bytes:
        return PARSE_BROKEN
    operation.kind = OPERATION_MSG
    operation.subject = tokens[0].start
    operation.subject_bytes = tokens[0].size
    operation.sid = tokens[1].start
    operation.sid_bytes = tokens[1].size
    operation.reply = tokens[2].start
    operation.reply_bytes = tokens[2].size if count == count_least + 1 else 0
    operation.header_bytes = <size_t>header_bytes
    operation.payload = data + operation.line_bytes + header_bytes
    operation.payload_bytes = <size_t>(total_bytes - header_bytes)
    operation.frame_bytes = operation.line_bytes + <size_t>total_bytes + 2
    if available < operation.frame_bytes:
        return PARSE_NEED_MORE
    if data[operation.frame_bytes - 2] != c'\r' or data[operation.frame_bytes - 1] != c'\n':
        return PARSE_BROKEN
    return PARSE_DONE


cdef parse_state_t parse_short(
    const char *data, const char *word, size_t word_bytes, operation_kind_t kind, operation_t *operation
) noexcept nogil:
    """Accept a line that begins with `word`; what follows it is the operation's text."""
    if operation.line_bytes < word_bytes + 2 or memcmp(data, word, word_bytes) != 0:
        return PARSE_BROKEN
    operation.kind = kind
    operation.payload = data + word_bytes
    operation.payload_bytes = operation.line_bytes - 2 - word_bytes
    operation.frame_bytes = operation.line_bytes
    return PARSE_DONE


cdef parse_state_t parse_operation(const char *data, size_t available, operation_t *operation) noexcept nogil:
    """Parse the operation at the start of `data`.

    PARSE_NEED_MORE with operation.frame_bytes > 0: the line is there and says how large the frame will be.
    """
    cdef size_t searched = available if available < LINE_BYTES_MAX else LINE_BYTES_MAX
    cdef const char *newline = <const char *>memchr(data, c'\n', searched)
    cdef char first
    operation.frame_bytes = 0
    if newline == NULL:
        return PARSE_BROKEN if available >= LINE_BYTES_MAX else PARSE_NEED_MORE
    operation.line_bytes = <size_t>(newline - data) + 1
    if operation.line_bytes < 5 or data[operation.line_bytes - 2] != c'\r':
        return PARSE_BROKEN
    first = data[0]
    if first == c'M' and memcmp(data, b"MSG ", 4) == 0:
        return parse_message(data, available, 4, False, operation)
    if first == c'H' and memcmp(data, b"HMSG ", 5) == 0:
        return parse_message(data, available, 5, True, operation)
    if first == c'P' and data[1] == c'I':
        return parse_short(data, b"PING", 4, OPERATION_PING, operation)
    if first == c'P':
        return parse_short(data, b"PONG", 4, OPERATION_PONG, operation)
    if first == c'+':
        return parse_short(data, b"+OK", 3, OPERATION_OK, operation)
    if first == c'-':
        return parse_short(data, b"-ERR ", 5, OPERATION_ERR, operation)
    return parse_short(data, b"INFO ", 5, OPERATION_INFO, operation)


def operations(data: bytes):
    """Return every complete operation in `data` and the number of bytes they took.

    An operation is (kind, subject, sid, reply, headers, text_or_payload), empty where it has none.

    Raises:
        BrokenInput: with the position of the first byte of what could not be parsed.
    """
    cdef operation_t operation
    cdef const char *start = data
    cdef size_t position = 0, available = <size_t>len(data)
    cdef parse_state_t state
    names = ("MSG", "PING", "PONG", "+OK", "-ERR", "INFO")
    found = []
    while position < available:
        state = parse_operation(start + position, available - position, &operation)
        if state == PARSE_BROKEN:
            raise BrokenInput(f"at byte {position}: {data[position:position + 40]!r}")
        if state == PARSE_NEED_MORE:
            break
        if operation.kind == OPERATION_MSG:
            fields = (
                operation.subject[:operation.subject_bytes],
                operation.sid[:operation.sid_bytes],
                operation.reply[:operation.reply_bytes],
                (operation.payload - operation.header_bytes)[:operation.header_bytes],
            )
        else:
            fields = (b"", b"", b"", b"")
        found.append((names[<int>operation.kind], *fields, operation.payload[:operation.payload_bytes]))
        position += operation.frame_bytes
    return found, position
