# cython: language_level=3, embedsignature=True, wraparound=False
"""Event rounds of the data plane.

All client sockets and the doorbell are in one epoll set, edge-triggered, whose descriptor is one reader of the worker's
event loop. So however many sockets are ready, Python is entered once, and pausing a client needs no system call.

A round: take events; look how far the data rings are filled, apply control frames, handle the data; read one block of
every ready socket; give this worker's own sinks their messages; publish to the peers; write every connection with
output once; free what was closed. The order is the causality rule of ARCHITECTURE.md: control frames are applied after
input was received and before it is handled, and published before output is written.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from shm.ring cimport ring_poll, ring_release

from workers.clients cimport READ_BYTES, ROUND_BYTES_MIN, conn_free, conn_read, conn_ready, conn_resume
from workers.delivery cimport deliver_from_peer
from workers.letters cimport letters_take
from workers.model cimport (
    CLOSE_SLOW_PENDING,
    CONN_BLOCKED,
    CONN_BORROWS,
    CONN_CLOSING,
    CONN_DIRTY,
    CONN_HUNG_UP,
    CONN_PAUSED,
    CONN_READY,
    PEER_DOWN,
    Conn,
    Peer,
    Plane,
)
from workers.output cimport conn_close, out_commit, out_discard, out_flush, out_own, out_pending
from workers.peers cimport clients_must_wait, peer_wake, peers_backlogged, peers_publish, peers_take_control
from workers.timers cimport timer_blocked


cdef extern from "<sched.h>" nogil:
    int sched_yield()


cdef enum:
    LINGER_MS = 1
    PEER_BYTES_MAX = 1 << 18       # handled of one peer's ring before it gets the space back
    # What is read becomes as much output for every subscriber. Measured with 8 subscribers: reading 256 KiB at once
    # cost 100 ns of kernel time per delivery, 128 KiB 50 ns, since the output then stays in the second-level cache.
    FAN_OUT = 3
    READ_BYTES_FEW = READ_BYTES >> 1
    # A processor that others want is not polled on: giving it away for a moment costs a turn of everybody else's, where
    # a thread that sleeps is woken before them. With 14 runnable threads on two processors one request at a time took
    # 1.3 to 2.1 ms (p50 of four runs each) with polling, 0.2 to 0.5 ms without.
    YIELD_NS_MAX = 100_000
    CROWDED_NS = 100_000_000       # until it is tried again

# Until when this process does not poll.
cdef int64_t crowded_until_ns = 0


cdef void read_clock(Plane* plane) noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    plane.now_ns = <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


# ---- one round -------------------------------------------------------------------------------------------------

cdef void note_events(Plane* plane, epoll_event* events, int count) noexcept nogil:
    """Note which sockets can be read and written."""
    cdef int i
    cdef uint32_t happened
    cdef Conn* conn
    for i in range(count):
        conn = <Conn*>events[i].data.ptr
        if conn is NULL:
            # The doorbell. Edge-triggered, every ring of it is an event, so it need not be read.
            continue
        if <Plane*>conn is plane:
            plane.link_waits = 1
            continue
        if <void*>conn is <void*>&plane.notified:
            plane.notified = 1
            continue
        happened = events[i].events
        if happened & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            conn.flags |= CONN_HUNG_UP
        if happened & EPOLLOUT and conn.flags & CONN_BLOCKED:
            conn.flags &= ~<uint32_t>CONN_BLOCKED
            out_commit(plane, conn, 0)
        if happened & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            conn_ready(plane, conn)


cdef void write_output(Plane* plane) noexcept nogil:
    """Write every connection with output once; afterwards nothing refers to the arena or to a ring."""
    cdef Conn* conn
    cdef uint32_t i
    while plane.dirty is not NULL:
        conn = plane.dirty
        plane.dirty = conn.next_dirty
        conn.flags &= ~<uint32_t>CONN_DIRTY
        if conn.flags & CONN_CLOSING:
            continue
        out_flush(plane, conn)
        if conn.flags & CONN_BORROWS:
            out_own(plane, conn)
        if conn.flags & CONN_BLOCKED:
            timer_blocked(plane, conn)
            if out_pending(conn) > plane.limits.max_pending:
                conn_close(plane, conn, CLOSE_SLOW_PENDING)
    for i in range(plane.retired_count):
        free(plane.retired[i])
    plane.retired_count = 0
    plane.arena_used = 0


cdef void release_rings(Plane* plane, uint64_t handled) noexcept nogil:
    """Give the space of handled frames back to the peers in `handled`."""
    cdef uint32_t i
    for i in range(plane.worker_count):
        if (handled >> i) & 1 and plane.peers[i].state != PEER_DOWN and ring_release(&plane.peers[i].data_in):
            peer_wake(plane, plane.peers[i])
    plane.ring_borrowed = 0


cdef uint64_t read_peers(Plane* plane) noexcept nogil:
    """Handle what other workers sent; return whose rings are to be released."""
    cdef uint32_t i
    cdef uint64_t handled = 0
    cdef Peer* peer
    for i in range(plane.worker_count):
        peer = plane.peers[i]
        if peer is not NULL and peer.state != PEER_DOWN:
            ring_poll(&peer.data_in)
    peers_take_control(plane)
    if plane.is_joining:
        return 0
    for i in range(plane.worker_count):
        peer = plane.peers[i]
        if peer is not NULL and peer.state != PEER_DOWN and deliver_from_peer(plane, peer, PEER_BYTES_MAX):
            handled |= <uint64_t>1 << i
    plane.backlogged = 0           # nobody to hold back: what is passed on is rare and small
    return handled


cdef void serve_sinks(Plane* plane) noexcept with gil:
    """Hand letters to their sinks; say when that is done, a watched descriptor is readable or the rings have room."""
    face = <object>plane.face
    try:
        if plane.notified:
            plane.notified = 0
            face.on_notified()
        if plane.has_room:
            plane.has_room = 0
            face.on_room()
        face.takes_letters = True
        while letters_take(plane):
            face.on_letters_taken()
    except BaseException as error:  # noqa: BLE001 - the boundary of a round
        face.policy.report(0, error)
    face.takes_letters = False
    face.dropped_sinks.clear()


cdef void finish(Plane* plane) noexcept nogil:
    """Do what the round's input asks of this worker itself, and write everything."""
    if plane.letter_count or plane.notified or plane.has_room:
        serve_sinks(plane)
        plane.backlogged = 0       # nobody to hold back: what was published answers what was read
    if plane.worker_count > 1:
        peers_publish(plane)
    write_output(plane)


