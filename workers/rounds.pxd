"""Event rounds of the data plane."""
from libc.stdint cimport uint32_t

from workers.model cimport Conn, Plane


cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLRDHUP
        EPOLLHUP
        EPOLLERR
        EPOLLET
        EPOLL_CTL_ADD
        EPOLL_CLOEXEC
    ctypedef union epoll_data_t:
        void* ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll_fd, int operation, int fd, epoll_event* event)
    int epoll_wait(int epoll_fd, epoll_event* events, int count, int timeout_ms)


cdef enum:
    EVENTS_MAX = 256
    ARENA_BYTES = 1 << 20          # read in one round before everything is written


cdef void read_clock(Plane* plane) noexcept nogil
cdef void note_events(Plane* plane, epoll_event* events, int count) noexcept nogil
cdef int play_round(Plane* plane, epoll_event* events, int count) noexcept nogil
cdef int linger(Plane* plane, epoll_event* events) noexcept nogil
cdef dict stats_of(Plane* plane, Conn* conn)
