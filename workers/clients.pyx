# cython: language_level=3, embedsignature=True, wraparound=False
"""Clients: from the bytes that a socket delivers to what they ask for.

A block is read into the arena that all clients share, walked operation by operation, and only an unfinished tail is
kept per connection (Conn.partial). When the length of an unfinished message is known its rest is read straight behind
it, so that a large payload is copied once at most.

What needs a decision (CONNECT) is asked of the policy object, see sessions.py; everything that happens per message is
here. A client is held back (paused) with the rest of its bytes when a ring to another worker is full.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from workers.errors import ProtocolError
from workers.model cimport (
    CLOSE_AUTH_FAILURE,
    CLOSE_CLIENT,
    CLOSE_MAX_CONTROL_LINE,
    CLOSE_MAX_PAYLOAD,
    CLOSE_PARSE_ERROR,
    CLOSE_PROTOCOL,
    CLOSE_READ_ERROR,
    CONN_AUTH_REQUIRED,
    CONN_CHECKING,
    CONN_CLOSING,
    CONN_CONNECTED,
    CONN_FLUSH_CLOSE,
    CONN_HEADERS,
    CONN_HUNG_UP,
    CONN_NO_RESPONDERS,
    CONN_OK_DUE,
    CONN_OPTIONS,
    CONN_PAUSED,
    CONN_PEDANTIC,
    CONN_PONG_SENT,
    CONN_PROTOCOL_1,
    CONN_READY,
    CONN_STALL,
    CONN_STALLED,
    CONN_UNPARSED,
    CONN_VERBOSE,
    CONN_WAITING,
    CloseReason,
    Conn,
    Message,
    Plane,
    Route,
    Sub,
)
from workers.delivery cimport deliver, deliver_no_responders
from workers.octets cimport OCTETS_SLACK, must_calloc, must_malloc, must_realloc, same_bytes
from workers.output cimport conn_close, out_append
from workers.parser cimport (
    OP_CONNECT,
    OP_ERR,
    OP_INFO,
    OP_PING,
    OP_PONG,
    OP_PUB,
    OP_SUB,
    OP_UNSUB,
    PARSE_ARGUMENTS,
    PARSE_CONTROL_LINE,
    PARSE_DONE,
    PARSE_MORE,
    PARSE_PAYLOAD,
    Op,
    ParseLimits,
    ParseResult,
    Span,
    parse_op,
)
from workers.peers cimport peers_take_control
from workers.replies cimport fail_silently, fail_with, send_error, send_error_about, send_ok, send_pong
from workers.routes cimport route_of
from workers.sublist cimport SUBJECT_INVALID, SUBJECT_LITERAL, subject_kind, subject_tokens
from workers.subscriptions cimport sub_find, subscribe, unsubscribe, unsubscribe_all
from workers.timers cimport timer_connected, timer_remove, timer_start


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    enum:
        MSG_DONTWAIT
    ssize_t recv(int fd, void* data, size_t size, int flags)
    ssize_t recvmsg(int fd, msghdr* message, int flags)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLL_CTL_DEL
    struct epoll_event:
        pass
    int epoll_ctl(int epoll_fd, int operation, int fd, epoll_event* event)


cdef enum:
    STALL_NS = 5000000             # how long a publisher waits that fills a slow consumer


# ---- life ------------------------------------------------------------------------------------------------------

cdef Conn* conn_open(Plane* plane, int fd, uint64_t client_id, uint32_t flags) noexcept nogil:
    """Make a connection of a connected socket, which then belongs to it."""
    cdef Conn* conn = <Conn*>must_calloc(1, sizeof(Conn))
    conn.fd = fd
    conn.client_id = client_id
    conn.flags = flags
    conn.started_ns = conn.last_input_ns = plane.now_ns
    timer_start(plane, conn)
    plane.counters.accepted_total += 1
    plane.counters.connections += 1
    return conn


cdef void conn_free(Plane* plane, Conn* conn) noexcept nogil:
    """End everything of a closed connection; no list but the wheel holds it any more and its output is gone."""
    unsubscribe_all(plane, conn)
    timer_remove(plane, conn)
    free(conn.partial)
    # close() alone would leave the socket in the epoll set while the supervisor still holds its copy of it, and an
    # event would then name freed memory.
    epoll_ctl(plane.epoll_fd, EPOLL_CTL_DEL, conn.fd, NULL)
    close(conn.fd)
    plane.counters.connections -= 1
    plane.counters.closed_total += 1
    free(conn)


cdef void conn_ready(Plane* plane, Conn* conn) noexcept nogil:
    """Have the connection read in this round."""
    if conn.flags & (CONN_READY | CONN_PAUSED | CONN_CLOSING):
        return
    conn.flags |= CONN_READY
    conn.next_ready = NULL
    if plane.ready_tail is NULL:
        plane.ready_head = conn
    else:
        plane.ready_tail.next_ready = conn
    plane.ready_tail = conn


cdef void hold_back(Plane* plane, Conn* conn) noexcept nogil:
    """Pause a client until no peer has a backlog."""
    conn.flags |= CONN_PAUSED | CONN_WAITING
    conn.next_waiting = plane.waiting
    plane.waiting = conn


cdef void stall(Plane* plane, Conn* conn) noexcept nogil:
    """Pause a publisher for a moment, because a subscriber is close to its limit."""
    conn.flags &= ~<uint32_t>CONN_STALL
    if conn.flags & CONN_PAUSED:
        return
    conn.flags |= CONN_PAUSED | CONN_STALLED
    conn.resume_ns = plane.now_ns + STALL_NS
    conn.next_stalled = plane.stalled
    plane.stalled = conn
    plane.counters.stalls += 1


cdef void conn_resume(Plane* plane, Conn* conn) noexcept nogil:
    """End a pause: what was promised is answered and the connection is read on, unless its CONNECT is undecided."""
    conn.flags &= ~<uint32_t>(CONN_WAITING | CONN_STALLED)
    if conn.flags & CONN_CHECKING:
        return
    conn.flags &= ~<uint32_t>CONN_PAUSED
    if conn.flags & CONN_OK_DUE:
        conn.flags &= ~<uint32_t>CONN_OK_DUE
        send_ok(plane, conn)
    conn_ready(plane, conn)


# ---- operations ------------------------------------------------------------------------------------------------

cdef void check_publish_subject(Plane* plane, Conn* conn, Op* op) noexcept nogil:
    """Tell a pedantic client that it publishes to a subject with wildcards; the message goes on all the same."""
    if conn.flags & CONN_PEDANTIC and subject_kind(op.subject.text, op.subject.length) != SUBJECT_LITERAL:
        send_error(plane, conn, b"Invalid Publish Subject")


cdef void publish(Plane* plane, Conn* conn, Op* op, int may_borrow) noexcept nogil:
    cdef Message message
    cdef Route* route
    conn.in_msgs += 1
    conn.in_bytes += <uint64_t>op.size
    if conn.flags & (CONN_VERBOSE | CONN_PEDANTIC):
        check_publish_subject(plane, conn, op)
        if conn.flags & CONN_VERBOSE:
            send_ok(plane, conn)
    route = conn.memo
    if not (conn.memo_epoch == plane.route_epoch and route.subject_length == op.subject.length
            and same_bytes(route.subject, op.subject.text, op.subject.length)):
        route = route_of(plane, conn.account, op.subject.text, op.subject.length)
        conn.memo = route
        conn.memo_epoch = plane.route_epoch
    if route.is_empty and not (op.reply.length and conn.flags & CONN_NO_RESPONDERS):
        return
    message.subject = op.subject.text
    message.subject_length = op.subject.length
    message.shown_length = 0
    message.reply = op.reply.text
    message.reply_length = op.reply.length
    message.tail = op.tail
    message.tail_length = <uint32_t>op.tail_length
    message.size = <uint32_t>op.size
    message.header_size = <int32_t>op.header_size
    message.account = conn.account
    message.hops = 0
    message.may_borrow = may_borrow
    message.from_peer = 0
    message.publisher = conn
    if deliver(plane, &message, route) == 0 and op.reply.length and conn.flags & CONN_NO_RESPONDERS:
        deliver_no_responders(plane, &message)


cdef void handle_sub(Plane* plane, Conn* conn, Op* op) noexcept nogil:
    cdef uint64_t limit = plane.limits.max_subscriptions
    if op.queue.length == 5 and memcmp(op.queue.text, b"_sys_", 5) == 0:
        send_error_about(plane, conn, b"Permissions Violation for Subscription to \"", op.subject.text,
                         op.subject.length, b"\" using queue \"_sys_\"")
        return
    if plane.limits.max_sub_tokens and subject_tokens(op.subject.text, op.subject.length) > plane.limits.max_sub_tokens:
        send_error_about(plane, conn, b"Permissions Violation for Subscription to \"", op.subject.text,
                         op.subject.length, b"\", too many tokens")
        return
    if limit and conn.sid_count >= limit:
        send_error(plane, conn, b"maximum subscriptions exceeded")
        return
    if sub_find(plane, conn, op.sid.text, op.sid.length) is NULL:
        if subject_kind(op.subject.text, op.subject.length) == SUBJECT_INVALID:
            send_error(plane, conn, b"Invalid Subject")
            return
        subscribe(plane, conn, op.subject.text, op.subject.length, op.queue.text, op.queue.length, op.sid.text,
                  op.sid.length)
    acknowledge(plane, conn)


cdef void handle_unsub(Plane* plane, Conn* conn, Op* op) noexcept nogil:
    cdef Sub* sub = sub_find(plane, conn, op.sid.text, op.sid.length)
    if sub is not NULL:
        if op.size > 0 and <uint64_t>op.size > sub.delivered:
            sub.max_deliveries = <uint64_t>op.size
        else:
            unsubscribe(plane, sub)
    acknowledge(plane, conn)


cdef void acknowledge(Plane* plane, Conn* conn) noexcept nogil:
    """Send +OK to a verbose client, but not before every worker can know of its interest."""
    if not conn.flags & CONN_VERBOSE:
        return
    if plane.backlogged:
        conn.flags |= CONN_OK_DUE
    else:
        send_ok(plane, conn)


cdef bytes span_bytes(Span* span):
    return PyBytes_FromStringAndSize(<char*>span.text, span.length)


cdef void handle_connect(Plane* plane, Conn* conn, Op* op) noexcept with gil:
    """Ask the policy; a second CONNECT replaces the options and drops the subscriptions."""
    try:
        if conn.flags & CONN_CONNECTED:
            unsubscribe_all(plane, conn)
        options = (<object>plane.policy).connect(conn.client_id, span_bytes(&op.text))
        if options is None:
            conn.flags |= CONN_PAUSED | CONN_CHECKING
        else:
            accept_connect(plane, conn, options)
    except ProtocolError as error:
        refuse(plane, conn, error)
    except BaseException as error:  # noqa: BLE001 - the boundary of a connection
        (<object>plane.policy).report(conn.client_id, error)
        conn_close(plane, conn, CLOSE_PROTOCOL)


cdef void accept_connect(Plane* plane, Conn* conn, uint32_t options) noexcept nogil:
    """Take over the options of an accepted CONNECT: ConnFlag bits."""
    conn.flags &= ~<uint32_t>CONN_OPTIONS
    conn.flags |= options | CONN_CONNECTED
    timer_connected(plane, conn)
    if conn.flags & CONN_VERBOSE:
        send_ok(plane, conn)


cdef int refuse(Plane* plane, Conn* conn, error) except -1:
    """Answer a ProtocolError as it says."""
    cdef bytes text = error.wire_text.encode()
    cdef CloseReason reason = error.close_reason
    if reason == CLOSE_AUTH_FAILURE:
        plane.counters.auth_errors += 1
    if text:
        fail_with(plane, conn, text, reason)
    else:
        fail_silently(plane, conn, reason)
    return 0


cdef void client_allow(Plane* plane, Conn* conn, uint32_t options) noexcept nogil:
    """Accept a CONNECT that had to wait, and go on with what the client sent after it."""
    conn.flags &= ~<uint32_t>CONN_CHECKING
    accept_connect(plane, conn, options)
    if not conn.flags & (CONN_WAITING | CONN_STALLED):     # else it is resumed when that is over
        conn_resume(plane, conn)


cdef int client_refuse(Plane* plane, Conn* conn, error) except -1:
    """Refuse a CONNECT that had to wait."""
    conn.flags &= ~<uint32_t>(CONN_CHECKING | CONN_PAUSED)
    return refuse(plane, conn, error)


cdef void handle_ping(Plane* plane, Conn* conn) noexcept nogil:
    send_pong(plane, conn)
    if conn.flags & CONN_CONNECTED and not conn.flags & CONN_PONG_SENT:
        conn.flags |= CONN_PONG_SENT
        if conn.flags & CONN_PROTOCOL_1:
            send_connect_info(plane, conn)


cdef void send_connect_info(Plane* plane, Conn* conn) noexcept with gil:
    cdef bytes info
    try:
        info = (<object>plane.policy).connect_info(conn.client_id)
        out_append(plane, conn, <const uint8_t*>info, <size_t>len(info))
    except BaseException as error:  # noqa: BLE001 - the boundary of a connection
        (<object>plane.policy).report(conn.client_id, error)


cdef void handle_pong(Plane* plane, Conn* conn) noexcept nogil:
    conn.pings_out = 0
    if conn.ping_sent_ns:
        conn.rtt_ns = plane.now_ns - conn.ping_sent_ns


cdef void tell_client_error(Plane* plane, Conn* conn, Op* op) noexcept with gil:
    try:
        (<object>plane.policy).client_error(conn.client_id, span_bytes(&op.text))
    except BaseException as error:  # noqa: BLE001 - the boundary of a connection
        (<object>plane.policy).report(conn.client_id, error)


cdef void handle_info(Plane* plane, Conn* conn, Op* op) noexcept with gil:
    """Take no notice of a client's INFO, except that it must be JSON."""
    try:
        (<object>plane.policy).client_info(span_bytes(&op.text))
    except ProtocolError as error:
        refuse(plane, conn, error)
    except BaseException as error:  # noqa: BLE001 - the boundary of a connection
        (<object>plane.policy).report(conn.client_id, error)


