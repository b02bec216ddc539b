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


cdef uint64_t next_match(StreamIndex index, SubjectFilter filter, uint64_t start) except? 0
cdef uint64_t count_from(StreamIndex index, SubjectFilter filter, uint64_t start) except? 0xFFFFFFFF
