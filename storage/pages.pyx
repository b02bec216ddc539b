# cython: language_level=3, embedsignature=True, wraparound=False
"""Pages of log files that were read lately, so that reading here and there is not a system call a message.

A page has one place, found by its log and its index: no list to keep, and a page that comes later replaces it. All
caches of the process together hold at most PAGES_MAX pages; who finds no room reads the file as before.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from storage.log cimport LogFile

cdef enum:
    PAGES_MAX = 16384           # 64 MiB, as much as logs not yet in their files may take

cdef uint64_t pages_used = 0


cdef class PageCache:
    """The pages of one stream."""

    def __dealloc__(self):
        self.empty()

    cdef const uint8_t *find(self, LogFile log, uint64_t offset, uint64_t size) except? NULL:
        """Return where bytes of a log lie, valid until the next call; NULL: they are not within one page.

        Raises:
            ReadFailed: the file could not be read.
        """
        global pages_used
        cdef uint64_t index = offset >> PAGE_BITS
        cdef uint64_t place = (index + log.number * 0x9E3779B1) & (PAGES - 1)
        cdef uint64_t start = offset & (PAGE_BYTES - 1)
        cdef page_t *page
        cdef uint8_t *data
        if start + size > PAGE_BYTES:
            return NULL
        if self.pages == NULL and not self.prepare():
            return NULL
        self.is_used = True
        page = &self.pages[place]
        data = self.data + (place << PAGE_BITS)
        if (page.log != log.number or page.index != index or page.overwritten != log.overwritten
                or start + size > page.filled):
            if page.filled == 0:
                if pages_used >= PAGES_MAX:
                    return NULL
                pages_used += 1
                self.used += 1
            # Empty, but counted, should reading fail.
            page.index = ~<uint64_t>0
            page.filled = 1
            page.filled = <uint32_t>max(1, log.read_into(data, PAGE_BYTES, index << PAGE_BITS))
            page.log, page.index, page.overwritten = log.number, index, log.overwritten
        return data + start if start + size <= page.filled else NULL

    cdef bint prepare(self) noexcept:
        self.pages = <page_t *>calloc(PAGES, sizeof(page_t))
        self.data = <uint8_t *>malloc(<size_t>PAGES << PAGE_BITS)
        if self.pages == NULL or self.data == NULL:
            self.empty()
            return False
        return True

    def end_tick(self):
        """Count a tick of the owner's clock in which nothing was read."""
        self.idle_ticks = 0 if self.is_used else self.idle_ticks + 1
        self.is_used = False

    cpdef empty(self):
        """Give the memory back."""
        global pages_used
        pages_used -= self.used
        self.used = 0
        free(self.pages)
        free(self.data)
        self.pages, self.data = NULL, NULL