cdef void trace(Plane* plane, Conn* conn, uint8_t* start, Op* op) noexcept with gil:
    cdef uint64_t length = op.consumed
    try:
        if op.kind == OP_PUB:
            length -= <uint64_t>op.size + 2
        (<object>plane.policy).trace(conn.client_id, PyBytes_FromStringAndSize(<char*>start, <Py_ssize_t>length))
    except BaseException as error:  # noqa: BLE001 - the boundary of a connection
        (<object>plane.policy).report(conn.client_id, error)


cdef inline void handle(Plane* plane, Conn* conn, Op* op, int may_borrow) noexcept nogil:
    if op.kind == OP_PUB:
        publish(plane, conn, op, may_borrow)
    elif op.kind == OP_SUB:
        handle_sub(plane, conn, op)
    elif op.kind == OP_UNSUB:
        handle_unsub(plane, conn, op)
    elif op.kind == OP_PING:
        handle_ping(plane, conn)
    elif op.kind == OP_PONG:
        handle_pong(plane, conn)
    elif op.kind == OP_CONNECT:
        handle_connect(plane, conn, op)
    elif op.kind == OP_ERR:
        tell_client_error(plane, conn, op)
        fail_silently(plane, conn, CLOSE_CLIENT)
    elif op.kind == OP_INFO:
        handle_info(plane, conn, op)


