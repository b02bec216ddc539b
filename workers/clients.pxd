"""Clients: from the bytes that a socket delivers to what they ask for."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.model cimport Conn, Plane


cdef enum:
    READ_BYTES = 262144            # one read of one connection; see ARCHITECTURE.md for the sizes that were tried
    ROUND_BYTES_MIN = READ_BYTES + 1024    # room in the arena, beside a control line, for conn_read

cdef Conn* conn_open(Plane* plane, int fd, uint64_t client_id, uint32_t flags) noexcept nogil
cdef void conn_ready(Plane* plane, Conn* conn) noexcept nogil
cdef void conn_read(Plane* plane, Conn* conn) noexcept nogil
cdef void conn_resume(Plane* plane, Conn* conn) noexcept nogil
cdef void conn_free(Plane* plane, Conn* conn) noexcept nogil

# A CONNECT that the policy did not decide at once.
cdef void client_allow(Plane* plane, Conn* conn, uint32_t options) noexcept nogil
cdef int client_refuse(Plane* plane, Conn* conn, error) except -1
