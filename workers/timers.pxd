"""Deadlines of connections: authentication, pings, blocked writes."""
from libc.stdint cimport int64_t

from workers.model cimport Conn, Plane


cdef void timer_start(Plane* plane, Conn* conn) noexcept nogil
cdef void timer_connected(Plane* plane, Conn* conn) noexcept nogil
cdef void timer_blocked(Plane* plane, Conn* conn) noexcept nogil
cdef void timer_remove(Plane* plane, Conn* conn) noexcept nogil
cdef void timers_turn(Plane* plane) noexcept nogil
