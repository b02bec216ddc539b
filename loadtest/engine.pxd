# C face of loadtest/engine.pyx: the Python owners of what loadtest/loop.pxd describes.

from loadtest.board cimport board_t
from loadtest.loop cimport connection_t, engine_t, role_t

cdef class Board:
    cdef board_t board

cdef class Engine:
    cdef engine_t engine
    cdef Board board            # keeps engine.board valid

    cdef connection_t *open_connection(self, int fd, role_t role) except NULL
    cdef void add_sender(self, double interval_ns)
