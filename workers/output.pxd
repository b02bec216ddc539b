"""Output of a connection: chunks that deliveries append to and one write per round empties.

Between out_reserve and out_commit the caller copies its bytes to Conn.cursor. Messages are never split over chunks.
"""
from libc.stdint cimport uint8_t, uint64_t

from workers.model cimport CONN_DIRTY, CloseReason, Conn, Plane


cdef void out_grow(Plane* plane, Conn* conn, size_t size) noexcept nogil
cdef void out_append(Plane* plane, Conn* conn, const uint8_t* text, size_t size) noexcept nogil
cdef void out_borrow(Plane* plane, Conn* conn, uint8_t* text, size_t size) noexcept nogil
cdef void out_own(Plane* plane, Conn* conn) noexcept nogil
cdef void out_flush(Plane* plane, Conn* conn) noexcept nogil
cdef void out_discard(Plane* plane, Conn* conn) noexcept nogil
cdef void pool_trim(Plane* plane) noexcept nogil
cdef void conn_close(Plane* plane, Conn* conn, CloseReason reason) noexcept nogil


cdef inline uint64_t out_pending(Conn* conn) noexcept nogil:
    """Return the bytes that the client is still to be sent."""
    if conn.out_tail is NULL:
        return 0
    return conn.queued + <uint64_t>(conn.cursor - conn.out_tail.start)


cdef inline uint8_t* out_reserve(Plane* plane, Conn* conn, size_t size) noexcept nogil:
    """Return where the next `size` bytes go; OCTETS_SLACK bytes more may be overwritten."""
    if <size_t>(conn.limit - conn.cursor) < size:
        out_grow(plane, conn, size)
    return conn.cursor


cdef inline void out_commit(Plane* plane, Conn* conn, size_t size) noexcept nogil:
    """Count `size` bytes at the cursor as output and see to it that they are flushed in this round."""
    conn.cursor += size
    if not conn.flags & CONN_DIRTY:
        conn.flags |= CONN_DIRTY
        conn.next_dirty = plane.dirty
        plane.dirty = conn