cdef void parse_failed(Plane* plane, Conn* conn, ParseResult result) noexcept nogil:
    plane.counters.protocol_errors += 1
    if result == PARSE_PAYLOAD:
        fail_with(plane, conn, b"Maximum Payload Violation", CLOSE_MAX_PAYLOAD)
    elif result == PARSE_CONTROL_LINE:
        fail_with(plane, conn, b"maximum control line exceeded", CLOSE_MAX_CONTROL_LINE)
    elif result == PARSE_ARGUMENTS:
        fail_silently(plane, conn, CLOSE_PROTOCOL)
    else:
        fail_with(plane, conn, b"Unknown Protocol Operation", CLOSE_PARSE_ERROR)


# ---- input -----------------------------------------------------------------------------------------------------

cdef uint8_t* parse_block(Plane* plane, Conn* conn, uint8_t* at, uint8_t** end, uint64_t* need,
                          int may_borrow) noexcept nogil:
    """Handle every whole operation from `at` on.

    Returns:
        The first byte not handled. `need` is the length of the unfinished operation there, 0 while unknown; `end` is
        moved to where its bytes to keep end. The connection may be closing or paused.
    """
    cdef ParseLimits limits
    cdef Op op
    cdef ParseResult result
    cdef uint64_t in_msgs = conn.in_msgs, in_bytes = conn.in_bytes
    cdef int heard = 0
    limits.max_control_line = plane.limits.max_control_line
    limits.max_payload = plane.limits.max_payload
    need[0] = 0
    while at < end[0] and not conn.flags & (CONN_CLOSING | CONN_FLUSH_CLOSE | CONN_PAUSED):
        if conn.flags & CONN_AUTH_REQUIRED and (at[0] | 32) != c"c":
            plane.counters.auth_errors += 1
            fail_with(plane, conn, b"Authorization Violation", CLOSE_AUTH_FAILURE)
            break
        limits.headers = conn.flags & CONN_HEADERS
        result = parse_op(at, end[0], &limits, plane.scratch, &op)
        if result == PARSE_MORE:
            need[0] = op.need
            if op.consumed:
                end[0] = at + op.consumed      # the rest of this line means nothing
            break
        if result != PARSE_DONE:
            if op.need:                        # a payload that does not end with CR LF
                check_publish_subject(plane, conn, &op)
            parse_failed(plane, conn, result)
            break
        if plane.trace:
            trace(plane, conn, at, &op)
        at += op.consumed
        heard |= op.kind != OP_PONG
        handle(plane, conn, &op, may_borrow)
        if plane.backlogged:
            plane.backlogged = 0
            hold_back(plane, conn)
    plane.counters.in_msgs += conn.in_msgs - in_msgs
    plane.counters.in_bytes += conn.in_bytes - in_bytes
    if heard:
        conn.last_input_ns = plane.now_ns
    if conn.flags & CONN_STALL:
        stall(plane, conn)
    return at


