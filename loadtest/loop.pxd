# C face of loadtest/loop.pyx: connections, their roles, and the loop that serves them without the GIL.

from libc.stdint cimport uint32_t, uint64_t

from loadtest.board cimport board_t
from loadtest.ledger cimport ledger_t, subscriber_t
from loadtest.parser cimport LINE_BYTES_MAX
from loadtest.sender cimport outbox_t, publisher_t, requester_t

cdef enum:
    # Bytes asked of one recv. With 256 KiB the copy still ends in the second-level cache.
    READ_BYTES = 256 * 1024
    # Room before the read buffer for the beginning of a frame that the last read left behind.
    HEADROOM_BYTES = LINE_BYTES_MAX
    FAULT_TEXT_BYTES = 256
    EVENTS_MAX = 256

cdef enum role_t:
    ROLE_PUBLISHER = 0
    ROLE_SUBSCRIBER
    ROLE_REQUESTER
    ROLE_RESPONDER

cdef enum stage_t:
    STAGE_ACTIVE = 0
    STAGE_PINGED            # has sent its last PING and waits for the PONG
    STAGE_DONE

ctypedef struct connection_t:
    int fd                      # borrowed: the Python socket must outlive the run
    role_t role
    stage_t stage
    bint is_blocked             # the socket took less than it was given; EPOLLOUT is armed
    char *tail                  # a frame that is not complete yet, owned
    size_t tail_bytes
    size_t tail_capacity
    size_t tail_needed          # size of that frame if it is larger than the headroom, else 0
    outbox_t outbox
    char *subject               # what messages must be published on, owned; NULL: anything
    size_t subject_bytes
    bint subject_is_prefix
    subscriber_t subscriber
    publisher_t publisher
    requester_t requester

ctypedef struct engine_t:
    int epoll_fd
    uint32_t row
    board_t *board              # borrowed from Board, which Engine keeps alive
    connection_t *connections   # owned
    uint32_t connection_count
    uint32_t connection_capacity
    uint32_t subscriber_count
    uint32_t responder_count
    uint32_t senders_left       # of this engine
    uint32_t settling           # subscribers that wait for their last PONG
    bint is_settling
    bint is_paced
    ledger_t ledger
    uint64_t published
    uint64_t first_ns           # first message handled, 0 before it
    uint64_t last_ns            # last progress: a delivery, a reply, a publisher's last PONG
    uint64_t wait_ns            # how long the loop may sleep
    char *buffer                # HEADROOM_BYTES + READ_BYTES, owned
    uint32_t fault_connection
    int fault_errno
    char fault_text[FAULT_TEXT_BYTES]

cdef int engine_watch(engine_t *engine, connection_t *connection) noexcept nogil
cdef void engine_feed(
    engine_t *engine, connection_t *connection, const char *data, size_t size
) noexcept nogil
cdef void engine_run(engine_t *engine) noexcept nogil
cdef void connection_free(connection_t *connection) noexcept nogil
