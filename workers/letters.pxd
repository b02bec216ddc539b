"""Messages on their way to this worker's own listeners."""
from libc.stdint cimport uint32_t

from workers.model cimport Listener, Message, Plane


cdef int letter_add(Plane* plane, Listener* listener, const Message* message) noexcept nogil
cdef uint32_t letters_take(Plane* plane) noexcept
cdef void letters_free(Plane* plane) noexcept nogil