cdef void retire(Plane* plane, void* memory) noexcept nogil:
    """Free memory when this round's output, which may refer to it, is written."""
    if plane.retired_count == plane.retired_capacity:
        plane.retired_capacity = 2 * plane.retired_capacity if plane.retired_capacity else 16
        plane.retired = <void**>must_realloc(plane.retired, plane.retired_capacity * sizeof(void*))
    plane.retired[plane.retired_count] = memory
    plane.retired_count += 1


cdef void keep_rest(Plane* plane, Conn* conn, uint8_t* at, uint8_t* end, uint64_t need) noexcept nogil:
    """Keep the bytes that could not be handled yet, with room for the whole message if its length is known."""
    cdef uint64_t length = <uint64_t>(end - at)
    cdef uint64_t room = need if need > length else length
    cdef uint8_t* old = conn.partial
    conn.partial = NULL
    conn.partial_length = 0
    conn.partial_offset = 0
    if length and not conn.flags & (CONN_CLOSING | CONN_FLUSH_CLOSE):
        conn.partial = <uint8_t*>must_malloc(room + OCTETS_SLACK)
        memcpy(conn.partial, at, length)
        conn.partial_length = <uint32_t>length
        conn.partial_need = <uint32_t>need
        if conn.flags & CONN_PAUSED:
            conn.flags |= CONN_UNPARSED
            conn.partial_need = 0
    if old is not NULL:
        retire(plane, old)


