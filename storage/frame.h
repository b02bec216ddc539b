/* The header of one journal frame: see the drawing in journal.pyx, which owns the format. */
#ifndef MIDGE_STORAGE_FRAME_H
#define MIDGE_STORAGE_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "crc32c.h"

typedef struct {
    char magic[8];
    uint64_t position;
    uint32_t body_bytes;
    uint32_t entry_count;
    uint32_t body_crc;
    uint32_t header_crc;
} frame_header_t;

_Static_assert(sizeof(frame_header_t) == 32, "a frame's header is 32 bytes");

typedef struct {
    uint32_t length;
    uint32_t crc;
    uint64_t offset;
    uint32_t data_bytes;
    uint16_t path_bytes;
    uint8_t kind;
    uint8_t copy;
} __attribute__((packed)) entry_header_t;

_Static_assert(sizeof(entry_header_t) == 24, "an entry's header is 24 bytes");

enum { FRAME_HEADER_BYTES = 32, FRAME_ALIGN = 4096, ENTRY_HEADER_BYTES = 24 };

/* Fill in both CRCs; every other byte of the frame is in place. */
static inline void frame_seal(uint8_t *frame) {
    frame_header_t header;
    memcpy(&header, frame, sizeof header);
    header.body_crc = crc32c((uint32_t)header.position, frame + FRAME_HEADER_BYTES, header.body_bytes);
    header.header_crc = crc32c(0, (uint8_t *)&header, offsetof(frame_header_t, header_crc));
    memcpy(frame, &header, sizeof header);
}

/* An empty frame for `position`: written behind a finished one it proves that the one before was complete. */
static inline void frame_make_empty(uint8_t *frame, uint64_t position) {
    frame_header_t header = {{'M', 'I', 'D', 'G', 'E', 'F', 'R', 'M'}, position, 0, 0, 0, 0};
    memset(frame, 0, FRAME_ALIGN);
    memcpy(frame, &header, sizeof header);
    frame_seal(frame);
}

#endif
