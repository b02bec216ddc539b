"""The C face of storage/pages.pyx: pages of log files that were read lately."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from storage.log cimport LogFile


cdef enum:
    PAGE_BITS = 12
    PAGE_BYTES = 4096
    PAGES = 8192                # of one cache: 32 MiB


cdef struct page_t:
    uint64_t log                # number of its log file
    uint64_t index              # which page of the file
    uint64_t overwritten        # LogFile.overwritten when it was read
    uint32_t filled             # bytes of it that were there then; 0: nothing was read


cdef class PageCache:
    cdef page_t *pages                  # owned, like `data`; NULL: nothing was read since it was emptied
    cdef uint8_t *data
    cdef readonly uint32_t used         # pages that hold something
    cdef bint is_used                   # since `end_tick`
    cdef readonly uint64_t idle_ticks

    cdef const uint8_t *find(self, LogFile log, uint64_t offset, uint64_t size) except? NULL
    cdef bint prepare(self) noexcept
    cpdef empty(self)
