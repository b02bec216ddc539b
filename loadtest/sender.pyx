# cython: language_level=3, embedsignature=True, wraparound=False
"""Prepare what clients send: publish blocks, requests, replies.

A publisher formats its frames once. A block of them is written as a whole and then only the marks (and, in
paced runs, the due times) are patched for the next round: a publish costs one 8-byte store instead of a
formatted line.
"""

from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

cimport cython

from loadtest.ledger cimport (
    DUE_BYTES,
    FAULT_DAMAGED,
    FAULT_REPLY,
    FAULT_SIZE,
    MARK_BYTES,
    SEQUENCE_BITS,
    latency_record,
    ledger_fail,
)

cdef enum:
    OUTBOX_BYTES_LEAST = 4096
    # "PUB " + " " + nine digits + two CR LF + the byte that snprintf ends with
    REPLY_FRAME_EXTRA = 24


cdef char *outbox_reserve(outbox_t *outbox, size_t size) noexcept nogil:
    """Return a place for `size` bytes at the end, which the caller adds to outbox.end; NULL: no memory."""
    cdef size_t used = outbox.end - outbox.start, capacity
    cdef char *grown
    if outbox.capacity - outbox.end >= size:
        return outbox.data + outbox.end
    if outbox.start:
        memmove(outbox.data, outbox.data + outbox.start, used)
        outbox.start = 0
        outbox.end = used
    if outbox.capacity - used < size:
        capacity = (used + size) * 2 + OUTBOX_BYTES_LEAST
        grown = <char *>realloc(outbox.data, capacity)
        if grown == NULL:
            return NULL
        outbox.data = grown
        outbox.capacity = capacity
    return outbox.data + outbox.end


cdef int outbox_append(outbox_t *outbox, const char *data, size_t size) noexcept nogil:
    """Append a copy of the bytes; -1 without memory."""
    cdef char *place = outbox_reserve(outbox, size)
    if place == NULL:
        return -1
    memcpy(place, data, size)
    outbox.end += size
    return 0


cdef void outbox_free(outbox_t *outbox) noexcept nogil:
    free(outbox.data)
    outbox.data = NULL
    outbox.start = outbox.end = outbox.capacity = 0


cdef uint64_t schedule_due_ns(const schedule_t *schedule, uint64_t sequence) noexcept nogil:
    """Return when a message is due, on CLOCK_MONOTONIC; meaningless where there is no rate."""
    # A product instead of a running sum: no error adds up over a long run.
    return schedule.first_ns + <uint64_t>(<double>sequence * schedule.interval_ns)


@cython.cdivision(True)  # interval_ns is above 0 where it divides
cdef uint64_t schedule_due_count(const schedule_t *schedule, uint64_t sent, uint64_t now_ns) noexcept nogil:
    """Return how many messages are due and not sent; without a rate there is no end of them."""
    cdef uint64_t due
    if schedule.interval_ns <= 0.0:
        return <uint64_t>-1
    if now_ns < schedule.first_ns:
        return 0
    due = <uint64_t>(<double>(now_ns - schedule.first_ns) / schedule.interval_ns) + 1
    return due - sent if due > sent else 0


cdef void note_lateness(schedule_t *schedule, uint64_t due_ns, uint64_t now_ns) noexcept nogil:
    cdef uint64_t late_ns = now_ns - due_ns if now_ns > due_ns else 0
    schedule.late_count += 1
    schedule.late_sum_ns += late_ns
    if late_ns > schedule.late_max_ns:
        schedule.late_max_ns = late_ns


@cython.cdivision(True)  # by 10
cdef inline void write_digits(char *place, uint32_t digits, uint64_t value) noexcept nogil:
    cdef uint32_t position = digits
    while position:
        position -= 1
        place[position] = <char>(c'0' + value % 10)
        value //= 10


cdef inline void write_token(char *place, uint64_t value) noexcept nogil:
    cdef int position
    for position in range(TOKEN_DIGITS):
        place[position] = b"0123456789abcdef"[(value >> (60 - 4 * position)) & 15]


cdef uint64_t scatter(uint64_t sequence) noexcept nogil:
    """Mix the bits, so that consecutive messages go to subjects without visible order."""
    cdef uint64_t mixed = (sequence + 1) * <uint64_t>0x9E3779B97F4A7C15
    mixed ^= mixed >> 29
    mixed *= <uint64_t>0xBF58476D1CE4E5B9
    return mixed ^ (mixed >> 32)


