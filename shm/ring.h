/* One ring: a single producer and a single consumer, usually in two processes, pass frames through shared
 * memory.
 *
 * Theory of operation. Positions grow forever; position & (capacity - 1) is the place. The producer writes
 * frames between `tail` and `head + capacity`, then makes all of them visible by one release store of the
 * tail. The consumer loads the tail with acquire, reads frames in place, and gives all their space back by
 * one release store of the head. Each side keeps what it last saw of the other in its own struct, so a
 * frame costs no shared access but its own bytes.
 *
 * Who owns what: the supervisor makes and resets the memory; the structs below live in their process and
 * own nothing. An attachment names the epoch it was told; after a reset, a side that still holds the old
 * epoch is refused: claim and poll give nothing, publish and release store nothing. That check and the
 * store after it are two steps, so the supervisor resets a ring only when one end is dead (reaped) and the
 * other has said that it detached.
 *
 * Must not know what a frame carries. Layout: layout.h.
 */
#ifndef MIDGE_SHM_RING_H
#define MIDGE_SHM_RING_H

#include "atomics.h"
#include "layout.h"

/* Consumer's `limit` after a frame or tail that cannot be: no position has this value, positions are multiples of 8. */
#define RING_LIMIT_CORRUPT UINT64_MAX

typedef struct {
    ring_header_t *header; /* NULL: detached */
    uint8_t *data;
    uint64_t capacity;
    uint64_t tail;       /* after the last committed frame */
    uint64_t claimed;    /* after the last claimed frame; == tail when no claim is open */
    uint64_t published;  /* what the consumer can see */
    uint64_t head_cache; /* the head as last loaded; the real one is at or after it */
    uint32_t frame_max;
    uint32_t epoch;
    int is_corrupt; /* the consumer stored a head that cannot be */
} ring_producer_t;

typedef struct {
    ring_header_t *header; /* NULL: detached */
    uint8_t *data;
    uint64_t capacity;
    uint64_t head;     /* after the last frame returned by ring_next */
    uint64_t released; /* after the last frame given back */
    uint64_t limit;    /* the tail as last loaded, or RING_LIMIT_CORRUPT */
    uint32_t frame_max;
    uint32_t epoch;
} ring_consumer_t;

/* --- memory: for the supervisor and tests ---------------------------------------------------------------------- */

static inline uint64_t ring_memory_bytes(uint64_t capacity) { return RING_HEADER_BYTES + capacity; }

/* Make an empty ring of `capacity` bytes at `memory` (128-aligned). Returns 1, or 0 when capacity is not valid. */
static inline int ring_initialize(void *memory, uint64_t capacity, uint32_t epoch) {
    ring_header_t *header = (ring_header_t *)memory;
    if (!ring_capacity_is_valid(capacity) || epoch == 0) return 0;
    memset(header, 0, sizeof *header);
    header->capacity = capacity;
    header->epoch = epoch;
    header->magic = RING_MAGIC;
    return 1;
}

/* Empty the ring and raise its epoch; returns the new one. Both ends must be dead or detached. */
static inline uint32_t ring_reset(void *memory) {
    ring_header_t *header = (ring_header_t *)memory;
    uint32_t epoch = header->epoch + 1;
    if (epoch == 0) epoch = 1;
    atomic_store_release_u32(&header->epoch, epoch); /* first: whoever is still attached is refused from here on */
    atomic_store_release_u64(&header->tail, 0);
    atomic_store_release_u64(&header->head, 0);
    atomic_store_release_u32(&header->producer_waiting, 0);
    return epoch;
}

/* Whether the memory is a ring of this epoch whose positions make sense. */
static inline int ring_is_attachable(const ring_header_t *header, uint32_t epoch) {
    if (header->magic != RING_MAGIC || !ring_capacity_is_valid(header->capacity)) return 0;
    if (epoch == 0 || atomic_load_acquire_u32(&header->epoch) != epoch) return 0;
    uint64_t head = atomic_load_acquire_u64(&header->head), tail = atomic_load_acquire_u64(&header->tail);
    return ((head | tail) & (FRAME_ALIGNMENT - 1)) == 0 && tail - head <= header->capacity;
}

static inline uint32_t ring_capacity_frame_max(uint64_t capacity) {
    return (uint32_t)(capacity / 4) - FRAME_HEADER_BYTES;
}

static inline uint64_t ring_frame_bytes(uint32_t body_bytes) {
    return FRAME_HEADER_BYTES + (((uint64_t)body_bytes + FRAME_ALIGNMENT - 1) & ~(uint64_t)(FRAME_ALIGNMENT - 1));
}

/* --- producer -------------------------------------------------------------------------------------------------- */

/* Forget the ring: every later call gives nothing. Frames not yet published are lost. */
static inline void ring_producer_detach(ring_producer_t *producer) { memset(producer, 0, sizeof *producer); }

