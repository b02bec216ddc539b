# cython: language_level=3, embedsignature=True, wraparound=False
"""Deadlines of connections: authentication, pings, blocked writes.

A hashed timing wheel: 256 slots of 50 ms, each a list of connections. A connection sits in the slot of its nearest
deadline; one that is further than a turn (12.8 s) away is looked at once a turn. So an idle connection costs a few
nanoseconds a second and no timer object.
"""
from libc.stdint cimport int64_t, uint16_t, uint64_t

from workers.model cimport (
    CLOSE_AUTH_TIMEOUT,
    CLOSE_SLOW_DEADLINE,
    CLOSE_STALE,
    CLOSE_WRITE_ERROR,
    CONN_AUTH_REQUIRED,
    CONN_BLOCKED,
    CONN_CHECKING,
    CONN_CLOSING,
    CONN_FIRST_PING_SENT,
    CONN_FLUSH_CLOSE,
    Conn,
    Plane,
)
from workers.output cimport conn_close, out_append
from workers.replies cimport fail_with


cdef enum:
    SLOTS = 256
    SLOT_NS = 50000000
    FIRST_PING_NS = 2000000000     # a first PING measures the round trip soon after CONNECT
    LAST_WRITE_NS = 1000000000     # for the output of a connection that is to be closed


cdef void insert(Plane* plane, Conn* conn, int64_t due_ns) noexcept nogil:
    cdef uint16_t slot = <uint16_t>((due_ns // SLOT_NS + 1) % SLOTS)
    conn.due_ns = due_ns
    conn.wheel_slot = slot
    conn.wheel_previous = NULL
    conn.wheel_next = plane.wheel[slot]
    if plane.wheel[slot] is not NULL:
        plane.wheel[slot].wheel_previous = conn
    plane.wheel[slot] = conn


cdef void timer_remove(Plane* plane, Conn* conn) noexcept nogil:
    """Take a connection out of the wheel."""
    if conn.wheel_next is not NULL:
        conn.wheel_next.wheel_previous = conn.wheel_previous
    if conn.wheel_previous is not NULL:
        conn.wheel_previous.wheel_next = conn.wheel_next
    else:
        plane.wheel[conn.wheel_slot] = conn.wheel_next
    conn.wheel_next = conn.wheel_previous = NULL


cdef void move_to(Plane* plane, Conn* conn, int64_t due_ns) noexcept nogil:
    timer_remove(plane, conn)
    insert(plane, conn, due_ns)


cdef void timer_start(Plane* plane, Conn* conn) noexcept nogil:
    """Put a new connection into the wheel."""
    cdef int64_t due_ns = plane.now_ns + plane.limits.ping_interval_ns
    conn.ping_due_ns = due_ns
    if conn.flags & CONN_AUTH_REQUIRED:
        due_ns = min(due_ns, plane.now_ns + plane.limits.auth_timeout_ns)
    insert(plane, conn, due_ns)


cdef void timer_connected(Plane* plane, Conn* conn) noexcept nogil:
    """Plan the first PING of a connection whose CONNECT was just accepted, up to 20 % later than due."""
    cdef uint64_t jitter_ns = (conn.client_id * <uint64_t>0x9E3779B97F4A7C15 >> 32) % <uint64_t>(FIRST_PING_NS // 5)
    cdef int64_t wait_ns = FIRST_PING_NS + <int64_t>jitter_ns
    conn.ping_due_ns = plane.now_ns + min(wait_ns, plane.limits.ping_interval_ns)
    move_to(plane, conn, conn.ping_due_ns)


cdef void timer_blocked(Plane* plane, Conn* conn) noexcept nogil:
    """See to it that a blocked connection is looked at when its write deadline has passed."""
    cdef int64_t wait_ns = LAST_WRITE_NS if conn.flags & CONN_FLUSH_CLOSE else plane.limits.write_deadline_ns
    if conn.blocked_since_ns + wait_ns < conn.due_ns:
        move_to(plane, conn, conn.blocked_since_ns + wait_ns)


cdef void ping_due(Plane* plane, Conn* conn) noexcept nogil:
    """Send a PING unless the client was heard of lately; close the connection if too many are unanswered."""
    cdef int64_t interval_ns = plane.limits.ping_interval_ns
    conn.ping_due_ns = plane.now_ns + interval_ns
    if conn.flags & CONN_FIRST_PING_SENT and plane.now_ns - conn.last_input_ns < interval_ns:
        return
    if conn.pings_out + 1 > plane.limits.ping_max:
        plane.counters.stale_connections += 1
        fail_with(plane, conn, b"Stale Connection", CLOSE_STALE)
        return
    conn.flags |= CONN_FIRST_PING_SENT
    conn.pings_out += 1
    conn.ping_sent_ns = plane.now_ns
    out_append(plane, conn, <const unsigned char*>b"PING\r\n", 6)


cdef void check(Plane* plane, Conn* conn) noexcept nogil:
    """Do what is due for a connection and put it back into the wheel."""
    cdef int64_t due_ns
    if conn.flags & CONN_CLOSING:
        insert(plane, conn, plane.now_ns + SLOT_NS)
        return
    if conn.flags & CONN_BLOCKED:
        if conn.flags & CONN_FLUSH_CLOSE:
            if plane.now_ns - conn.blocked_since_ns >= LAST_WRITE_NS:
                conn_close(plane, conn, CLOSE_WRITE_ERROR)
        elif plane.now_ns - conn.blocked_since_ns >= plane.limits.write_deadline_ns:
            conn_close(plane, conn, CLOSE_SLOW_DEADLINE)
    if conn.flags & CONN_AUTH_REQUIRED and not conn.flags & (CONN_CHECKING | CONN_FLUSH_CLOSE) \
            and plane.now_ns - conn.started_ns >= plane.limits.auth_timeout_ns:
        plane.counters.auth_errors += 1
        fail_with(plane, conn, b"Authentication Timeout", CLOSE_AUTH_TIMEOUT)
    if plane.now_ns >= conn.ping_due_ns and not conn.flags & (CONN_FLUSH_CLOSE | CONN_CLOSING):
        ping_due(plane, conn)
    due_ns = conn.ping_due_ns if not conn.flags & CONN_FLUSH_CLOSE else plane.now_ns + SLOT_NS
    if conn.flags & CONN_AUTH_REQUIRED:
        due_ns = min(due_ns, max(conn.started_ns + plane.limits.auth_timeout_ns, plane.now_ns + SLOT_NS))
    if conn.flags & CONN_BLOCKED:
        due_ns = min(due_ns, max(conn.blocked_since_ns + plane.limits.write_deadline_ns, plane.now_ns + SLOT_NS))
    insert(plane, conn, due_ns)


cdef void timers_turn(Plane* plane) noexcept nogil:
    """Look at every connection whose deadline has come."""
    cdef int64_t slot
    cdef int64_t last = plane.now_ns // SLOT_NS
    cdef int64_t first = max(plane.wheel_ns // SLOT_NS + 1, last - SLOTS + 1)
    cdef Conn* conn
    cdef Conn* following
    for slot in range(first, last + 1):
        conn = plane.wheel[slot % SLOTS]
        plane.wheel[slot % SLOTS] = NULL
        while conn is not NULL:
            following = conn.wheel_next
            if conn.due_ns > plane.now_ns:
                insert(plane, conn, conn.due_ns)
            else:
                check(plane, conn)
            conn = following
    plane.wheel_ns = plane.now_ns
