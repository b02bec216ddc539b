"""A published message to everybody who gets it: local subscriptions, queue members, other workers."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.model cimport Message, Peer, Plane, Route


cdef uint32_t deliver(Plane* plane, const Message* message, Route* route) noexcept nogil
cdef uint8_t* deliver_begin(Plane* plane, const Message* message, Route* route, uint64_t room) noexcept nogil
cdef void deliver_end(Plane* plane, const Message* message, Route* route, uint8_t* end) noexcept nogil
cdef void deliver_no_responders(Plane* plane, const Message* message) noexcept nogil
cdef int deliver_from_peer(Plane* plane, Peer* peer, uint64_t bytes_max) noexcept nogil