/* Become the producer. Returns 1, or 0 and detached when `memory` is no ring or its epoch is not `epoch`. */
static inline int ring_producer_attach(ring_producer_t *producer, void *memory, uint32_t epoch) {
    ring_header_t *header = (ring_header_t *)memory;
    ring_producer_detach(producer);
    if (!ring_is_attachable(header, epoch)) return 0;
    producer->header = header;
    producer->data = (uint8_t *)memory + RING_HEADER_BYTES;
    producer->capacity = header->capacity;
    producer->tail = producer->claimed = producer->published = atomic_load_acquire_u64(&header->tail);
    producer->head_cache = atomic_load_acquire_u64(&header->head);
    producer->frame_max = ring_capacity_frame_max(header->capacity);
    producer->epoch = epoch;
    return 1;
}

/* Whether the ring was reset since attach, or was never attached. */
static inline int ring_is_stale(const ring_producer_t *producer) {
    return producer->header == NULL || atomic_load_relaxed_u32(&producer->header->epoch) != producer->epoch;
}

/* Largest body of one frame. A quarter of the ring, so that padding plus a frame always fits an empty ring. */
static inline uint32_t ring_frame_max(const ring_producer_t *producer) { return producer->frame_max; }

/* Look at the head again; 1 if `needed` bytes are free now. Pairs with the release store in ring_release:
 * what the consumer was reading is finished before it is written over. */
static inline int ring_refresh_head(ring_producer_t *producer, uint64_t needed) {
    if (ring_is_stale(producer)) return 0;
    uint64_t head = atomic_load_acquire_u64(&producer->header->head);
    if (head - producer->head_cache > producer->published - producer->head_cache) {
        producer->is_corrupt = 1; /* went back, or past what was published */
        return 0;
    }
    producer->head_cache = head;
    return needed <= producer->capacity - (producer->tail - head);
}

/* Reserve a frame of `kind` with `body_bytes`; see ring_claim. */
static inline uint8_t *ring_claim_kind(ring_producer_t *producer, uint32_t body_bytes, uint32_t kind) {
    if (body_bytes > producer->frame_max) return NULL;
    uint64_t place = producer->tail & (producer->capacity - 1);
    uint64_t to_end = producer->capacity - place;
    uint64_t needed = ring_frame_bytes(body_bytes);
    uint64_t padding = needed > to_end ? to_end : 0;
    if (needed + padding > producer->capacity - (producer->tail - producer->head_cache)) {
        if (!ring_refresh_head(producer, needed + padding)) return NULL; /* detached comes here too: capacity is 0 */
    } else if (ring_is_stale(producer)) {
        return NULL;
    }
    uint8_t *frame = producer->data + place;
    if (padding) {
        *(uint64_t *)frame = frame_header_pack((uint32_t)(to_end - FRAME_HEADER_BYTES), FRAME_PADDING, producer->epoch);
        frame = producer->data;
    }
    *(uint64_t *)frame = frame_header_pack(body_bytes, kind, producer->epoch);
    producer->claimed = producer->tail + padding + needed;
    return frame + FRAME_HEADER_BYTES;
}

/* Reserve a frame: a pointer to `body_bytes` of 8-aligned room, to be written and then committed. NULL, and
 * nothing has changed, when it does not fit now, the ring is stale or detached, or body_bytes >
 * ring_frame_max(). A second claim replaces one that was not committed. */
static inline uint8_t *ring_claim(ring_producer_t *producer, uint32_t body_bytes) {
    return ring_claim_kind(producer, body_bytes, FRAME_DATA);
}

/* Make the claimed frame part of the next publish. Without an open claim it does nothing. */
static inline void ring_commit(ring_producer_t *producer) { producer->tail = producer->claimed; }

/* Show the consumer all committed frames; 1 if there were any. The caller then looks at the consumer's wake
 * words. Pairs with the acquire load in ring_poll: the bodies are written before the tail moves. */
static inline int ring_publish(ring_producer_t *producer) {
    if (producer->tail == producer->published || ring_is_stale(producer)) return 0;
    producer->published = producer->tail;
    atomic_store_release_u64(&producer->header->tail, producer->tail);
    return 1;
}

/* Ask to be woken when space is given back. Call it after a claim that found no room, publish, then retry
 * the claim once: either the retry succeeds or the consumer's next ring_release returns 1. The flag is
 * taken by that release, so a producer that still finds no room asks again. Pairs with the fence in
 * ring_release. */
static inline void ring_want_space(ring_producer_t *producer) {
    if (ring_is_stale(producer)) return;
    atomic_store_relaxed_u32(&producer->header->producer_waiting, 1);
    atomic_fence_sequential(); /* the flag is visible before the retry loads the head */
}

/* Whether the consumer stored a head that cannot be: treat the peer as failed. */
static inline int ring_producer_is_corrupt(const ring_producer_t *producer) { return producer->is_corrupt; }

/* Bytes of frames that the consumer has not given back, as far as this side knows. */
static inline uint64_t ring_used_bytes(const ring_producer_t *producer) {
    return producer->tail - producer->head_cache;
}

/* --- consumer -------------------------------------------------------------------------------------------------- */

/* Forget the ring: every later call gives nothing. Frames not yet read are lost. */
static inline void ring_consumer_detach(ring_consumer_t *consumer) { memset(consumer, 0, sizeof *consumer); }

