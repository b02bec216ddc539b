/* CRC32C (Castagnoli): the processor's instruction where there is one, tables elsewhere. The choice is made once.
 *
 * crc32c(seed, data, bytes): `seed` is 0 or the result for the bytes before these. */
#ifndef MIDGE_STORAGE_CRC32C_H
#define MIDGE_STORAGE_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static uint32_t crc32c_tables[8][256];
static uint32_t (*crc32c_chosen)(uint32_t, const uint8_t *, size_t);

static void crc32c_make_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82F63B78u & (0u - (crc & 1u)));
        crc32c_tables[0][byte] = crc;
    }
    for (int table = 1; table < 8; table++)
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t below = crc32c_tables[table - 1][byte];
            crc32c_tables[table][byte] = (below >> 8) ^ crc32c_tables[0][below & 255];
        }
}

static uint32_t crc32c_software(uint32_t crc, const uint8_t *data, size_t bytes) {
    crc = ~crc;
    for (; bytes >= 8; bytes -= 8, data += 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        word ^= crc;
        crc = crc32c_tables[7][word & 255] ^ crc32c_tables[6][(word >> 8) & 255] ^
              crc32c_tables[5][(word >> 16) & 255] ^ crc32c_tables[4][(word >> 24) & 255] ^
              crc32c_tables[3][(word >> 32) & 255] ^ crc32c_tables[2][(word >> 40) & 255] ^
              crc32c_tables[1][(word >> 48) & 255] ^ crc32c_tables[0][word >> 56];
    }
    for (; bytes; bytes--, data++) crc = (crc >> 8) ^ crc32c_tables[0][(crc ^ *data) & 255];
    return ~crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
__attribute__((target("sse4.2"))) static uint32_t crc32c_hardware(uint32_t crc, const uint8_t *data, size_t bytes) {
    uint64_t state = (uint32_t)~crc;
    for (; bytes >= 8; bytes -= 8, data += 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        state = _mm_crc32_u64(state, word);
    }
    uint32_t narrow = (uint32_t)state;
    for (; bytes; bytes--, data++) narrow = _mm_crc32_u8(narrow, *data);
    return ~narrow;
}
#endif

/* Call once before the first crc32c of a translation unit; calling it again does nothing. */
static inline void crc32c_choose(void) {
    if (crc32c_chosen) return;
    crc32c_make_tables();
    crc32c_chosen = crc32c_software;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) crc32c_chosen = crc32c_hardware;
#endif
}

static inline uint32_t crc32c(uint32_t seed, const uint8_t *data, size_t bytes) {
    return crc32c_chosen(seed, data, bytes);
}

#endif
