/* Every ordered access to memory that two processes share.
 *
 * Nothing else in midge writes `__atomic`: a reader who wants to know which accesses are ordered searches
 * for the names below. They work on plain integers, so that the structs of layout.h can be mirrored by
 * Cython and NumPy. Words: "acquire" pairs with "release" of the other side; "sequential" also orders a
 * store before a later load, which the two sleep protocols (wake.h, ring_want_space) need and which nothing
 * weaker gives, not even on x86.
 */
#ifndef MIDGE_SHM_ATOMICS_H
#define MIDGE_SHM_ATOMICS_H

#include <stdint.h>

/* Two cache lines: the unit that the adjacent-line prefetcher of x86 and the 128-byte lines of some ARM cores move. */
#define CACHE_LINES_APART 128

static inline uint32_t atomic_load_relaxed_u32(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }

static inline uint32_t atomic_load_acquire_u32(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

static inline void atomic_store_relaxed_u32(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline void atomic_store_release_u32(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline uint32_t atomic_exchange_u32(uint32_t *word, uint32_t value) {
    return __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);
}

static inline uint64_t atomic_load_acquire_u64(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

static inline void atomic_store_release_u64(uint64_t *word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* Order every earlier store before every later load. */
static inline void atomic_fence_sequential(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

#endif
