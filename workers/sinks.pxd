"""What takes messages inside a worker: streams, the JetStream API, calls of other workers."""
from libc.stdint cimport uint32_t

from workers.model cimport Message, Plane


cdef class Sink:
    cdef Plane* plane              # NULL until it listens, and again when it no longer does
    cdef readonly uint32_t account
    cdef uint32_t listeners        # subjects that it listens to

    cdef int take(self, const Message* message) except -1


cdef class CallSink(Sink):
    cdef object handler


cdef bytes message_subject(const Message* message)
cdef bytes message_reply(const Message* message)
cdef bytes message_headers(const Message* message)
cdef bytes message_payload(const Message* message)
