/* One record, and the header of a log file, as bytes: see the drawing in record.pyx, which owns the format. */
#ifndef MIDGE_STORAGE_RECORD_H
#define MIDGE_STORAGE_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "crc32c.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the files are little-endian and are read in place; this host is not"
#endif

typedef struct {
    uint32_t crc;
    uint32_t length;
    uint64_t sequence;
    int64_t timestamp_ns;
    uint16_t subject_length;
    uint8_t kind;
    uint8_t flags;
    uint32_t headers_length;
} record_header_t;

_Static_assert(sizeof(record_header_t) == 32, "a record's header is 32 bytes");
_Static_assert(offsetof(record_header_t, subject_length) == 24, "subject length at 24");
_Static_assert(offsetof(record_header_t, headers_length) == 28, "headers length at 28");

typedef struct {
    char magic[8];
    uint16_t version;
    uint16_t kind;
    uint32_t salt;
    uint64_t number;
    uint64_t stream;
    uint64_t base_sequence;
    int64_t created_ns;
    uint64_t replaces;
    uint32_t reserved;
    uint32_t crc;
} log_header_t;

_Static_assert(sizeof(log_header_t) == 64, "a log file's header is 64 bytes");
_Static_assert(offsetof(log_header_t, crc) == 60, "the header's crc is last");

enum { RECORD_HEADER_BYTES = 32, RECORD_EXPIRES = 1, RECORD_ERASED = 8 };

static inline uint64_t record_padded(uint64_t length) { return (length + 7) & ~(uint64_t)7; }

/* The CRC of a record starts from its place, so that bytes left from another place or file never pass. */
static inline uint32_t record_seed(uint32_t salt, uint64_t offset) {
    return salt ^ ((uint32_t)(offset >> 3) * 0x9E3779B1u);
}

static inline void record_seal(uint8_t *record, uint32_t length, uint32_t salt, uint64_t offset) {
    uint32_t crc = crc32c(record_seed(salt, offset), record + 4, length - 4);
    memcpy(record, &crc, 4);
    memset(record + length, 0, record_padded(length) - length);
}

/* The padded bytes of the record at `data`, or 0: not a whole record that passes its checks. */
static inline uint64_t record_check(const uint8_t *data, uint64_t available, uint32_t salt, uint64_t offset) {
    record_header_t header;
    if (available < RECORD_HEADER_BYTES) return 0;
    memcpy(&header, data, sizeof header);
    if (header.length < RECORD_HEADER_BYTES || record_padded(header.length) > available) return 0;
    uint64_t fixed = RECORD_HEADER_BYTES + ((header.flags & RECORD_EXPIRES) ? 8 : 0);
    if (fixed + header.subject_length + (uint64_t)header.headers_length > header.length) return 0;
    if (crc32c(record_seed(salt, offset), data + 4, header.length - 4) != header.crc) return 0;
    return record_padded(header.length);
}

#endif
