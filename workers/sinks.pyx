# cython: language_level=3, embedsignature=True, wraparound=False
"""What takes messages inside a worker: streams, the JetStream API, calls of other workers.

A sink is given to DataPlane.listen with a subject. It gets its messages at the end of the round in which they came, in
their order, with the GIL; the message's memory is valid during the call only. What it publishes leaves in the same
round. An exception is logged and ends nothing.
"""
from libc.stdint cimport uint8_t

from workers.model cimport Message


cdef bytes message_subject(const Message* message):
    return message.subject[:message.subject_length]


cdef bytes message_reply(const Message* message):
    return message.reply[:message.reply_length] if message.reply_length else b""


cdef bytes message_headers(const Message* message):
    """Return the header block, from its NATS/1.0 line to the empty line that ends it, or b""."""
    cdef const uint8_t* body = message.tail + message.tail_length - 2 - message.size
    return body[:message.header_size] if message.header_size > 0 else b""


cdef bytes message_payload(const Message* message):
    cdef const uint8_t* end = message.tail + message.tail_length - 2
    cdef size_t length = message.size - (<size_t>message.header_size if message.header_size > 0 else 0)
    return (end - length)[:length]


cdef class Sink:
    """Takes messages; the base of what does it in compiled code."""

    cdef int take(self, const Message* message) except -1:
        raise NotImplementedError


cdef class CallSink(Sink):
    """Hands messages to a Python function; for what happens rarely."""

    def __init__(self, handler):
        """Call `handler(subject, reply, headers, payload, client_id)`, all bytes but the last.

        `client_id` is 0 for what does not come from a client of this worker.
        """
        self.handler = handler

    cdef int take(self, const Message* message) except -1:
        self.handler(message_subject(message), message_reply(message), message_headers(message),
                     message_payload(message), message.client_id)
        return 0
