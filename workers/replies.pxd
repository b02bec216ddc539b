"""Short lines to a client: +OK, PONG, -ERR."""
from libc.stdint cimport uint8_t

from workers.model cimport CloseReason, Conn, Plane


cdef void send_ok(Plane* plane, Conn* conn) noexcept nogil
cdef void send_pong(Plane* plane, Conn* conn) noexcept nogil
cdef void send_error(Plane* plane, Conn* conn, const char* text) noexcept nogil
cdef void send_error_about(Plane* plane, Conn* conn, const char* before, const uint8_t* subject, size_t length,
                           const char* after) noexcept nogil
cdef void fail_with(Plane* plane, Conn* conn, const char* text, CloseReason reason) noexcept nogil
cdef void fail_silently(Plane* plane, Conn* conn, CloseReason reason) noexcept nogil
