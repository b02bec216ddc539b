/* Primitives on byte strings for the data plane: scan, copy, hash, write numbers, allocate.
 *
 * scan_blanks, scan_dots, same_bytes, copy_bytes and write_decimal may read and write up to OCTETS_SLACK bytes past the end of
 * what they were given; every buffer of the data plane (read arena, partial messages, output chunks) is allocated with that
 * slack.
 */
#ifndef MIDGE_WORKERS_OCTETS_H
#define MIDGE_WORKERS_OCTETS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define OCTETS_SLACK 64

/* Bit i is set where text[i] is a blank or a control byte (<= 0x20), for the `count` bytes from text, 32 or 64. */
static inline uint64_t scan_blanks(const uint8_t *text, int count)
{
    uint64_t mask = 0;
#if defined(__SSE2__)
    const __m128i limit = _mm_set1_epi8(0x20);
    for (int i = 0; i < count; i += 16) {
        __m128i part = _mm_loadu_si128((const __m128i *)(text + i));
        uint64_t bits = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(part, limit), part));
        mask |= bits << i;
    }
#else
    for (int i = 0; i < count; i++)
        mask |= (uint64_t)(text[i] <= 0x20) << i;
#endif
    return mask;
}

/* Bit i is set where text[i] is a dot, for `length` bytes from text, at most 64. */
static inline uint64_t scan_dots(const uint8_t *text, size_t length)
{
    uint64_t mask = 0;
#if defined(__SSE2__)
    const __m128i dot = _mm_set1_epi8('.');
    for (size_t i = 0; i < length; i += 16) {
        __m128i part = _mm_loadu_si128((const __m128i *)(text + i));
        mask |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(part, dot)) << i;
    }
    return length < 64 ? mask & (((uint64_t)1 << length) - 1) : mask;
#else
    for (size_t i = 0; i < length; i++)
        mask |= (uint64_t)(text[i] == '.') << i;
    return mask;
#endif
}

/* Put the places of the first dots into `dots`, at most `count_max`; return how many. */
static inline int find_dots(const uint8_t *text, size_t length, uint32_t *dots, int count_max)
{
    int count = 0;
    for (size_t at = 0; at < length; at += 64) {
        uint64_t mask = scan_dots(text + at, length - at < 64 ? length - at : 64);
        for (; mask; mask &= mask - 1) {
            if (count == count_max)
                return count;
            dots[count++] = (uint32_t)at + (uint32_t)__builtin_ctzll(mask);
        }
    }
    return count;
}

static inline int lowest_bit(uint64_t mask)
{
    return __builtin_ctzll(mask);
}

static inline int bit_count(uint64_t mask)
{
    return __builtin_popcountll(mask);
}

/* memcpy for the lengths of control lines and small payloads: whole 16-byte steps, so both ends need slack. The empty
 * asm keeps gcc from making a call of memmove of it, which was 6-10 % of the time per message. */
static inline void copy_bytes(uint8_t *restrict to, const uint8_t *restrict from, size_t length)
{
#if defined(__SSE2__)
    if (length <= 192) {
        size_t done = 0;
        do {
            _mm_storeu_si128((__m128i *)(to + done), _mm_loadu_si128((const __m128i *)(from + done)));
            done += 16;
            __asm__("" : "+r"(done));
        } while (done < length);
        return;
    }
#endif
    memcpy(to, from, length);
}

/* memcpy that touches no byte too many, for what is written into a ring. */
static inline void copy_exact(uint8_t *restrict to, const uint8_t *restrict from, size_t length)
{
#if defined(__SSE2__)
    if (length >= 16 && length <= 192) {
        size_t done = 0;
        do {
            _mm_storeu_si128((__m128i *)(to + done), _mm_loadu_si128((const __m128i *)(from + done)));
            done += 16;
            __asm__("" : "+r"(done));
        } while (done + 16 <= length);
        /* The last step overlaps the one before. */
        done = length - 16;
        _mm_storeu_si128((__m128i *)(to + done), _mm_loadu_si128((const __m128i *)(from + done)));
        return;
    }
    if (length >= 8 && length < 16) {
        uint64_t first, last;
        memcpy(&first, from, 8);
        memcpy(&last, from + length - 8, 8);
        memcpy(to, &first, 8);
        memcpy(to + length - 8, &last, 8);
        return;
    }
#endif
    memcpy(to, from, length);
}