/* Become the consumer. Returns 1, or 0 and detached when `memory` is no ring or its epoch is not `epoch`. */
static inline int ring_consumer_attach(ring_consumer_t *consumer, void *memory, uint32_t epoch) {
    ring_header_t *header = (ring_header_t *)memory;
    ring_consumer_detach(consumer);
    if (!ring_is_attachable(header, epoch)) return 0;
    consumer->header = header;
    consumer->data = (uint8_t *)memory + RING_HEADER_BYTES;
    consumer->capacity = header->capacity;
    consumer->head = consumer->released = consumer->limit = atomic_load_acquire_u64(&header->head);
    consumer->frame_max = ring_capacity_frame_max(header->capacity);
    consumer->epoch = epoch;
    return 1;
}

/* Whether the ring was reset since attach, or was never attached. */
static inline int ring_consumer_is_stale(const ring_consumer_t *consumer) {
    return consumer->header == NULL || atomic_load_relaxed_u32(&consumer->header->epoch) != consumer->epoch;
}

/* Whether a tail or frame was met that no producer writes: treat the peer as failed. Stays until attached again. */
static inline int ring_is_corrupt(const ring_consumer_t *consumer) { return consumer->limit == RING_LIMIT_CORRUPT; }

/* Look how far the producer has published; returns the bytes that ring_next may read (padding counts), 0
 * for none, a stale, detached or corrupt ring. Pairs with the release store in ring_publish. */
static inline uint64_t ring_poll(ring_consumer_t *consumer) {
    if (ring_consumer_is_stale(consumer) || ring_is_corrupt(consumer)) return 0;
    uint64_t tail = atomic_load_acquire_u64(&consumer->header->tail);
    if (tail < consumer->limit || tail - consumer->released > consumer->capacity || tail % FRAME_ALIGNMENT != 0) {
        consumer->limit = RING_LIMIT_CORRUPT;
        return 0;
    }
    consumer->limit = tail;
    return tail - consumer->head;
}

/* Whether `header`, met at `place` with `readable` bytes up to the limit, is one that ring_claim_kind writes. */
static inline int ring_frame_is_valid(const ring_consumer_t *consumer, uint64_t header, uint64_t place,
                                      uint64_t readable) {
    uint32_t kind = frame_header_kind(header), body_bytes = frame_header_body_bytes(header);
    uint64_t frame_bytes = ring_frame_bytes(body_bytes), to_end = consumer->capacity - place;
    if (frame_header_version(header) != FRAME_VERSION || frame_header_epoch(header) != (consumer->epoch & 0xffff))
        return 0;
    if (frame_bytes > readable || frame_bytes > to_end) return 0;
    if (kind == FRAME_PADDING) return frame_bytes == to_end;
    return body_bytes <= consumer->frame_max && kind >= FRAME_DATA && kind <= FRAME_FRAGMENT_LAST;
}

/* The next frame's body, in place, valid until ring_release; NULL when there is none up to the limit that
 * ring_poll set, or when the ring is corrupt (ring_is_corrupt tells). *body_bytes is written only with a
 * body. */
static inline const uint8_t *ring_next(ring_consumer_t *consumer, uint32_t *body_bytes) {
    if (ring_is_corrupt(consumer)) return NULL;
    while (consumer->head != consumer->limit) {
        uint64_t place = consumer->head & (consumer->capacity - 1);
        const uint8_t *frame = consumer->data + place;
        uint64_t header = *(const uint64_t *)frame;
        if (!ring_frame_is_valid(consumer, header, place, consumer->limit - consumer->head)) {
            consumer->limit = RING_LIMIT_CORRUPT;
            return NULL;
        }
        consumer->head += ring_frame_bytes(frame_header_body_bytes(header));
        if (frame_header_kind(header) == FRAME_PADDING) continue;
        *body_bytes = frame_header_body_bytes(header);
        return frame + FRAME_HEADER_BYTES;
    }
    return NULL;
}

/* Kind of the frame whose body ring_next returned: FRAME_DATA or one of FRAME_FRAGMENT_*. */
static inline uint32_t ring_frame_kind(const uint8_t *body) {
    return frame_header_kind(*(const uint64_t *)(body - FRAME_HEADER_BYTES));
}

/* Give back every frame that ring_next returned so far; their bodies may be written over at once. Returns 1
 * if the producer waits for space (the flag is cleared): the caller then wakes it. Pairs with the acquire
 * load in ring_refresh_head, and with ring_want_space: head is stored before the flag is read. */
static inline int ring_release(ring_consumer_t *consumer) {
    if (consumer->head == consumer->released || ring_consumer_is_stale(consumer)) return 0;
    consumer->released = consumer->head;
    atomic_store_release_u64(&consumer->header->head, consumer->head);
    atomic_fence_sequential();
    if (!atomic_load_relaxed_u32(&consumer->header->producer_waiting)) return 0;
    return (int)atomic_exchange_u32(&consumer->header->producer_waiting, 0);
}

#endif
