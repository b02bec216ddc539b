/* The bytes of the shared region: every struct that lies in it, drawn once.
 *
 * All integers are in the byte order of the host: the region never leaves it. Must not know what a frame
 * carries.
 *
 *   The region (one memfd); every part starts on a page, n = worker_count, p = n * (n - 1) ordered pairs:
 *
 *     0                  region_header_t                                          128 used, rest of the page zero
 *     wake_offset        wake_words_t      [n]                                    128 each
 *     counters_offset    counters_t        [n]                                    512 each
 *     placement_offset   uint16_t          [SLOT_COUNT]  worker of each slot      2048
 *     data_offset        data ring         [p]     data_stride each               4 KiB multiples
 *     control_offset     control ring      [p]     control_stride each
 *     total_bytes
 *
 *   A ring: the ring of the ordered pair (i, j), i writes and j reads, is number i * (n - 1) + j - (j > i):
 *
 *     0     128                256          384                    512
 *     +-----+------------------+------------+----------------------+------------------------------+
 *     | who | tail             | head       | producer_waiting     | capacity bytes of frames     |
 *     +-----+------------------+------------+----------------------+------------------------------+
 *      reset  producer writes    consumer     both, only when full   producer writes
 *      only   once a publish     writes once
 *                                a release
 *
 *   A frame; starts at a multiple of 8, never runs over the end of the ring (a padding frame fills what is left there):
 *
 *     bits of one uint64_t    0..31 body_bytes | 32..39 version | 40..47 kind | 48..63 low half of the ring's epoch
 *     byte 8                  the body, 8-aligned
 *     then                    0..7 unused bytes up to a multiple of 8
 *
 *   A fragment's body: FRAGMENT_FIRST begins with uint64_t total_bytes of the whole body, then bytes of it;
 *   FRAGMENT_MIDDLE and FRAGMENT_LAST are bytes of it alone.
 */
#ifndef MIDGE_SHM_LAYOUT_H
#define MIDGE_SHM_LAYOUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "atomics.h"

/* --- frames ---------------------------------------------------------------------------------------------------- */

#define FRAME_VERSION 1
#define FRAME_HEADER_BYTES 8
#define FRAME_ALIGNMENT 8

enum frame_kind {
    FRAME_DATA = 1,           /* a whole body */
    FRAME_PADDING = 2,        /* fills the end of the ring; no reader sees it */
    FRAME_FRAGMENT_FIRST = 3, /* pieces of one body too large for a frame, see fragment.h */
    FRAME_FRAGMENT_MIDDLE = 4,
    FRAME_FRAGMENT_LAST = 5
};

static inline uint64_t frame_header_pack(uint32_t body_bytes, uint32_t kind, uint32_t epoch) {
    return (uint64_t)body_bytes | (uint64_t)FRAME_VERSION << 32 | (uint64_t)(kind & 0xff) << 40 |
           (uint64_t)(epoch & 0xffff) << 48;
}

static inline uint32_t frame_header_body_bytes(uint64_t header) { return (uint32_t)header; }

static inline uint32_t frame_header_version(uint64_t header) { return (uint32_t)(header >> 32) & 0xff; }

static inline uint32_t frame_header_kind(uint64_t header) { return (uint32_t)(header >> 40) & 0xff; }

static inline uint32_t frame_header_epoch(uint64_t header) { return (uint32_t)(header >> 48) & 0xffff; }

/* --- rings ----------------------------------------------------------------------------------------------------- */

#define RING_MAGIC 0x3130676e69726d6dULL /* "mmring01" read as little endian */
#define RING_CAPACITY_MIN 64             /* a quarter of it must hold a frame header and 8 bytes */
#define RING_CAPACITY_MAX (1ULL << 30)   /* so that a quarter, and every length, fits uint32_t with room */

typedef struct {
    uint64_t magic;
    uint64_t capacity; /* bytes of frames, a power of two */
    uint32_t epoch;    /* from 1; +1 at every reset; frames and attachments of another epoch are refused */
    uint8_t pad_epoch[CACHE_LINES_APART - 20];
    uint64_t tail; /* position after the last published frame; grows forever */
    uint8_t pad_tail[CACHE_LINES_APART - 8];
    uint64_t head; /* position after the last released frame; grows forever, at most tail */
    uint8_t pad_head[CACHE_LINES_APART - 8];
    uint32_t producer_waiting; /* 1: the producer found no room and asks to be woken */
    uint8_t pad_waiting[CACHE_LINES_APART - 4];
} ring_header_t;