/* memcmp() == 0 for subjects; both sides need slack. */
static inline int same_bytes(const uint8_t *one, const uint8_t *other, size_t length)
{
#if defined(__SSE2__)
    size_t done = 0;
    do {
        __m128i equal = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(one + done)),
                                       _mm_loadu_si128((const __m128i *)(other + done)));
        uint32_t differ = (uint32_t)_mm_movemask_epi8(equal) ^ 0xFFFF;
        if (differ) {
            size_t left = length - done;
            return left < 16 && !(differ & ((1u << left) - 1));
        }
        done += 16;
    } while (done < length);
    return 1;
#else
    return memcmp(one, other, length) == 0;
#endif
}

/* The eight decimal digits of a number below 10^8 as eight bytes 0..9, the first digit lowest: halves of four, of two, of
 * one, all of a step at once. */
static inline uint64_t eight_digits(uint32_t number)
{
    uint64_t parts = number / 10000 | (uint64_t)(number % 10000) << 32;
    uint64_t high = (parts * 10486 >> 20) & 0x0000007F0000007FULL;
    parts = high | (parts - 100 * high) << 16;
    high = (parts * 103 >> 10) & 0x000F000F000F000FULL;
    return high | (parts - 10 * high) << 8;
}

/* Write the last eight decimal digits of a number; return 8. */
static inline uint32_t write_eight(uint8_t *to, uint64_t number)
{
    uint64_t digits = eight_digits((uint32_t)(number % 100000000)) + 0x3030303030303030ULL;
    memcpy(to, &digits, 8);
    return 8;
}

/* Write a number in decimal; return its digits, at most 20. The text needs 8 bytes of slack. */
static inline uint32_t write_decimal(uint8_t *to, uint64_t number)
{
    const uint64_t zeros = 0x3030303030303030ULL;
    uint32_t length = 0;
    uint64_t digits;
    if (number >= 100000000) {
        length = write_decimal(to, number / 100000000);
        return length + write_eight(to + length, number);
    }
    digits = eight_digits((uint32_t)number);
    length = number ? (uint32_t)__builtin_ctzll(digits) / 8 : 7;
    digits = (digits + zeros) >> 8 * length;
    memcpy(to, &digits, 8);
    return 8 - length;
}

/* A number as it was written last, for numbers that mostly stay as they are or go up or down by one. */
typedef struct {
    uint64_t number;
    uint32_t length;                /* 0: none was written */
    uint8_t text[20 + 8];
} decimal_memo_t;

/* As write_decimal; the text needs OCTETS_SLACK bytes of slack. */
static inline uint32_t write_near(uint8_t *to, uint64_t number, decimal_memo_t *memo)
{
    uint64_t step = number - memo->number;
    uint32_t last = memo->length - 1;
    memo->number = number;
    if (memo->length == 0 || step + 1 > 2 || (step == 1 && memo->text[last] == '9')
        || (step == UINT64_MAX && memo->text[last] == '0')) {
        memo->length = write_decimal(to, number);
        memcpy(memo->text, to, 24);
        return memo->length;
    }
    memcpy(to, memo->text, 24);
    to[last] = memo->text[last] = (uint8_t)(memo->text[last] + step);
    return memo->length;
}

static inline uint64_t mix64(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* A 64-bit hash of a subject, seeded per process so that nobody can aim at its collisions. */
static inline uint64_t hash_bytes(const uint8_t *text, size_t length, uint64_t seed)
{
    const uint64_t k0 = 0x9E3779B97F4A7C15ULL, k1 = 0xD6E8FEB86659FD93ULL;
    uint64_t state = seed ^ (length * k0), word;
    while (length >= 8) {
        memcpy(&word, text, 8);
        state = mix64(state ^ word, k1);
        text += 8;
        length -= 8;
    }
    word = 0;
    if (length >= 4) {
        uint32_t low, high;
        memcpy(&low, text, 4);
        memcpy(&high, text + length - 4, 4);
        word = ((uint64_t)low << 32) | high;
    } else if (length) {
        word = (uint64_t)text[0] << 16 | (uint64_t)text[length >> 1] << 8 | text[length - 1];
    }
    return mix64(state ^ word, k0 ^ seed);
}

/* malloc and realloc that do not return without memory: a worker without memory dies and is started anew. */
static inline void *must(void *memory, size_t size)
{
    if (!memory && size) {
        fprintf(stderr, "midge: out of memory allocating %zu bytes\n", size);
        abort();
    }
    return memory;
}

static inline void *must_malloc(size_t size) { return must(malloc(size), size); }
static inline void *must_calloc(size_t count, size_t size) { return must(calloc(count, size), count * size); }
static inline void *must_realloc(void *old, size_t size) { return must(realloc(old, size), size); }

#endif
