"""Where messages on a subject go: a cache of routes, and the calls that keep it true."""
from libc.stdint cimport uint8_t, uint32_t

from workers.model cimport Account, Interest, Plane, Route


cdef void routes_init(Plane* plane) noexcept nogil
cdef void routes_free(Plane* plane) noexcept nogil
cdef Route* route_get(Plane* plane, uint32_t account, const uint8_t* subject, uint32_t length) noexcept nogil
cdef Route* route_of(Plane* plane, uint32_t account, const uint8_t* subject, uint32_t length) noexcept nogil
cdef void routes_changed(Plane* plane, Account* account, Interest* interest) noexcept nogil
cdef Route* route_once(Plane* plane, uint32_t account, const uint8_t* subject, uint32_t length,
                       int* is_cached) noexcept nogil
