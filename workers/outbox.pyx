# cython: language_level=3, embedsignature=True, wraparound=False
"""Messages that this worker itself publishes: acknowledgements, answers of the JetStream API, calls to other workers.

Most of their subjects are inboxes that are used once, so a route that is not in the cache is made for the one message
and dropped again.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from workers.delivery cimport deliver, deliver_begin, deliver_end
from workers.model cimport Message, Plane, Route
from workers.octets cimport OCTETS_SLACK, must_realloc, write_decimal
from workers.routes cimport route_get, route_once


cdef enum:
    LINE_MAX = 48                  # two numbers, blanks and ends of lines


cdef inline uint8_t* put_tail(uint8_t* at, const uint8_t* reply, uint32_t reply_length, const uint8_t* headers,
                              uint32_t headers_length, const uint8_t* payload, uint64_t payload_length) noexcept nogil:
    """Write what follows the subject of a message; return its end. It needs LINE_MAX bytes more than the parts."""
    if reply_length:
        memcpy(at, reply, reply_length)
        at += reply_length
        at[0] = c" "
        at += 1
    if headers_length:
        at += write_decimal(at, headers_length)
        at[0] = c" "
        at += 1
    at += write_decimal(at, headers_length + payload_length)
    at[0] = c"\r"
    at[1] = c"\n"
    at += 2
    if headers_length:
        memcpy(at, headers, headers_length)
        at += headers_length
    if payload_length:
        memcpy(at, payload, payload_length)
        at += payload_length
    at[0] = c"\r"
    at[1] = c"\n"
    return at + 2


cdef inline void begin(Message* message, uint32_t account, const uint8_t* subject, uint32_t subject_length,
                       uint32_t headers_length, uint64_t payload_length) noexcept nogil:
    """Set everything of a message but its tail and reply."""
    message.account, message.subject, message.subject_length = account, <uint8_t*>subject, subject_length
    message.size = <uint32_t>(headers_length + payload_length)
    message.header_size = <int>headers_length if headers_length else -1
    message.shown_length = 0
    message.hops = 0
    message.may_borrow = 0
    message.from_peer = 0
    message.publisher = NULL
    message.client_id = 0


cdef void compose(Plane* plane, Message* message, const uint8_t* reply, uint32_t reply_length, const uint8_t* headers,
                  uint32_t headers_length, const uint8_t* payload, uint64_t payload_length) noexcept nogil:
    """Write the tail of a message into Plane.outbox."""
    cdef uint64_t room = <uint64_t>reply_length + headers_length + payload_length + LINE_MAX
    cdef uint8_t* end
    if room > plane.outbox_capacity:
        plane.outbox_capacity = 2 * room
        plane.outbox = <uint8_t*>must_realloc(plane.outbox, plane.outbox_capacity + OCTETS_SLACK)
    end = put_tail(plane.outbox, reply, reply_length, headers, headers_length, payload, payload_length)
    message.reply = plane.outbox
    message.reply_length = reply_length
    message.tail = plane.outbox
    message.tail_length = <uint32_t>(end - plane.outbox)


cdef uint32_t send_message(Plane* plane, uint32_t account, const uint8_t* subject, uint32_t subject_length,
                           const uint8_t* reply, uint32_t reply_length, const uint8_t* headers,
                           uint32_t headers_length, const uint8_t* payload, uint64_t payload_length) noexcept nogil:
    """Publish a message; it is written when the round ends.

    Args:
        headers: a whole header block; headers_length 0 for none.
    Returns:
        How many took it, another worker's plain subscriptions counted as one.
    """
    cdef Message message
    cdef Route* route
    cdef int is_cached
    cdef uint32_t taken
    begin(&message, account, subject, subject_length, headers_length, payload_length)
    compose(plane, &message, reply, reply_length, headers, headers_length, payload, payload_length)
    route = route_once(plane, account, subject, subject_length, &is_cached)
    taken = deliver(plane, &message, route)
    if not is_cached:
        free(route)
    return taken


cdef Route* target_route(Plane* plane, Target* target) noexcept nogil:
    """Return the route to a target, from its memo if that still holds."""
    if target.memo_epoch != plane.route_epoch:
        target.memo = route_get(plane, target.account, target.subject, target.subject_length)
        target.memo_epoch = plane.route_epoch
    return target.memo


cdef uint32_t send_shown(Plane* plane, Target* target, const uint8_t* shown, uint32_t shown_length,
                         const uint8_t* reply, uint32_t reply_length, const uint8_t* headers, uint32_t headers_length,
                         const uint8_t* payload, uint64_t payload_length) noexcept nogil:
    """Send a message to a target whose subscribers see the subject `shown`; return how many took it."""
    cdef Message message
    cdef Route* route = target_route(plane, target)
    cdef uint8_t* at
    begin(&message, target.account, target.subject, target.subject_length, headers_length, payload_length)
    message.shown = <uint8_t*>shown
    message.shown_length = shown_length
    at = deliver_begin(plane, &message, route, <uint64_t>reply_length + headers_length + payload_length + LINE_MAX)
    if at is not NULL:
        # The usual case: written where it is sent from, not into the outbox first.
        at = put_tail(at, reply, reply_length, headers, headers_length, payload, payload_length)
        deliver_end(plane, &message, route, at)
        return 1
    compose(plane, &message, reply, reply_length, headers, headers_length, payload, payload_length)
    return deliver(plane, &message, route)


cdef int has_interest(Plane* plane, uint32_t account, const uint8_t* subject, uint32_t length, const uint8_t* queue,
                      uint32_t queue_length) noexcept nogil:
    """Return whether anybody anywhere subscribes to the subject, in this queue if one is named."""
    cdef int is_cached, found
    cdef uint32_t i
    cdef Route* route = route_once(plane, account, subject, length, &is_cached)
    found = not route.is_empty
    if queue_length and found:
        found = 0
        for i in range(route.queue_count):
            if route.queues[i].name_length == queue_length and memcmp(route.queues[i].name, queue, queue_length) == 0:
                found = 1
    if not is_cached:
        free(route)
    return found
