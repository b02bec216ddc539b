# cython: language_level=3, embedsignature=True, wraparound=False
"""Short lines to a client: +OK, PONG, -ERR, and closing it once they are written."""
from libc.stdint cimport uint8_t
from libc.string cimport strlen

from workers.model cimport CONN_CLOSING, CONN_FLUSH_CLOSE, CloseReason, Conn, Plane
from workers.output cimport out_append, out_commit


cdef void send_ok(Plane* plane, Conn* conn) noexcept nogil:
    out_append(plane, conn, <const uint8_t*>b"+OK\r\n", 5)


cdef void send_pong(Plane* plane, Conn* conn) noexcept nogil:
    out_append(plane, conn, <const uint8_t*>b"PONG\r\n", 6)


cdef void send_error(Plane* plane, Conn* conn, const char* text) noexcept nogil:
    """Send -ERR 'text'; the connection stays open."""
    send_error_about(plane, conn, text, NULL, 0, b"")


cdef void send_error_about(Plane* plane, Conn* conn, const char* before, const uint8_t* subject, size_t length,
                           const char* after) noexcept nogil:
    """Send -ERR with the subject between two texts; the connection stays open."""
    out_append(plane, conn, <const uint8_t*>b"-ERR '", 6)
    out_append(plane, conn, <const uint8_t*>before, strlen(before))
    if length:
        out_append(plane, conn, subject, length)
    out_append(plane, conn, <const uint8_t*>after, strlen(after))
    out_append(plane, conn, <const uint8_t*>b"'\r\n", 3)


cdef void fail_with(Plane* plane, Conn* conn, const char* text, CloseReason reason) noexcept nogil:
    """Send -ERR and close the connection when everything queued is written."""
    if conn.flags & (CONN_CLOSING | CONN_FLUSH_CLOSE):
        return
    send_error(plane, conn, text)
    fail_silently(plane, conn, reason)


cdef void fail_silently(Plane* plane, Conn* conn, CloseReason reason) noexcept nogil:
    """Close the connection when everything queued is written; nothing more is read from it."""
    if conn.flags & (CONN_CLOSING | CONN_FLUSH_CLOSE):
        return
    conn.close_reason = reason
    conn.flags |= CONN_FLUSH_CLOSE
    out_commit(plane, conn, 0)