#define RING_HEADER_BYTES 512

_Static_assert(sizeof(ring_header_t) == RING_HEADER_BYTES, "ring header size");
_Static_assert(offsetof(ring_header_t, capacity) == 8, "ring capacity offset");
_Static_assert(offsetof(ring_header_t, epoch) == 16, "ring epoch offset");
_Static_assert(offsetof(ring_header_t, tail) == 1 * CACHE_LINES_APART, "tail has lines of its own");
_Static_assert(offsetof(ring_header_t, head) == 2 * CACHE_LINES_APART, "head has lines of its own");
_Static_assert(offsetof(ring_header_t, producer_waiting) == 3 * CACHE_LINES_APART, "waiting has lines of its own");

/* --- wake words ------------------------------------------------------------------------------------------------ */

typedef struct {
    uint32_t sleeping;        /* 1: the worker is about to block or blocks; whoever takes it to 0 rings its eventfd */
    uint32_t control_pending; /* 1: some control ring of this worker has frames that it has not looked for yet */
    uint8_t pad[CACHE_LINES_APART - 8];
} wake_words_t;

_Static_assert(sizeof(wake_words_t) == CACHE_LINES_APART, "one worker's wake words share no line with another's");
_Static_assert(offsetof(wake_words_t, control_pending) == 4, "control_pending offset");

/* --- counters -------------------------------------------------------------------------------------------------- */

/* The one list of counters, in the order in which they lie in memory. Only the row's worker writes (plain
 * aligned stores), anybody reads. A TOTAL only grows, also over restarts of its worker; a GAUGE is a
 * present value, set to 0 when the worker has died. */
#define COUNTERS(TOTAL, GAUGE)                                                                            \
    TOTAL(accepted_total)       /* connections taken over from the supervisor */                          \
    GAUGE(connections)          /* open */                                                                \
    GAUGE(subscriptions)        /* of local clients */                                                    \
    TOTAL(in_msgs)              /* messages published by local clients */                                 \
    TOTAL(in_bytes)             /* their headers and payloads */                                          \
    TOTAL(out_msgs)             /* messages delivered to local clients */                                 \
    TOTAL(out_bytes)            /* their headers and payloads */                                          \
    TOTAL(slow_consumers)       /* connections closed for not reading */                                  \
    TOTAL(closed_total)         /* connections that have ended */                                         \
    TOTAL(stale_connections)    /* connections closed for not answering PING */                           \
    TOTAL(ring_in_frames)       /* data frames read from peers */                                         \
    TOTAL(ring_out_frames)      /* data frames written to peers */                                        \
    TOTAL(ring_full)            /* claims refused because a peer's ring was full */                       \
    TOTAL(control_in_frames)    /* control frames read from peers */                                      \
    TOTAL(control_out_frames)   /* control frames written to peers */                                     \
    TOTAL(wakeups)              /* doorbells of peers rung */                                             \
    TOTAL(rounds)               /* rounds of the worker's loop */                                         \
    GAUGE(routes_cached)        /* subjects in the route cache */                                         \
    TOTAL(route_hits)           /* publishes that found their route there */                              \
    TOTAL(route_misses)         /* publishes that did not */                                              \
    GAUGE(pending_bytes)        /* output not yet taken by sockets */                                     \
    TOTAL(auth_errors)          /* connections refused for their credentials */                           \
    TOTAL(protocol_errors)      /* -ERR answers for what a client sent */                                 \
    TOTAL(stalls)               /* times that reading clients was stopped for a full ring */

enum counter_index {
#define COUNTER_INDEX(name) COUNTER_##name,
    COUNTERS(COUNTER_INDEX, COUNTER_INDEX)
#undef COUNTER_INDEX
        COUNTER_COUNT
};

#define COUNTERS_BYTES 512
#define COUNTERS_RESERVED (COUNTERS_BYTES / 8 - COUNTER_COUNT)

typedef struct {
#define COUNTER_FIELD(name) uint64_t name;
    COUNTERS(COUNTER_FIELD, COUNTER_FIELD)
#undef COUNTER_FIELD
    uint64_t reserved[COUNTERS_RESERVED];
} counters_t;