cdef void parse_kept(Plane* plane, Conn* conn) noexcept nogil:
    """Handle the operations that a pause left behind."""
    cdef uint64_t need
    cdef uint8_t* end = conn.partial + conn.partial_offset + conn.partial_length
    cdef uint8_t* at
    conn.flags &= ~<uint32_t>CONN_UNPARSED
    peers_take_control(plane)
    at = parse_block(plane, conn, conn.partial + conn.partial_offset, &end, &need, 1)
    if conn.flags & CONN_PAUSED and at < end:
        conn.flags |= CONN_UNPARSED
        conn.partial_offset = <uint32_t>(at - conn.partial)
        conn.partial_length = <uint32_t>(end - at)
    else:
        keep_rest(plane, conn, at, end, need)


cdef ssize_t receive(Plane* plane, Conn* conn, uint8_t* block, size_t size) noexcept nogil:
    """Read behind the partial message first, if there is one of known length, then into the block."""
    cdef iovec parts[2]
    cdef msghdr header
    cdef ssize_t received
    if conn.partial_length:
        memset(&header, 0, sizeof(header))
        parts[0].iov_base = conn.partial + conn.partial_length
        parts[0].iov_len = conn.partial_need - conn.partial_length
        parts[1].iov_base = block
        parts[1].iov_len = size
        header.msg_iov = parts
        header.msg_iovlen = 2
    while True:
        if conn.partial_length:
            received = recvmsg(conn.fd, &header, MSG_DONTWAIT)
        else:
            received = recv(conn.fd, block, size, MSG_DONTWAIT)
        if received >= 0 or errno != EINTR:
            return received


