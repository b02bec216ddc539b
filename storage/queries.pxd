"""The C face of storage/queries.pyx: questions about many messages of one stream."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from storage.index cimport StreamIndex
from storage.subjects cimport SubjectFilter


cdef class Numbers:
    cdef uint64_t *values               # owned
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity

    cdef int push(self, uint64_t value) except -1
    cdef int sort(self) except -1


cdef class Matches:
    cdef StreamIndex index
    cdef SubjectFilter filter
    cdef Numbers found                  # matches of asked .. covered, or None
    cdef Py_ssize_t at                  # of the next one in it
    cdef uint64_t asked                 # where the last search began
    cdef uint64_t covered
    cdef readonly uint64_t times_ahead  # how often many were found at once

    cdef uint64_t next(self, uint64_t start) except? 0
    cdef uint64_t next_found(self, uint64_t start) except? 0
    cdef bint find_ahead(self, uint64_t start) except -1


cdef bint is_match(StreamIndex index, SubjectFilter filter, uint64_t sequence) except -1
cdef uint64_t next_match(StreamIndex index, SubjectFilter filter, uint64_t start) except? 0
cdef uint64_t count_from(StreamIndex index, SubjectFilter filter, uint64_t start) except? 0xFFFFFFFF