_Static_assert(sizeof(counters_t) == COUNTERS_BYTES, "counters row size");
_Static_assert(COUNTERS_BYTES % CACHE_LINES_APART == 0, "one worker's counters share no line with another's");
_Static_assert(offsetof(counters_t, stalls) == 8 * COUNTER_stalls, "counters are packed uint64_t");

/* The name of counter `index`, or NULL when there is none; static storage. */
static inline const char *counter_name(uint32_t index) {
    static const char *const names[] = {
#define COUNTER_NAME(name) #name,
        COUNTERS(COUNTER_NAME, COUNTER_NAME)
#undef COUNTER_NAME
    };
    return index < COUNTER_COUNT ? names[index] : NULL;
}

/* Whether counter `index` is a present value. */
static inline int counter_is_gauge(uint32_t index) {
    static const uint8_t gauges[] = {
#define COUNTER_TOTAL(name) 0,
#define COUNTER_GAUGE(name) 1,
        COUNTERS(COUNTER_TOTAL, COUNTER_GAUGE)
#undef COUNTER_TOTAL
#undef COUNTER_GAUGE
    };
    return index < COUNTER_COUNT && gauges[index];
}

/* --- the region ------------------------------------------------------------------------------------------------ */

#define REGION_MAGIC 0x3130656764696d6dULL /* "mmidge01" read as little endian */
#define REGION_VERSION 1
#define REGION_PAGE_BYTES 4096
#define SLOT_COUNT 1024 /* hash slots of the placement table: a power of two, fixed */
#define WORKERS_MAX 128 /* rings grow with its square: 16,256 pairs are 20 GB of address space */

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t worker_count;
    uint32_t slot_count;
    uint32_t reserved;
    uint64_t data_ring_bytes;    /* capacity of each data ring */
    uint64_t control_ring_bytes; /* capacity of each control ring */
    uint64_t data_stride;        /* from one data ring to the next */
    uint64_t control_stride;
    uint64_t wake_offset;
    uint64_t counters_offset;
    uint64_t placement_offset;
    uint64_t data_offset;
    uint64_t control_offset;
    uint64_t total_bytes;
    uint64_t reserved_tail[3];
} region_header_t;

_Static_assert(sizeof(region_header_t) == 128, "region header size");
_Static_assert(offsetof(region_header_t, data_ring_bytes) == 24, "data_ring_bytes offset");
_Static_assert(offsetof(region_header_t, total_bytes) == 96, "total_bytes offset");

static inline int ring_capacity_is_valid(uint64_t capacity) {
    return capacity >= RING_CAPACITY_MIN && capacity <= RING_CAPACITY_MAX && (capacity & (capacity - 1)) == 0;
}

static inline uint64_t region_page_up(uint64_t bytes) {
    return (bytes + REGION_PAGE_BYTES - 1) & ~(uint64_t)(REGION_PAGE_BYTES - 1);
}

/* Fill the header of a region: a pure function of its three sizes, so that who attaches can compute it
 * again and compare. Returns 1, or 0 (header untouched) when a size is out of range. */
static inline int region_plan(region_header_t *header, uint32_t worker_count, uint64_t data_ring_bytes,
                              uint64_t control_ring_bytes) {
    if (worker_count < 1 || worker_count > WORKERS_MAX) return 0;
    if (!ring_capacity_is_valid(data_ring_bytes) || !ring_capacity_is_valid(control_ring_bytes)) return 0;
    uint64_t pairs = (uint64_t)worker_count * (worker_count - 1);
    memset(header, 0, sizeof *header);
    header->magic = REGION_MAGIC;
    header->version = REGION_VERSION;
    header->worker_count = worker_count;
    header->slot_count = SLOT_COUNT;
    header->data_ring_bytes = data_ring_bytes;
    header->control_ring_bytes = control_ring_bytes;
    header->data_stride = region_page_up(RING_HEADER_BYTES + data_ring_bytes);
    header->control_stride = region_page_up(RING_HEADER_BYTES + control_ring_bytes);
    header->wake_offset = REGION_PAGE_BYTES;
    header->counters_offset = header->wake_offset + region_page_up(worker_count * sizeof(wake_words_t));
    header->placement_offset = header->counters_offset + region_page_up(worker_count * sizeof(counters_t));
    header->data_offset = header->placement_offset + region_page_up(SLOT_COUNT * sizeof(uint16_t));
    header->control_offset = header->data_offset + pairs * header->data_stride;
    header->total_bytes = header->control_offset + pairs * header->control_stride;
    return 1;
}

#endif
