/* Bodies larger than a frame: cut by the producer's side, put together again by the consumer's.
 *
 * Sending. fragment_writer_start names the whole body (the caller keeps it alive and unchanged), then
 * fragment_writer_push as often as needed: each call commits as many fragments as fit now. Between two
 * calls the caller publishes, and when it returned 0 it asks ring_want_space and comes back. No other frame
 * may be written to that ring before the writer is done: it would overtake the body. Any body may be sent
 * so, also a small or empty one.
 *
 * Receiving. For each body from ring_next, ring_frame_kind tells a whole one (FRAME_DATA) from a fragment,
 * which goes to fragment_reader_push; when that returns FRAGMENT_COMPLETE, reader->body and reader->length
 * are the whole body, valid until fragment_reader_finish. Fragments are copied, so ring_release may follow
 * at any time.
 *
 * One writer and one reader for each ring. When a ring is detached, fragment_writer_reset and
 * fragment_reader_reset: half a body of a dead peer is dropped. A zeroed struct is a valid idle writer; a
 * reader needs fragment_reader_init.
 */
#ifndef MIDGE_SHM_FRAGMENT_H
#define MIDGE_SHM_FRAGMENT_H

#include <stdlib.h>

#include "ring.h"

#define FRAGMENT_TOTAL_BYTES 8 /* the uint64_t before the first fragment's bytes */

/* A finished reader keeps its buffer up to this size: twice the default max_payload of NATS (1 MiB), so
 * that ordinary large messages do not allocate each time; what is larger is rare and is given back. */
#define FRAGMENT_KEEP_BYTES (2u << 20)

enum fragment_result {
    FRAGMENT_NO_MEMORY = -2,
    FRAGMENT_CORRUPT = -1, /* out of order, other than announced, or larger than allowed: the peer failed */
    FRAGMENT_INCOMPLETE = 0,
    FRAGMENT_COMPLETE = 1
};

typedef struct {
    const uint8_t *body; /* the caller's; NULL: idle */
    uint64_t length;
    uint64_t position; /* bytes committed so far */
    int is_started;    /* the first fragment is committed */
} fragment_writer_t;

typedef struct {
    uint8_t *body; /* ours, malloc */
    uint64_t length;
    uint64_t position; /* bytes received so far */
    uint64_t capacity; /* of body */
    uint64_t length_max;
    int is_open; /* the first fragment came, the last did not */
} fragment_reader_t;

/* --- writer ---------------------------------------------------------------------------------------------------- */

/* Forget the body; the caller may free it. */
static inline void fragment_writer_reset(fragment_writer_t *writer) { memset(writer, 0, sizeof *writer); }

/* Begin a body of any length; it must stay in place until the writer is idle again. */
static inline void fragment_writer_start(fragment_writer_t *writer, const uint8_t *body, uint64_t length) {
    writer->body = body;
    writer->length = length;
    writer->position = 0;
    writer->is_started = 0;
}

/* Whether a body is under way: nothing else may be written to the ring. */
static inline int fragment_writer_is_active(const fragment_writer_t *writer) { return writer->body != NULL; }

/* The largest fragment's body. Half a frame, so that a consumer frees room while the next fragments are written. */
static inline uint32_t fragment_body_max(const ring_producer_t *producer) {
    uint32_t half = ring_frame_max(producer) / 2;
    return half > FRAGMENT_TOTAL_BYTES ? half : ring_frame_max(producer);
}

/* Commit one fragment; 1, or 0 when the ring has no room for it. */
static inline int fragment_writer_push_one(fragment_writer_t *writer, ring_producer_t *producer) {
    uint64_t prefix = writer->is_started ? 0 : FRAGMENT_TOTAL_BYTES;
    uint64_t left = writer->length - writer->position;
    uint64_t room = fragment_body_max(producer);
    if (room < prefix) return 0; /* detached */
    uint64_t size = left < room - prefix ? left : room - prefix;
    /* FIRST never ends a body, so that a reader needs no fourth kind: what fits one fragment is FIRST and an empty LAST. */
    uint32_t kind = prefix ? FRAME_FRAGMENT_FIRST : size == left ? FRAME_FRAGMENT_LAST : FRAME_FRAGMENT_MIDDLE;
    uint8_t *fragment = ring_claim_kind(producer, (uint32_t)(prefix + size), kind);
    if (fragment == NULL) return 0;
    if (prefix) memcpy(fragment, &writer->length, FRAGMENT_TOTAL_BYTES);
    if (size) memcpy(fragment + prefix, writer->body + writer->position, size);
    ring_commit(producer);
    writer->is_started = 1;
    writer->position += size;
    if (kind == FRAME_FRAGMENT_LAST) fragment_writer_reset(writer);
    return 1;
}

