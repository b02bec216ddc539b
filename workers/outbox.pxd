"""Messages that this worker itself publishes."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from workers.model cimport Plane


cdef uint32_t send_message(Plane* plane, uint32_t account, const uint8_t* subject, uint32_t subject_length,
                           const uint8_t* reply, uint32_t reply_length, const uint8_t* headers,
                           uint32_t headers_length, const uint8_t* payload, uint64_t payload_length) noexcept nogil
cdef int has_interest(Plane* plane, uint32_t account, const uint8_t* subject, uint32_t length) noexcept nogil
cdef uint32_t write_decimal(uint8_t* at, uint64_t number) noexcept nogil
