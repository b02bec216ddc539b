# cython: language_level=3, embedsignature=True, wraparound=False
"""Share a few counters between the threads of a run.

Each row has one writer. Readers need no exact sum, only one that is right once the writers stand still;
therefore the counts are relaxed atomics. The two words that end a run are acquire and release.
"""

cimport cython

cdef extern from *:
    """
    #include <stdint.h>
    #include <time.h>

    static inline uint64_t count_load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    static inline void count_store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
    static inline uint32_t flag_load(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void flag_store(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    /* Release: whoever sees the last sender gone (flag_load) also sees what it counted as published. */
    static inline void flag_add(uint32_t *p, uint32_t v) { __atomic_add_fetch(p, v, __ATOMIC_ACQ_REL); }

    static inline uint64_t clock_monotonic_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    """
    uint64_t count_load(const uint64_t *p) noexcept nogil
    void count_store(uint64_t *p, uint64_t v) noexcept nogil
    uint32_t flag_load(const uint32_t *p) noexcept nogil
    void flag_store(uint32_t *p, uint32_t v) noexcept nogil
    void flag_add(uint32_t *p, uint32_t v) noexcept nogil
    uint64_t clock_monotonic_ns() noexcept nogil


cdef uint64_t monotonic_ns() noexcept nogil:
    return clock_monotonic_ns()


cdef void board_stop(board_t *board) noexcept nogil:
    """End all engines of the board when they next look: within 20 ms."""
    flag_store(&board.is_stopped, 1)


cdef bint board_is_stopped(const board_t *board) noexcept nogil:
    return flag_load(&board.is_stopped) != 0


cdef void board_add_senders(board_t *board, uint32_t count) noexcept nogil:
    flag_add(&board.senders_left, count)


cdef void board_sender_done(board_t *board) noexcept nogil:
    """Count one sender less; its engine has called board_set_published before."""
    flag_add(&board.senders_left, <uint32_t>-1)


cdef bint board_has_senders(const board_t *board) noexcept nogil:
    return flag_load(&board.senders_left) != 0


cdef void board_set_published(board_t *board, uint32_t row, uint64_t count) noexcept nogil:
    count_store(&board.rows[row].published, count)


cdef void board_set_delivered(board_t *board, uint32_t row, uint64_t count) noexcept nogil:
    count_store(&board.rows[row].delivered, count)


cdef uint64_t board_published(const board_t *board) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t row
    for row in range(board.engine_count):
        total += count_load(&board.rows[row].published)
    return total


cdef uint64_t board_delivered(const board_t *board) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t row
    for row in range(board.engine_count):
        total += count_load(&board.rows[row].delivered)
    return total


@cython.cdivision(True)  # copies is above 0 where it divides
cdef uint64_t board_allowance(const board_t *board) noexcept nogil:
    """Return how many messages may be published now without running too far ahead of the subscribers.

    Nothing below a quarter of the limit is handed out, else publishers would end up writing single messages.
    """
    cdef uint64_t delivered, due
    if board.copies == 0 or board.in_flight_max == 0:
        return <uint64_t>-1
    delivered = board_delivered(board)
    due = board_published(board) * board.copies
    if due <= delivered:
        return (board.in_flight_max + board.copies - 1) // board.copies
    if (due - delivered) * 4 > board.in_flight_max * 3:
        return 0
    return (board.in_flight_max - (due - delivered) + board.copies - 1) // board.copies
