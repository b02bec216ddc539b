"""A client's subscriptions: by sid, in the interest of their subject, and known to the peers."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from workers.model cimport Conn, Listener, Plane, Sub


cdef Sub* sub_find(Plane* plane, Conn* conn, const uint8_t* sid, uint32_t length) noexcept nogil
cdef Sub* subscribe(Plane* plane, Conn* conn, const uint8_t* subject, uint32_t subject_length, const uint8_t* queue,
                    uint32_t queue_length, const uint8_t* sid, uint32_t sid_length) noexcept nogil
cdef void unsubscribe(Plane* plane, Sub* sub) noexcept nogil
cdef void unsubscribe_all(Plane* plane, Conn* conn) noexcept nogil
cdef void sub_spent(Plane* plane, Sub* sub) noexcept nogil
cdef void reap_spent(Plane* plane) noexcept nogil
cdef Listener* listen(Plane* plane, uint32_t account, const uint8_t* subject, uint32_t length, void* sink,
                      uint16_t flags) noexcept nogil
cdef void unlisten(Plane* plane, Listener* listener) noexcept nogil
