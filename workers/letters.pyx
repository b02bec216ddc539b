# cython: language_level=3, embedsignature=True, wraparound=False
"""Messages on their way to this worker's own listeners.

A delivery to a listener makes a letter: the message as it is, its bytes left where they are if they stay there until
the round's output is written (the read arena, a ring), else copied. At the end of the round letters_take hands all of
them to their sinks, so Python is entered once a round and not once a message.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from workers.model cimport SUB_LOCAL, Letter, LetterChunk, Listener, Message, Plane
from workers.octets cimport copy_exact, must_malloc, must_realloc
from workers.sinks cimport Sink


cdef enum:
    CHUNK_BYTES = 1 << 16
    LETTERS_FIRST = 64
    LETTERS_KEPT = 1 << 14         # room for more is given back after the round


cdef uint8_t* letter_room(Plane* plane, size_t size) noexcept nogil:
    """Return memory that stays until the letters have been taken."""
    cdef LetterChunk* chunk = plane.letter_chunks
    cdef size_t chunk_size
    if chunk is NULL or chunk.size - chunk.used < size:
        chunk_size = size if size > CHUNK_BYTES else CHUNK_BYTES
        chunk = <LetterChunk*>must_malloc(sizeof(LetterChunk) + chunk_size)
        chunk.next = plane.letter_chunks
        chunk.used = 0
        chunk.size = chunk_size
        plane.letter_chunks = chunk
    chunk.used += size
    return <uint8_t*>(chunk + 1) + chunk.used - size


cdef int is_excluded(const Listener* listener, const Message* message) noexcept nogil:
    cdef const uint8_t* at = listener.excluded
    cdef const uint8_t* end = at + listener.excluded_length
    cdef uint32_t length
    while at < end:
        memcpy(&length, at, 4)
        if length <= message.subject_length and memcmp(message.subject, at + 4, length) == 0:
            return 1
        at += 4 + length
    return 0


cdef int letter_add(Plane* plane, Listener* listener, const Message* message) noexcept nogil:
    """Keep a message for a listener; return 1, or 0 if it does not take it."""
    cdef Letter* letter
    cdef uint8_t* copy
    if listener.sub.flags & SUB_LOCAL and message.from_peer:
        return 0
    if listener.excluded_length and is_excluded(listener, message):
        return 0
    if plane.letter_count == plane.letter_capacity:
        plane.letter_capacity = 2 * plane.letter_capacity if plane.letter_capacity else LETTERS_FIRST
        plane.letters = <Letter*>must_realloc(plane.letters, plane.letter_capacity * sizeof(Letter))
    letter = &plane.letters[plane.letter_count]
    plane.letter_count += 1
    letter.message = message[0]
    letter.sink = listener.sink
    letter.message.client_id = message.publisher.client_id if message.publisher is not NULL else 0
    letter.message.publisher = NULL
    letter.message.shown_length = 0
    if plane.store_full and not message.from_peer:
        plane.backlogged = 1
    if message.may_borrow and message.from_peer:
        plane.ring_borrowed = 1
    elif message.may_borrow:
        # The parser may have put the subject, and nothing else, into its scratch.
        if plane.scratch <= message.subject <= plane.scratch + plane.limits.max_control_line:
            letter.message.subject = letter_room(plane, message.subject_length)
            memcpy(letter.message.subject, message.subject, message.subject_length)
    else:
        copy = letter_room(plane, message.subject_length + message.tail_length)
        memcpy(copy, message.subject, message.subject_length)
        copy_exact(copy + message.subject_length, message.tail, message.tail_length)
        letter.message.subject = copy
        letter.message.tail = copy + message.subject_length
        letter.message.reply = letter.message.tail
    # It does not leave the server, so it is not counted as sent.
    plane.counters.out_msgs -= 1
    plane.counters.out_bytes -= message.size
    return 1


cdef void drop_chunks(Plane* plane, int kept) noexcept nogil:
    cdef LetterChunk* chunk
    while plane.letter_chunks is not NULL and (not kept or plane.letter_chunks.next is not NULL
                                               or plane.letter_chunks.size > CHUNK_BYTES):
        chunk = plane.letter_chunks
        plane.letter_chunks = chunk.next
        free(chunk)
    if plane.letter_chunks is not NULL:
        plane.letter_chunks.used = 0


cdef uint32_t letters_take(Plane* plane) noexcept:
    """Hand over every letter, also those that come meanwhile; return how many there were."""
    cdef uint64_t i = 0
    cdef Letter letter
    cdef Sink sink
    while i < plane.letter_count:
        letter = plane.letters[i]
        i += 1
        sink = <Sink>letter.sink
        if sink.listeners == 0:                # it left meanwhile
            continue
        try:
            sink.take(&letter.message)
        except BaseException as error:  # noqa: BLE001 - the boundary of a message
            (<object>plane.policy).report(0, error)
    plane.letter_count = 0
    drop_chunks(plane, 1)
    if plane.letter_capacity > LETTERS_KEPT:
        plane.letter_capacity = LETTERS_KEPT
        plane.letters = <Letter*>must_realloc(plane.letters, LETTERS_KEPT * sizeof(Letter))
    return <uint32_t>i


cdef void letters_free(Plane* plane) noexcept nogil:
    drop_chunks(plane, 0)
    free(plane.letters)
    plane.letters = NULL
    plane.letter_count = plane.letter_capacity = 0