/* Commit (not publish) as many fragments as fit now. Returns 1 when the body is complete, the writer idle
 * and the body the caller's again; 0 when the ring is full, stale or detached. An idle writer returns 1. */
static inline int fragment_writer_push(fragment_writer_t *writer, ring_producer_t *producer) {
    while (fragment_writer_is_active(writer))
        if (!fragment_writer_push_one(writer, producer)) return 0;
    return 1;
}

/* --- reader ---------------------------------------------------------------------------------------------------- */

/* Begin with no body; bodies longer than length_max are refused as corrupt before anything is allocated. */
static inline void fragment_reader_init(fragment_reader_t *reader, uint64_t length_max) {
    memset(reader, 0, sizeof *reader);
    reader->length_max = length_max;
}

/* Drop whatever was received and free the buffer; the reader may be used again. Also the end of a reader. */
static inline void fragment_reader_reset(fragment_reader_t *reader) {
    free(reader->body);
    fragment_reader_init(reader, reader->length_max);
}

/* Give the complete body back. The buffer may be kept for the next one, see FRAGMENT_KEEP_BYTES. */
static inline void fragment_reader_finish(fragment_reader_t *reader) {
    if (reader->capacity > FRAGMENT_KEEP_BYTES) fragment_reader_reset(reader);
    reader->length = reader->position = 0;
}

/* Take the announced length and have room for it. */
static inline int fragment_reader_open(fragment_reader_t *reader, const uint8_t *fragment, uint32_t fragment_bytes) {
    uint64_t length;
    if (reader->is_open || fragment_bytes < FRAGMENT_TOTAL_BYTES) return FRAGMENT_CORRUPT;
    memcpy(&length, fragment, FRAGMENT_TOTAL_BYTES);
    if (length > reader->length_max) return FRAGMENT_CORRUPT;
    if (length > reader->capacity || reader->body == NULL) {
        free(reader->body);
        reader->capacity = length ? length : 1;
        reader->body = (uint8_t *)malloc(reader->capacity);
        if (reader->body == NULL) {
            reader->capacity = 0;
            return FRAGMENT_NO_MEMORY;
        }
    }
    reader->length = length;
    reader->position = 0;
    reader->is_open = 1;
    return FRAGMENT_INCOMPLETE;
}

/* Add the fragment that ring_next returned. FRAGMENT_COMPLETE: body and length are the whole body. After
 * FRAGMENT_CORRUPT or FRAGMENT_NO_MEMORY the body is lost: treat the peer as failed and reset. */
static inline int fragment_reader_push(fragment_reader_t *reader, const uint8_t *fragment, uint32_t fragment_bytes) {
    uint32_t kind = ring_frame_kind(fragment);
    if (kind == FRAME_FRAGMENT_FIRST) {
        int result = fragment_reader_open(reader, fragment, fragment_bytes);
        if (result != FRAGMENT_INCOMPLETE) return result;
        fragment += FRAGMENT_TOTAL_BYTES;
        fragment_bytes -= FRAGMENT_TOTAL_BYTES;
    } else if (!reader->is_open || (kind != FRAME_FRAGMENT_MIDDLE && kind != FRAME_FRAGMENT_LAST)) {
        return FRAGMENT_CORRUPT;
    }
    if (fragment_bytes > reader->length - reader->position) return FRAGMENT_CORRUPT;
    if (fragment_bytes) memcpy(reader->body + reader->position, fragment, fragment_bytes);
    reader->position += fragment_bytes;
    if (kind != FRAME_FRAGMENT_LAST) return FRAGMENT_INCOMPLETE;
    reader->is_open = 0;
    return reader->position == reader->length ? FRAGMENT_COMPLETE : FRAGMENT_CORRUPT;
}

#endif
