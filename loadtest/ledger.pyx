# cython: language_level=3, embedsignature=True, wraparound=False
"""Check every message that arrives: size, order for each publisher, content, latency.

Order: the subscribers of a plain subscription must see sequences 0, 1, 2, … of each publisher. The members
of a queue group see a rising selection, and a bitmap tells whether one message came twice; the bitmaps of
several engines are compared at the end by loadtest/verdict.py.
"""

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

cdef extern from *:
    """
    static inline int highest_bit(unsigned long long value) { return 63 - __builtin_clzll(value); }
    """
    int highest_bit(unsigned long long value) noexcept nogil

BUCKET_COUNT = HISTOGRAM_BUCKETS

# Sequences of a queue run are kept in bitmaps: 2**30 words are 8 GiB, more than any honest run needs.
cdef enum:
    SEEN_WORDS_MAX = 1 << 30


cdef int ledger_init(
    ledger_t *ledger, uint32_t payload_bytes, uint32_t publisher_count, bint has_due, bint is_queue
) noexcept nogil:
    """Allocate what the ledger owns; -1 without memory, after which ledger_free is still right."""
    cdef size_t offset
    memset(ledger, 0, sizeof(ledger_t))
    ledger.payload_bytes = payload_bytes
    ledger.publisher_count = publisher_count
    ledger.has_mark = payload_bytes >= MARK_BYTES
    ledger.has_due = has_due and payload_bytes >= MARK_BYTES + DUE_BYTES
    ledger.is_queue = is_queue
    ledger.pattern = <uint8_t *>malloc(payload_bytes + 1)
    ledger.histogram = <uint64_t *>calloc(HISTOGRAM_BUCKETS, sizeof(uint64_t))
    ledger.seen = <uint64_t **>calloc(publisher_count + 1, sizeof(uint64_t *))
    ledger.seen_words = <uint64_t *>calloc(publisher_count + 1, sizeof(uint64_t))
    if ledger.pattern == NULL or ledger.histogram == NULL or ledger.seen == NULL or ledger.seen_words == NULL:
        return -1
    for offset in range(payload_bytes):
        # Any byte may appear, CR and LF too: a receiver must go by the size.
        ledger.pattern[offset] = <uint8_t>((offset * 167 + (offset >> 8) * 13 + 89) & 0xFF)
    return 0


cdef void ledger_free(ledger_t *ledger) noexcept nogil:
    cdef uint32_t publisher
    if ledger.seen != NULL:
        for publisher in range(ledger.publisher_count):
            free(ledger.seen[publisher])
    free(ledger.seen)
    free(ledger.seen_words)
    free(ledger.histogram)
    free(ledger.pattern)
    memset(ledger, 0, sizeof(ledger_t))


cdef void ledger_fail(ledger_t *ledger, fault_t fault, int64_t expected, int64_t actual) noexcept nogil:
    """Keep the first fault; later ones are usually its consequences."""
    if ledger.fault == FAULT_NONE:
        ledger.fault = fault
        ledger.fault_expected = expected
        ledger.fault_actual = actual


cdef inline uint32_t bucket_of(uint64_t value) noexcept nogil:
    cdef int shift
    if value < (1 << (HISTOGRAM_BITS + 1)):
        return <uint32_t>value
    shift = highest_bit(value) - HISTOGRAM_BITS
    return <uint32_t>((shift << HISTOGRAM_BITS) + (value >> shift))


def bucket_index(value_ns: int) -> int:
    """Return the histogram bucket of a value in 0..2**63-1; loadtest/histogram.py has the same in Python."""
    return bucket_of(<uint64_t>value_ns)


cdef void latency_record(ledger_t *ledger, uint64_t due_ns) noexcept nogil:
    """Count the time from due_ns until the bytes under inspection were read."""
    # A message can be read before the clock of another core says that it was due.
    cdef uint64_t latency_ns = ledger.now_ns - due_ns if ledger.now_ns > due_ns else 0
    ledger.histogram[bucket_of(latency_ns)] += 1
    if latency_ns > ledger.latency_max_ns:
        ledger.latency_max_ns = latency_ns


