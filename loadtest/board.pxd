# C face of loadtest/board.pyx: what the engines of one run, each in its thread, know of each other.

from libc.stdint cimport uint32_t, uint64_t

# What one engine tells the others; padded, so that each row has cache lines of its own.
ctypedef struct board_row_t:
    uint64_t published
    uint64_t delivered
    uint64_t padding[14]

# Fields without "atomic" do not change while an engine runs.
ctypedef struct board_t:
    uint32_t engine_count
    uint64_t copies             # deliveries of each published message to subscribers in this process
    uint64_t in_flight_max      # deliveries that publishers may be ahead of subscribers; 0: no bound
    uint64_t delivered_target   # deliveries to wait for when publishers are foreign; 0: published * copies
    uint64_t start_ns           # from which schedules count
    uint64_t stop_ns            # senders stop here at the latest; 0: never
    uint64_t idle_ns            # a run without any progress for so long has failed
    uint32_t senders_left       # atomic: publishers and requesters that are not done
    uint32_t is_stopped         # atomic: everybody ends at once
    board_row_t *rows           # atomic, each written by its engine; owned

cdef uint64_t monotonic_ns() noexcept nogil

cdef void board_stop(board_t *board) noexcept nogil
cdef bint board_is_stopped(const board_t *board) noexcept nogil
cdef void board_add_senders(board_t *board, uint32_t count) noexcept nogil
cdef void board_sender_done(board_t *board) noexcept nogil
cdef bint board_has_senders(const board_t *board) noexcept nogil

cdef void board_set_published(board_t *board, uint32_t row, uint64_t count) noexcept nogil
cdef void board_set_delivered(board_t *board, uint32_t row, uint64_t count) noexcept nogil
cdef uint64_t board_published(const board_t *board) noexcept nogil
cdef uint64_t board_delivered(const board_t *board) noexcept nogil
cdef uint64_t board_allowance(const board_t *board) noexcept nogil