cdef void read_clients(Plane* plane) noexcept nogil:
    """Read one block of every ready socket."""
    cdef Conn* conn = plane.ready_head
    cdef Conn* following
    plane.ready_head = plane.ready_tail = NULL
    while conn is not NULL:
        following = conn.next_ready
        if conn.flags & (CONN_PAUSED | CONN_CLOSING):
            conn.flags &= ~<uint32_t>CONN_READY
        else:
            if ARENA_BYTES - plane.arena_used < ROUND_BYTES_MIN + plane.limits.max_control_line:
                finish(plane)
            conn_read(plane, conn)
        conn = following


cdef void resume(Plane* plane) noexcept nogil:
    """Let clients, and this worker's deliveries, go on whose reason to wait is over."""
    cdef Conn* conn
    cdef Conn* following
    if plane.waiting is not NULL and not clients_must_wait(plane):
        conn = plane.waiting
        plane.waiting = NULL
        while conn is not NULL:
            following = conn.next_waiting
            conn_resume(plane, conn)
            conn = following
    if plane.wants_room and not peers_backlogged(plane):
        plane.wants_room = 0
        plane.has_room = 1
    conn = plane.stalled
    plane.stalled = NULL
    while conn is not NULL:
        following = conn.next_stalled
        if conn.resume_ns <= plane.now_ns:
            conn_resume(plane, conn)
        else:
            conn.next_stalled = plane.stalled
            plane.stalled = conn
        conn = following


cdef void tell_closed(Plane* plane, Conn* conn) noexcept with gil:
    policy = <object>plane.policy
    try:
        policy.closed(conn.client_id, conn.close_reason, stats_of(plane, conn))
    except BaseException as error:  # noqa: BLE001 - the boundary of a connection
        policy.report(conn.client_id, error)