cdef bint mark_seen(ledger_t *ledger, uint32_t publisher, uint64_t sequence) noexcept nogil:
    """Set the bit of a sequence; False with a fault when it was set already or there is no memory."""
    cdef uint64_t word = sequence >> 6, bit = <uint64_t>1 << (sequence & 63), words_new
    cdef uint64_t *grown
    if word >= ledger.seen_words[publisher]:
        words_new = (word + 1) * 2 if word * 2 < <uint64_t>SEEN_WORDS_MAX else 0
        grown = NULL
        if words_new:
            grown = <uint64_t *>realloc(ledger.seen[publisher], words_new * sizeof(uint64_t))
        if grown == NULL:
            ledger_fail(ledger, FAULT_MEMORY, 0, <int64_t>sequence)
            return False
        memset(
            grown + ledger.seen_words[publisher],
            0,
            (words_new - ledger.seen_words[publisher]) * sizeof(uint64_t),
        )
        ledger.seen[publisher] = grown
        ledger.seen_words[publisher] = words_new
    if ledger.seen[publisher][word] & bit:
        ledger_fail(ledger, FAULT_REPEATED, -1, <int64_t>sequence)
        return False
    ledger.seen[publisher][word] |= bit
    return True


cdef inline bint check_payload(
    ledger_t *ledger, subscriber_t *subscriber, const char *payload
) noexcept nogil:
    """Check a payload of the right size; False leaves a fault."""
    cdef uint64_t mark, sequence, expected, due_ns
    cdef uint32_t publisher
    cdef size_t fixed_bytes = 0, pattern_bytes
    cdef fault_t fault
    sequence = subscriber.received
    if ledger.has_mark:
        memcpy(&mark, payload, sizeof(mark))
        publisher = <uint32_t>(mark >> SEQUENCE_BITS)
        sequence = mark & ((<uint64_t>1 << SEQUENCE_BITS) - 1)
        if publisher >= ledger.publisher_count:
            ledger_fail(ledger, FAULT_PUBLISHER, <int64_t>ledger.publisher_count, publisher)
            return False
        expected = subscriber.sequence_next[publisher]
        if sequence != expected and (sequence < expected or not ledger.is_queue):
            fault = FAULT_LOST if sequence > expected else FAULT_REPEATED
            ledger_fail(ledger, fault, <int64_t>expected, <int64_t>sequence)
            return False
        if ledger.is_queue and not mark_seen(ledger, publisher, sequence):
            return False
        subscriber.sequence_next[publisher] = sequence + 1
        fixed_bytes = MARK_BYTES
    if ledger.has_due:
        memcpy(&due_ns, payload + MARK_BYTES, sizeof(due_ns))
        latency_record(ledger, due_ns)
        fixed_bytes = MARK_BYTES + DUE_BYTES
    if sequence % PATTERN_CHECK_INTERVAL == 0:
        pattern_bytes = ledger.payload_bytes - fixed_bytes
        if memcmp(payload + fixed_bytes, ledger.pattern + fixed_bytes, pattern_bytes) != 0:
            ledger_fail(ledger, FAULT_DAMAGED, <int64_t>sequence, -1)
            return False
    return True


cdef void subscriber_note_line(
    subscriber_t *subscriber, const char *line, size_t line_bytes, size_t frame_bytes
) noexcept nogil:
    """Remember a control line that was parsed and found right, so that its repetitions need no parsing."""
    subscriber.line_bytes = line_bytes if line_bytes <= REPEAT_LINE_MAX else 0
    memcpy(subscriber.line, line, subscriber.line_bytes)
    subscriber.frame_bytes = frame_bytes


cdef size_t subscriber_take_repeats(
    ledger_t *ledger, subscriber_t *subscriber, const char *data, size_t available
) noexcept nogil:
    """Take all whole messages at the start of `data` with the known control line; return their bytes."""
    cdef size_t line_bytes = subscriber.line_bytes, frame_bytes = subscriber.frame_bytes
    cdef const char *frame = data
    cdef const char *end = data + available
    cdef uint64_t count = 0
    if line_bytes == 0 or ledger.any_size:
        return 0
    while <size_t>(end - frame) >= frame_bytes and memcmp(frame, subscriber.line, line_bytes) == 0:
        if frame[frame_bytes - 2] != c'\r' or frame[frame_bytes - 1] != c'\n':
            ledger_fail(ledger, FAULT_BROKEN, 0, 0)
            break
        if not check_payload(ledger, subscriber, frame + line_bytes):
            break
        subscriber.received += 1
        count += 1
        frame += frame_bytes
    ledger.delivered += count
    ledger.delivered_bytes += count * ledger.payload_bytes
    return <size_t>(frame - data)


cdef void subscriber_take(
    ledger_t *ledger, subscriber_t *subscriber, const char *payload, size_t payload_bytes
) noexcept nogil:
    """Take one message; on a fault it is not counted."""
    if not ledger.any_size:
        if payload_bytes != ledger.payload_bytes:
            ledger_fail(ledger, FAULT_SIZE, ledger.payload_bytes, <int64_t>payload_bytes)
            return
        if not check_payload(ledger, subscriber, payload):
            return
    subscriber.received += 1
    ledger.delivered += 1
    ledger.delivered_bytes += payload_bytes
