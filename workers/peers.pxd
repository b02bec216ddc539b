"""The other workers: frames to and from them, what waits when a ring is full, and keeping each other's interest."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from workers.model cimport Frame, Interest, Message, Peer, Plane, QueueGroup


cdef extern from "frames.h" nogil:
    enum:
        FRAMES_VERSION
        FRAME_MESSAGE
        FRAME_INTEREST
        FRAME_SYNCED
        FRAME_PLAIN
        FRAME_SHOWN
        INTEREST_STICKY

    ctypedef struct message_frame_t:
        uint8_t kind, version, flags, hops
        uint32_t account, subject_length, reply_length
        int header_size
        uint32_t size, queues_length, tail_length

    ctypedef struct interest_frame_t:
        uint8_t kind, version
        uint16_t flags
        uint32_t account, subject_length, queue_length, count


# Life.
cdef Peer* peer_new(uint32_t index, int doorbell, uint64_t wake_address, uint64_t length_max) noexcept nogil
cdef int peer_attach(Plane* plane, Peer* peer, uint64_t data_out, uint64_t control_out, uint32_t epoch_out,
                     uint64_t data_in, uint64_t control_in, uint32_t epoch_in) noexcept nogil
cdef void peer_detach(Plane* plane, Peer* peer) noexcept nogil
cdef void peer_free(Plane* plane, Peer* peer) noexcept nogil

# Sending. Frames become visible with peers_publish, control before data.
cdef void peer_send_message(Plane* plane, Peer* peer, const Message* message, int plain, const uint8_t* names,
                            uint32_t names_length) noexcept nogil
cdef void peers_tell(Plane* plane, Interest* interest, QueueGroup* queue) noexcept nogil
cdef void peers_publish(Plane* plane) noexcept nogil
cdef int peers_backlogged(Plane* plane) noexcept nogil
cdef int clients_must_wait(Plane* plane) noexcept nogil
cdef int peers_can_tell_more(Plane* plane) noexcept nogil

# Receiving: control frames are applied here; message frames are delivery.pyx's.
cdef void peers_take_control(Plane* plane) noexcept nogil
cdef int peers_have_input(Plane* plane) noexcept nogil
cdef void peer_failed(Plane* plane, Peer* peer) noexcept nogil
cdef void peer_wake(Plane* plane, Peer* peer) noexcept nogil
