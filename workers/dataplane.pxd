"""The data plane of one worker: its event rounds, and the face that the rest of the worker sees."""
from workers.model cimport Plane


cdef class DataPlane:
    cdef Plane* plane
    cdef readonly object policy            # decides, see sessions.py; kept alive for Plane.policy
    cdef object _soon                      # called with self.run when there is more to do at once
    cdef object _later                     # called with seconds and self.run
    cdef object _region                    # keeps the shared memory mapped
    cdef public object on_notified         # called when a watched descriptor has become readable
    cdef public object on_room             # called when the rings have room again that deliveries waited for
    cdef public object on_letters_taken    # called when sinks have got the messages of a round
    cdef public bint takes_letters         # sinks get their messages now; on_letters_taken comes
    cdef dict _listeners                   # handle -> Sink
    cdef readonly list dropped_sinks       # kept until no letter can name them
    cdef bint _later_is_set
    cdef bint _soon_is_set
    cdef bint _is_running
    cdef bint _lingers                     # run() waits a moment for more before it returns
    cdef long _ticks

    cdef bint _sleep_or_find_work(self)
    cdef int _run_soon(self) except -1
    cdef int _watch(self, int fd, void* mark) except -1
