"""Messages that this worker itself publishes."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.model cimport Plane, Route


cdef struct Target:                # where many messages go one after the other
    uint8_t* subject
    uint32_t subject_length
    uint32_t account
    Route* memo
    uint64_t memo_epoch            # the memo is valid while this equals Plane.route_epoch


cdef uint32_t send_message(Plane* plane, uint32_t account, const uint8_t* subject, uint32_t subject_length,
                           const uint8_t* reply, uint32_t reply_length, const uint8_t* headers,
                           uint32_t headers_length, const uint8_t* payload, uint64_t payload_length) noexcept nogil
cdef int has_interest(Plane* plane, uint32_t account, const uint8_t* subject, uint32_t length, const uint8_t* queue,
                      uint32_t queue_length) noexcept nogil
cdef Route* target_route(Plane* plane, Target* target) noexcept nogil
cdef uint32_t send_shown(Plane* plane, Target* target, const uint8_t* shown, uint32_t shown_length,
                         const uint8_t* reply, uint32_t reply_length, const uint8_t* headers, uint32_t headers_length,
                         const uint8_t* payload, uint64_t payload_length) noexcept nogil
