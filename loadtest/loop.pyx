# cython: language_level=3, embedsignature=True, wraparound=False
"""Serve the connections of one engine: non-blocking sockets, one epoll set, no GIL, no Python object.

One round: wait for events; read what is readable and check it; let every publisher that may write one
block; flush answers. An engine is used by one thread. Engines of a run tell each other only what the board
says.

It ends by itself: when everything arrived (and, after a last PING on each subscription, nothing more came),
on the first fault, when somebody stops the board, or when nothing at all moves for board.idle_ns.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memmove, memset

from loadtest.board cimport (
    board_allowance,
    board_delivered,
    board_has_senders,
    board_is_stopped,
    board_published,
    board_sender_done,
    board_set_delivered,
    board_set_published,
    board_stop,
    board_t,
    monotonic_ns,
)
from loadtest.ledger cimport (
    FAULT_BROKEN,
    FAULT_CLOSED,
    FAULT_ERRNO,
    FAULT_EXTRA,
    FAULT_IDLE,
    FAULT_MEMORY,
    FAULT_NO_RESPONDERS,
    FAULT_NONE,
    FAULT_REPLY,
    FAULT_SERVER,
    FAULT_SIZE,
    FAULT_SUBJECT,
    fault_t,
    ledger_fail,
    subscriber_note_line,
    subscriber_take,
    subscriber_take_repeats,
)
from loadtest.parser cimport (
    OPERATION_ERR,
    OPERATION_MSG,
    OPERATION_PING,
    OPERATION_PONG,
    PARSE_BROKEN,
    PARSE_NEED_MORE,
    operation_t,
    parse_operation,
    parse_state_t,
)
from loadtest.sender cimport (
    outbox_append,
    outbox_free,
    publisher_stamp,
    requester_fill,
    requester_take,
    responder_answer,
    schedule_due_count,
    schedule_due_ns,
    schedule_t,
)

cdef extern from *:
    """
    #include <poll.h>
    #include <stdint.h>
    #include <sys/epoll.h>
    #include <sys/prctl.h>
    #include <sys/socket.h>
    #include <sys/uio.h>

    /* epoll_wait counts milliseconds. For less, ppoll waits for the set itself to be readable: epoll_pwait2
       would do it in one call, but needs a newer C library. */
    static inline int wait_events(
        int epoll_fd, struct epoll_event *events, int events_max, uint64_t wait_ns) {
        if (wait_ns >= 1000000u)
            return epoll_wait(epoll_fd, events, events_max, (int)(wait_ns / 1000000u));
        if (wait_ns) {
            struct pollfd poller = {.fd = epoll_fd, .events = POLLIN};
            struct timespec timeout = {.tv_sec = 0, .tv_nsec = (long)wait_ns};
            if (ppoll(&poller, 1, &timeout, NULL) <= 0)
                return 0;
        }
        return epoll_wait(epoll_fd, events, events_max, 0);
    }
    static inline int epoll_change(int epoll_fd, int operation, int fd, uint32_t events, uint32_t index) {
        struct epoll_event event = {.events = events, .data.u32 = index};
        return epoll_ctl(epoll_fd, operation, fd, &event);
    }
    static inline uint32_t event_index(const struct epoll_event *event) { return event->data.u32; }
    static inline ssize_t receive_two(
        int fd, void *first, size_t first_bytes, void *rest, size_t rest_bytes) {
        struct iovec parts[2] = {{first, first_bytes}, {rest, rest_bytes}};
        return readv(fd, parts, 2);
    }
    """
    ctypedef struct epoll_event "struct epoll_event":
        uint32_t events
    enum: EPOLLIN
    enum: EPOLLOUT
    enum: EPOLL_CTL_ADD
    enum: EPOLL_CTL_MOD
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL
    enum: PR_SET_TIMERSLACK
    int wait_events(int epoll_fd, epoll_event *events, int events_max, uint64_t wait_ns) noexcept nogil
    int epoll_change(int epoll_fd, int operation, int fd, uint32_t events, uint32_t index) noexcept nogil
    uint32_t event_index(const epoll_event *event) noexcept nogil
    ssize_t receive_two(int fd, void *first, size_t first_bytes, void *rest, size_t rest_bytes) noexcept nogil
    ssize_t recv(int fd, void *data, size_t size, int flags) noexcept nogil
    ssize_t send(int fd, const void *data, size_t size, int flags) noexcept nogil
    int prctl(int option, unsigned long value) noexcept nogil

cdef enum:
    # Publishers that are too far ahead look again after this long: far less than the allowance lasts.
    WAIT_AHEAD_NS = 300_000
    # Longest sleep, so that a stopped board and an idle run are noticed.
    WAIT_LONGEST_NS = 20_000_000
    # The same once senders are done and only the other engines' deliveries are awaited.
    WAIT_ENDING_NS = 1_000_000
    IDLE_CHECK_INTERVAL_NS = 50_000_000


cdef void engine_fail(
    engine_t *engine, connection_t *connection, fault_t fault, const char *text, size_t text_bytes
) noexcept nogil:
    """Record a fault with a piece of text; the loop ends after the current event."""
    cdef size_t kept = text_bytes if text_bytes < FAULT_TEXT_BYTES - 1 else FAULT_TEXT_BYTES - 1
    if engine.ledger.fault != FAULT_NONE:
        return
    ledger_fail(&engine.ledger, fault, 0, 0)
    engine.fault_connection = <uint32_t>(connection - engine.connections)
    engine.fault_errno = errno if fault == FAULT_ERRNO else 0
    memcpy(engine.fault_text, text, kept)
    engine.fault_text[kept] = 0


cdef int engine_watch(engine_t *engine, connection_t *connection) noexcept nogil:
    """Put a connection into the epoll set; -1 with errno."""
    return epoll_change(
        engine.epoll_fd, EPOLL_CTL_ADD, connection.fd, EPOLLIN, <uint32_t>(connection - engine.connections)
    )


cdef void set_blocked(engine_t *engine, connection_t *connection, bint is_blocked) noexcept nogil:
    if connection.is_blocked == is_blocked:
        return
    connection.is_blocked = is_blocked
    if epoll_change(
        engine.epoll_fd,
        EPOLL_CTL_MOD,
        connection.fd,
        EPOLLIN | EPOLLOUT if is_blocked else EPOLLIN,
        <uint32_t>(connection - engine.connections),
    ) < 0:
        engine_fail(engine, connection, FAULT_ERRNO, b"epoll_ctl", 9)


cdef size_t write_some(
    engine_t *engine, connection_t *connection, const char *data, size_t size
) noexcept nogil:
    """Write what the socket takes; where that is not all, the connection is blocked until EPOLLOUT."""
    cdef ssize_t written = send(connection.fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
    if written < 0:
        if errno != EAGAIN and errno != EINTR:
            engine_fail(engine, connection, FAULT_ERRNO, b"send", 4)
            return 0
        written = 0
    if <size_t>written < size:
        set_blocked(engine, connection, True)
    return <size_t>written


cdef void flush_outbox(engine_t *engine, connection_t *connection) noexcept nogil:
    """Write the outbox, unless a publish block is half written: nothing may come between its bytes."""
    if connection.is_blocked or connection.outbox.start == connection.outbox.end:
        return
    if connection.publisher.pending_start < connection.publisher.pending_end:
        return
    connection.outbox.start += write_some(
        engine,
        connection,
        connection.outbox.data + connection.outbox.start,
        connection.outbox.end - connection.outbox.start,
    )
    if connection.outbox.start == connection.outbox.end:
        connection.outbox.start = connection.outbox.end = 0


cdef void queue_bytes(
    engine_t *engine, connection_t *connection, const char *data, size_t size
) noexcept nogil:
    if outbox_append(&connection.outbox, data, size) < 0:
        engine_fail(engine, connection, FAULT_MEMORY, b"outbox", 6)


# ---- what arrives


cdef void finish_sender(engine_t *engine, connection_t *connection) noexcept nogil:
    connection.stage = STAGE_DONE
    engine.senders_left -= 1
    engine.last_ns = engine.ledger.now_ns
    board_sender_done(engine.board)


cdef void take_pong(engine_t *engine, connection_t *connection) noexcept nogil:
    if connection.stage != STAGE_PINGED:
        return
    if connection.role == ROLE_SUBSCRIBER:
        connection.stage = STAGE_DONE
        engine.settling -= 1
    elif connection.role == ROLE_PUBLISHER:
        finish_sender(engine, connection)


cdef bint subject_is_right(const connection_t *connection, const operation_t *operation) noexcept nogil:
    if connection.subject == NULL:
        return True
    if operation.subject_bytes < connection.subject_bytes:
        return False
    if operation.subject_bytes > connection.subject_bytes and not connection.subject_is_prefix:
        return False
    return memcmp(operation.subject, connection.subject, connection.subject_bytes) == 0


cdef void take_delivery(
    engine_t *engine, connection_t *connection, const operation_t *operation
) noexcept nogil:
    """Hand a message to a subscriber; from here on its control line is known."""
    if engine.is_settling:
        engine_fail(engine, connection, FAULT_EXTRA, operation.subject, operation.subject_bytes)
        return
    subscriber_take(&engine.ledger, &connection.subscriber, operation.payload, operation.payload_bytes)
    if operation.header_bytes == 0 and operation.payload_bytes == engine.ledger.payload_bytes:
        subscriber_note_line(
            &connection.subscriber,
            operation.payload - operation.line_bytes,
            operation.line_bytes,
            operation.frame_bytes,
        )


cdef void take_message(
    engine_t *engine, connection_t *connection, const operation_t *operation
) noexcept nogil:
    if connection.role == ROLE_PUBLISHER or operation.sid_bytes != 1 or operation.sid[0] != c'1':
        engine_fail(engine, connection, FAULT_SUBJECT, operation.sid, operation.sid_bytes)
    elif not subject_is_right(connection, operation):
        engine_fail(engine, connection, FAULT_SUBJECT, operation.subject, operation.subject_bytes)
    elif connection.role == ROLE_SUBSCRIBER:
        take_delivery(engine, connection, operation)
    elif connection.role == ROLE_RESPONDER:
        if operation.reply_bytes == 0:
            engine_fail(engine, connection, FAULT_REPLY, b"request without a reply subject", 31)
        elif responder_answer(
            &connection.outbox,
            operation.reply,
            operation.reply_bytes,
            operation.payload,
            operation.payload_bytes,
        ) < 0:
            engine_fail(engine, connection, FAULT_MEMORY, b"outbox", 6)
        else:
            connection.subscriber.received += 1
    elif operation.header_bytes >= 12 and memcmp(
        operation.payload - operation.header_bytes, b"NATS/1.0 503", 12
    ) == 0:
        engine_fail(engine, connection, FAULT_NO_RESPONDERS, b"", 0)
    else:
        requester_take(
            &connection.requester,
            &engine.ledger,
            operation.subject,
            operation.subject_bytes,
            operation.payload,
            operation.payload_bytes,
        )


cdef void take_operation(
    engine_t *engine, connection_t *connection, const operation_t *operation
) noexcept nogil:
    if operation.kind == OPERATION_MSG:
        take_message(engine, connection, operation)
    elif operation.kind == OPERATION_PING:
        queue_bytes(engine, connection, b"PONG\r\n", 6)
    elif operation.kind == OPERATION_PONG:
        take_pong(engine, connection)
    elif operation.kind == OPERATION_ERR:
        engine_fail(engine, connection, FAULT_SERVER, operation.payload, operation.payload_bytes)


cdef size_t take_all(
    engine_t *engine, connection_t *connection, const char *data, size_t size, size_t *frame_bytes
) noexcept nogil:
    """Handle all complete operations, return their bytes. *frame_bytes: of the incomplete one, 0: unknown."""
    cdef operation_t operation
    cdef parse_state_t state
    cdef size_t position = 0
    frame_bytes[0] = 0
    while position < size and engine.ledger.fault == FAULT_NONE:
        if connection.role == ROLE_SUBSCRIBER and not engine.is_settling:
            position += subscriber_take_repeats(
                &engine.ledger, &connection.subscriber, data + position, size - position
            )
            if position == size or engine.ledger.fault != FAULT_NONE:
                break
        state = parse_operation(data + position, size - position, &operation)
        if state == PARSE_BROKEN:
            engine_fail(engine, connection, FAULT_BROKEN, data + position, size - position)
            break
        if state == PARSE_NEED_MORE:
            frame_bytes[0] = operation.frame_bytes
            break
        take_operation(engine, connection, &operation)
        position += operation.frame_bytes
    if engine.ledger.fault != FAULT_NONE and engine.fault_text[0] == 0:
        engine.fault_connection = <uint32_t>(connection - engine.connections)
    return position


cdef void keep_tail(
    engine_t *engine, connection_t *connection, const char *data, size_t size, size_t frame_bytes
) noexcept nogil:
    """Keep an incomplete frame until the rest of it arrives."""
    cdef size_t needed = frame_bytes if frame_bytes > HEADROOM_BYTES else 0
    cdef size_t capacity = needed if needed else size
    cdef char *grown
    if needed and not engine.ledger.any_size and needed > engine.ledger.payload_bytes + 2 * HEADROOM_BYTES:
        # A wrong size must not make us allocate it.
        ledger_fail(&engine.ledger, FAULT_SIZE, engine.ledger.payload_bytes, <int64_t>needed)
        return
    if connection.tail_capacity < capacity:
        grown = <char *>realloc(connection.tail, capacity)
        if grown == NULL:
            engine_fail(engine, connection, FAULT_MEMORY, b"tail", 4)
            return
        connection.tail = grown
        connection.tail_capacity = capacity
    memmove(connection.tail, data, size)
    connection.tail_bytes = size
    connection.tail_needed = needed


cdef void take_bytes(
    engine_t *engine, connection_t *connection, const char *data, size_t size
) noexcept nogil:
    """Handle bytes that begin at a frame boundary."""
    cdef size_t frame_bytes = 0
    cdef uint64_t delivered = engine.ledger.delivered
    cdef size_t taken = take_all(engine, connection, data, size, &frame_bytes)
    connection.tail_bytes = 0
    connection.tail_needed = 0
    if taken < size and engine.ledger.fault == FAULT_NONE:
        keep_tail(engine, connection, data + taken, size - taken, frame_bytes)
    if engine.ledger.delivered != delivered:
        if engine.first_ns == 0:
            engine.first_ns = engine.ledger.now_ns
        engine.last_ns = engine.ledger.now_ns
        board_set_delivered(engine.board, engine.row, engine.ledger.delivered)


cdef void read_large(engine_t *engine, connection_t *connection) noexcept nogil:
    """Read on in a frame larger than the headroom: it ends in the tail, what follows it in the buffer."""
    cdef char *rest = engine.buffer + HEADROOM_BYTES
    cdef size_t missing = connection.tail_needed - connection.tail_bytes
    cdef ssize_t received = receive_two(
        connection.fd, connection.tail + connection.tail_bytes, missing, rest, READ_BYTES
    )
    if note_received(engine, connection, received) <= 0:
        return
    if <size_t>received < missing:
        connection.tail_bytes += <size_t>received
        return
    take_bytes(engine, connection, connection.tail, connection.tail_needed)
    if <size_t>received > missing and engine.ledger.fault == FAULT_NONE:
        take_bytes(engine, connection, rest, <size_t>received - missing)


cdef ssize_t note_received(engine_t *engine, connection_t *connection, ssize_t received) noexcept nogil:
    """Turn the result of a read into a fault where it is one; return it."""
    if received == 0:
        engine_fail(engine, connection, FAULT_CLOSED, b"", 0)
    elif received < 0 and errno != EAGAIN and errno != EINTR:
        engine_fail(engine, connection, FAULT_ERRNO, b"recv", 4)
    engine.ledger.now_ns = monotonic_ns()
    return received


cdef void read_connection(engine_t *engine, connection_t *connection) noexcept nogil:
    cdef char *start = engine.buffer + HEADROOM_BYTES
    cdef size_t tail_bytes = connection.tail_bytes
    cdef ssize_t received
    if connection.tail_needed:
        read_large(engine, connection)
        return
    received = recv(connection.fd, start, READ_BYTES, MSG_DONTWAIT)
    if note_received(engine, connection, received) <= 0:
        return
    if tail_bytes:
        memcpy(start - tail_bytes, connection.tail, tail_bytes)
    take_bytes(engine, connection, start - tail_bytes, <size_t>received + tail_bytes)


cdef void engine_feed(
    engine_t *engine, connection_t *connection, const char *data, size_t size
) noexcept nogil:
    """Handle bytes as if they had been read from the connection."""
    cdef char *start = engine.buffer + HEADROOM_BYTES
    cdef size_t piece
    engine.ledger.now_ns = monotonic_ns()
    while size and engine.ledger.fault == FAULT_NONE:
        if connection.tail_needed:
            piece = connection.tail_needed - connection.tail_bytes
            piece = piece if piece < size else size
            memcpy(connection.tail + connection.tail_bytes, data, piece)
            connection.tail_bytes += piece
            if connection.tail_bytes == connection.tail_needed:
                take_bytes(engine, connection, connection.tail, connection.tail_needed)
        else:
            piece = READ_BYTES if size > READ_BYTES else size
            memcpy(start, data, piece)
            memcpy(start - connection.tail_bytes, connection.tail, connection.tail_bytes)
            take_bytes(engine, connection, start - connection.tail_bytes, piece + connection.tail_bytes)
        data += piece
        size -= piece


# ---- what is sent


cdef void wait_at_most(engine_t *engine, uint64_t wait_ns) noexcept nogil:
    if wait_ns < engine.wait_ns:
        engine.wait_ns = wait_ns


cdef void wait_until_due(
    engine_t *engine, const schedule_t *schedule, uint64_t sent, uint64_t now_ns
) noexcept nogil:
    cdef uint64_t due_ns = schedule_due_ns(schedule, sent)
    wait_at_most(engine, due_ns - now_ns if due_ns > now_ns else 0)


cdef size_t next_frames(engine_t *engine, connection_t *connection, uint64_t now_ns) noexcept nogil:
    """Return how many frames a publisher sends now; where it is none, the loop learns how long to wait."""
    cdef uint64_t published = connection.publisher.published
    cdef uint64_t due = schedule_due_count(&connection.publisher.schedule, published, now_ns)
    cdef uint64_t frames = connection.publisher.limit - published
    cdef uint64_t allowed
    if due == 0:
        wait_until_due(engine, &connection.publisher.schedule, published, now_ns)
        return 0
    allowed = board_allowance(engine.board)
    if allowed == 0:
        wait_at_most(engine, WAIT_AHEAD_NS)
        return 0
    frames = due if due < frames else frames
    frames = allowed if allowed < frames else frames
    return <size_t>frames if frames < connection.publisher.frames_max else connection.publisher.frames_max


cdef void end_publisher(engine_t *engine, connection_t *connection) noexcept nogil:
    """Ask for a PONG: it comes after the server has taken in everything that was published before."""
    connection.stage = STAGE_PINGED
    queue_bytes(engine, connection, b"PING\r\n", 6)
    flush_outbox(engine, connection)


cdef void pump_publisher(engine_t *engine, connection_t *connection, uint64_t now_ns) noexcept nogil:
    """Write one block, or what is left of the last one."""
    cdef size_t frames
    if connection.is_blocked or connection.stage == STAGE_DONE:
        return
    if connection.publisher.pending_start == connection.publisher.pending_end:
        flush_outbox(engine, connection)
        if connection.stage != STAGE_ACTIVE or connection.is_blocked:
            return
        if connection.publisher.published == connection.publisher.limit or (
            engine.board.stop_ns and now_ns >= engine.board.stop_ns
        ):
            end_publisher(engine, connection)
            return
        frames = next_frames(engine, connection, now_ns)
        if frames == 0:
            return
        publisher_stamp(&connection.publisher, &engine.ledger, frames, now_ns)
        engine.published += frames
        board_set_published(engine.board, engine.row, engine.published)
    connection.publisher.pending_start += write_some(
        engine,
        connection,
        connection.publisher.block + connection.publisher.pending_start,
        connection.publisher.pending_end - connection.publisher.pending_start,
    )
    if not connection.is_blocked:
        wait_at_most(engine, 0)


cdef void pump_requester(engine_t *engine, connection_t *connection, uint64_t now_ns) noexcept nogil:
    cdef int added
    if connection.stage == STAGE_DONE:
        return
    if engine.board.stop_ns and now_ns >= engine.board.stop_ns:
        connection.requester.limit = connection.requester.issued
    added = requester_fill(&connection.requester, &engine.ledger, &connection.outbox, now_ns)
    if added < 0:
        engine_fail(engine, connection, FAULT_MEMORY, b"outbox", 6)
        return
    if added:
        engine.published += <uint64_t>added
        board_set_published(engine.board, engine.row, engine.published)
    flush_outbox(engine, connection)
    if connection.requester.completed == connection.requester.limit:
        finish_sender(engine, connection)
    elif engine.is_paced and connection.requester.in_flight < connection.requester.window:
        wait_until_due(engine, &connection.requester.schedule, connection.requester.issued, now_ns)


cdef void pump_senders(engine_t *engine, bint is_first_round) noexcept nogil:
    """Let every sender go on. Unpaced requesters go on when a reply arrives and need this only once."""
    cdef connection_t *connection
    cdef uint32_t index
    cdef uint64_t now_ns = monotonic_ns()
    engine.wait_ns = WAIT_LONGEST_NS
    if engine.senders_left == 0:
        return
    for index in range(engine.connection_count):
        connection = &engine.connections[index]
        if connection.role == ROLE_PUBLISHER:
            pump_publisher(engine, connection, now_ns)
        elif connection.role == ROLE_REQUESTER and (engine.is_paced or is_first_round):
            pump_requester(engine, connection, now_ns)


# ---- the loop


cdef void handle_event(engine_t *engine, const epoll_event *event) noexcept nogil:
    cdef connection_t *connection = &engine.connections[event_index(event)]
    if event.events & EPOLLOUT:
        set_blocked(engine, connection, False)
        flush_outbox(engine, connection)
    # Errors and hang-ups too are found by reading.
    if event.events & ~<uint32_t>EPOLLOUT:
        read_connection(engine, connection)
    if engine.ledger.fault != FAULT_NONE:
        return
    if connection.role == ROLE_REQUESTER:
        pump_requester(engine, connection, monotonic_ns())
    elif connection.role != ROLE_PUBLISHER:
        flush_outbox(engine, connection)


cdef void wait_and_handle(engine_t *engine) noexcept nogil:
    cdef epoll_event events[EVENTS_MAX]
    cdef int index, count = wait_events(engine.epoll_fd, events, EVENTS_MAX, engine.wait_ns)
    for index in range(count):
        handle_event(engine, &events[index])
        if engine.ledger.fault != FAULT_NONE:
            return


cdef bint work_is_over(engine_t *engine) noexcept nogil:
    """Say whether nothing more is to come for this engine, except what should not come."""
    cdef board_t *board = engine.board
    if engine.senders_left:
        return False
    if engine.subscriber_count == 0 and engine.responder_count == 0:
        return True
    if board_has_senders(board):
        return False
    if engine.subscriber_count == 0:
        return True
    if board.delivered_target:
        if board.stop_ns and monotonic_ns() >= board.stop_ns:
            return True
        return board_delivered(board) >= board.delivered_target
    return board_delivered(board) >= board_published(board) * board.copies


cdef void begin_settling(engine_t *engine) noexcept nogil:
    """Send a last PING on each subscription: whatever message still comes before its PONG is one too many."""
    cdef connection_t *connection
    cdef uint32_t index
    engine.is_settling = True
    for index in range(engine.connection_count):
        connection = &engine.connections[index]
        if connection.role == ROLE_SUBSCRIBER:
            connection.stage = STAGE_PINGED
            engine.settling += 1
            queue_bytes(engine, connection, b"PING\r\n", 6)
            flush_outbox(engine, connection)


cdef void start_schedules(engine_t *engine) noexcept nogil:
    cdef uint32_t index
    for index in range(engine.connection_count):
        engine.connections[index].publisher.schedule.first_ns += engine.board.start_ns
        engine.connections[index].requester.schedule.first_ns += engine.board.start_ns


cdef void check_idle(
    engine_t *engine, uint64_t *checked_ns, uint64_t *moved_ns, uint64_t *total
) noexcept nogil:
    """Fail when no engine of the board has sent or received anything for board.idle_ns."""
    cdef uint64_t now_ns = monotonic_ns(), total_now
    if now_ns - checked_ns[0] < IDLE_CHECK_INTERVAL_NS:
        return
    checked_ns[0] = now_ns
    total_now = board_published(engine.board) + board_delivered(engine.board)
    if total_now != total[0]:
        total[0] = total_now
        moved_ns[0] = now_ns
    elif now_ns - moved_ns[0] > engine.board.idle_ns:
        ledger_fail(
            &engine.ledger,
            FAULT_IDLE,
            <int64_t>board_published(engine.board),
            <int64_t>board_delivered(engine.board),
        )


cdef void engine_run(engine_t *engine) noexcept nogil:
    """Run until the work is over, a fault, or a stopped board; on a fault the board is stopped for all."""
    cdef uint64_t checked_ns = monotonic_ns(), moved_ns = checked_ns, total = 0
    cdef bint is_first_round = True
    # Sleeps of this thread end on time, not within the usual 50 us after it: paced runs need that.
    prctl(PR_SET_TIMERSLACK, 1)
    start_schedules(engine)
    while engine.ledger.fault == FAULT_NONE and not board_is_stopped(engine.board):
        pump_senders(engine, is_first_round)
        is_first_round = False
        if engine.is_settling:
            if engine.settling == 0:
                return
        elif work_is_over(engine):
            if engine.board.delivered_target or engine.subscriber_count == 0:
                return
            begin_settling(engine)
        elif engine.senders_left == 0:
            wait_at_most(engine, WAIT_ENDING_NS)
        if engine.ledger.fault == FAULT_NONE:
            wait_and_handle(engine)
            check_idle(engine, &checked_ns, &moved_ns, &total)
    if engine.ledger.fault != FAULT_NONE:
        board_stop(engine.board)


cdef void connection_free(connection_t *connection) noexcept nogil:
    """Free what the connection owns; its socket is not ours."""
    outbox_free(&connection.outbox)
    free(connection.tail)
    free(connection.subject)
    free(connection.subscriber.sequence_next)
    free(connection.publisher.block)
    free(connection.requester.frame)
    free(connection.requester.slots)
    memset(connection, 0, sizeof(connection_t))