@cython.cdivision(True)  # subject_count is at least 1
cdef void publisher_stamp(
    publisher_t *publisher, const ledger_t *ledger, size_t frames, uint64_t now_ns
) noexcept nogil:
    """Make the first `frames` frames of the block the next messages; needs 0 < frames <= frames_max."""
    cdef char *frame = publisher.block
    cdef char *payload
    cdef uint64_t mark, due_ns, sequence = publisher.published
    cdef uint64_t high = <uint64_t>publisher.index << SEQUENCE_BITS
    cdef size_t count = frames
    if publisher.schedule.interval_ns > 0.0:
        note_lateness(&publisher.schedule, schedule_due_ns(&publisher.schedule, sequence), now_ns)
    while count:
        count -= 1
        payload = frame + publisher.mark_offset
        if ledger.has_mark:
            mark = high | sequence
            memcpy(payload, &mark, MARK_BYTES)
        if ledger.has_due:
            due_ns = schedule_due_ns(&publisher.schedule, sequence)
            memcpy(payload + MARK_BYTES, &due_ns, DUE_BYTES)
        if publisher.digits:
            write_digits(
                frame + publisher.digits_offset, publisher.digits, scatter(sequence) % publisher.subject_count
            )
        sequence += 1
        frame += publisher.frame_bytes
    publisher.published = sequence
    publisher.pending_start = 0
    publisher.pending_end = frames * publisher.frame_bytes


cdef int requester_fill(
    requester_t *requester, const ledger_t *ledger, outbox_t *outbox, uint64_t now_ns
) noexcept nogil:
    """Append as many requests as window, limit and schedule allow; return their number, -1 without memory."""
    cdef uint64_t due = schedule_due_count(&requester.schedule, requester.issued, now_ns)
    cdef uint64_t mark, sequence
    cdef slot_t *slot
    cdef char *frame
    cdef int count = 0
    while requester.in_flight < requester.window and requester.issued < requester.limit and due:
        sequence = requester.issued
        slot = &requester.slots[sequence & requester.slot_mask]
        if slot.sequence_plus_one:
            break
        frame = outbox_reserve(outbox, requester.frame_bytes)
        if frame == NULL:
            return -1
        memcpy(frame, requester.frame, requester.frame_bytes)
        write_token(frame + requester.token_offset, sequence)
        if ledger.has_mark:
            mark = <uint64_t>requester.index << SEQUENCE_BITS | sequence
            memcpy(frame + requester.mark_offset, &mark, MARK_BYTES)
        outbox.end += requester.frame_bytes
        slot.sequence_plus_one = sequence + 1
        slot.due_ns = now_ns
        if requester.schedule.interval_ns > 0.0:
            slot.due_ns = schedule_due_ns(&requester.schedule, sequence)
            note_lateness(&requester.schedule, slot.due_ns, now_ns)
        requester.issued += 1
        requester.in_flight += 1
        due -= 1
        count += 1
    return count


cdef int64_t read_token(const char *digits) noexcept nogil:
    """Return the number in TOKEN_DIGITS lower case hexadecimal digits, -1 where it is none."""
    cdef uint64_t value = 0
    cdef int position
    for position in range(TOKEN_DIGITS):
        if c'0' <= digits[position] <= c'9':
            value = value << 4 | <uint64_t>(digits[position] - c'0')
        elif c'a' <= digits[position] <= c'f':
            value = value << 4 | <uint64_t>(digits[position] - c'a' + 10)
        else:
            return -1
    return <int64_t>value


cdef bint requester_take(
    requester_t *requester, ledger_t *ledger, const char *subject, size_t subject_bytes,
    const char *payload, size_t payload_bytes
) noexcept nogil:
    """Match a reply with its request and record its latency; False leaves a fault."""
    cdef int64_t sequence = -1
    cdef uint64_t mark
    cdef slot_t *slot = NULL
    if subject_bytes == requester.inbox_bytes:
        sequence = read_token(subject + subject_bytes - TOKEN_DIGITS)
    if sequence >= 0:
        slot = &requester.slots[<uint64_t>sequence & requester.slot_mask]
    if slot == NULL or slot.sequence_plus_one != <uint64_t>sequence + 1:
        ledger_fail(ledger, FAULT_REPLY, <int64_t>requester.issued, sequence)
        return False
    if not ledger.any_size:
        if payload_bytes != ledger.payload_bytes:
            ledger_fail(ledger, FAULT_SIZE, ledger.payload_bytes, <int64_t>payload_bytes)
            return False
        if ledger.has_mark:
            memcpy(&mark, payload, sizeof(mark))
            if mark != (<uint64_t>requester.index << SEQUENCE_BITS | <uint64_t>sequence):
                ledger_fail(ledger, FAULT_DAMAGED, sequence, -1)
                return False
    latency_record(ledger, slot.due_ns)
    slot.sequence_plus_one = 0
    requester.in_flight -= 1
    requester.completed += 1
    ledger.delivered += 1
    ledger.delivered_bytes += payload_bytes
    return True


cdef int responder_answer(
    outbox_t *outbox, const char *reply, size_t reply_bytes, const char *payload, size_t payload_bytes
) noexcept nogil:
    """Append a reply with the payload of the request; -1 without memory."""
    cdef char *place = outbox_reserve(outbox, reply_bytes + payload_bytes + REPLY_FRAME_EXTRA)
    cdef size_t used = 4
    if place == NULL:
        return -1
    memcpy(place, b"PUB ", 4)
    memcpy(place + used, reply, reply_bytes)
    used += reply_bytes
    used += <size_t>snprintf(place + used, 14, b" %u\r\n", <unsigned int>payload_bytes)
    memcpy(place + used, payload, payload_bytes)
    used += payload_bytes
    memcpy(place + used, b"\r\n", 2)
    outbox.end += used + 2
    return 0