cdef void drop_closing(Plane* plane) noexcept nogil:
    """Take closing connections out of the ready, waiting and stalled lists."""
    cdef Conn** link = &plane.ready_head
    plane.ready_tail = NULL
    while link[0] is not NULL:
        if link[0].flags & CONN_CLOSING:
            link[0] = link[0].next_ready
        else:
            plane.ready_tail = link[0]
            link = &link[0].next_ready
    link = &plane.waiting
    while link[0] is not NULL:
        if link[0].flags & CONN_CLOSING:
            link[0] = link[0].next_waiting
        else:
            link = &link[0].next_waiting
    link = &plane.stalled
    while link[0] is not NULL:
        if link[0].flags & CONN_CLOSING:
            link[0] = link[0].next_stalled
        else:
            link = &link[0].next_stalled


cdef void reap(Plane* plane) noexcept nogil:
    """Free the connections that were closed in this round."""
    cdef Conn* conn
    if plane.closing is NULL:
        return
    drop_closing(plane)
    while plane.closing is not NULL:
        conn = plane.closing
        plane.closing = conn.next_closing
        tell_closed(plane, conn)
        out_discard(plane, conn)
        conn_free(plane, conn)
    plane.backlogged = 0
    peers_publish(plane)


cdef int play_round(Plane* plane, epoll_event* events, int count) noexcept nogil:
    """Do one round, which begins with `count` events; return 1 if there is more to do at once."""
    cdef uint64_t handled
    read_clock(plane)
    plane.counters.rounds += 1
    note_events(plane, events, count)
    if plane.waiting is not NULL or plane.stalled is not NULL or plane.wants_room:
        resume(plane)
    handled = read_peers(plane) if plane.worker_count > 1 else 0
    plane.has_worked = count > 0 or handled > 0
    if handled and not plane.ring_borrowed:
        release_rings(plane, handled)
        handled = 0
    read_clients(plane)
    finish(plane)
    if handled:
        release_rings(plane, handled)
    reap(plane)
    plane.read_bytes = READ_BYTES_FEW if is_fanning_out(plane) else READ_BYTES
    return count == EVENTS_MAX or plane.ready_head is not NULL


cdef int linger(Plane* plane, epoll_event* events) noexcept nogil:
    """Wait a moment for the next events, at first without giving the processor away; return their number."""
    global crowded_until_ns
    cdef int count
    cdef int64_t until_ns, before_ns
    read_clock(plane)
    until_ns = plane.now_ns + plane.spin_ns
    while plane.now_ns < until_ns and plane.now_ns >= crowded_until_ns:
        before_ns = plane.now_ns
        sched_yield()
        count = epoll_wait(plane.epoll_fd, events, EVENTS_MAX, 0)
        read_clock(plane)
        if plane.now_ns - before_ns > YIELD_NS_MAX:
            crowded_until_ns = plane.now_ns + CROWDED_NS
        if count:
            return count
    return epoll_wait(plane.epoll_fd, events, EVENTS_MAX, LINGER_MS)


cdef int is_fanning_out(Plane* plane) noexcept nogil:
    """Return whether this round delivered several times what it read, and note the counters for the next."""
    cdef uint64_t read = plane.counters.in_msgs + plane.counters.ring_in_frames - plane.round_in
    cdef uint64_t delivered = plane.counters.out_msgs - plane.round_out
    plane.round_in += read
    plane.round_out += delivered
    return delivered > FAN_OUT * read


cdef dict stats_of(Plane* plane, Conn* conn):
    return {
        "in_msgs": conn.in_msgs,
        "in_bytes": conn.in_bytes,
        "out_msgs": conn.out_msgs,
        "out_bytes": conn.out_bytes,
        "subscriptions": conn.sid_count,
        "pending_bytes": out_pending(conn),
        "rtt_ns": conn.rtt_ns,
        "age_ns": plane.now_ns - conn.started_ns,
        "idle_ns": plane.now_ns - conn.last_input_ns,
    }