cdef int take_into_partial(Plane* plane, Conn* conn, size_t* received) noexcept nogil:
    """Give the received bytes to the partial message first and handle it when it is whole; return 0 if it is not."""
    cdef size_t missing = conn.partial_need - conn.partial_length
    cdef uint64_t need
    cdef uint8_t* end
    if received[0] < missing:
        conn.partial_length += <uint32_t>received[0]
        return 0
    received[0] -= missing
    end = conn.partial + conn.partial_need
    conn.partial_length = 0
    parse_block(plane, conn, conn.partial, &end, &need, 1)
    keep_rest(plane, conn, end, end, 0)
    return 1


cdef void conn_read(Plane* plane, Conn* conn) noexcept nogil:
    """Read one block and handle it; the connection stays ready if its socket may hold more.

    Plane.arena has room for Plane.read_bytes, at most READ_BYTES, and a control line when this is called.
    """
    cdef uint8_t* block = plane.arena + plane.arena_used
    cdef size_t front = 0, received, asked
    cdef ssize_t result
    cdef uint64_t need
    cdef uint8_t* at
    cdef uint8_t* end
    conn.flags &= ~<uint32_t>CONN_READY
    if conn.flags & CONN_UNPARSED:
        parse_kept(plane, conn)
        if conn.flags & (CONN_PAUSED | CONN_CLOSING | CONN_FLUSH_CLOSE):
            return
    if conn.partial_length and not conn.partial_need:
        front = conn.partial_length
        memcpy(block, conn.partial, front)
        conn.partial_length = 0
        free(conn.partial)
        conn.partial = NULL
    asked = plane.read_bytes
    if conn.partial_length:
        asked += conn.partial_need - conn.partial_length
    result = receive(plane, conn, block + front, plane.read_bytes)
    if result <= 0:
        if result < 0 and errno == EAGAIN:
            if front:
                keep_rest(plane, conn, block, block + front, 0)
        else:
            conn_close(plane, conn, CLOSE_CLIENT if result == 0 else CLOSE_READ_ERROR)
        return
    received = <size_t>result
    # A short read has emptied the socket: the next edge tells when there is more.
    if received == asked or conn.flags & CONN_HUNG_UP:
        conn_ready(plane, conn)
    peers_take_control(plane)
    if conn.partial_length and not take_into_partial(plane, conn, &received):
        return
    plane.arena_used += front + received + OCTETS_SLACK
    end = block + front + received
    at = parse_block(plane, conn, block, &end, &need, 1)
    if at < end:
        keep_rest(plane, conn, at, end, need)
