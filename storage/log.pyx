# cython: language_level=3, embedsignature=True, wraparound=False
"""One append-only log file (record.pyx draws its bytes): its unwritten tail in memory, the rest read from
the file.

The life of a byte: `reserve` puts it into the tail; the journal drains it into a frame (drained), the frame
is synced (durable); then `take_flushable` hands the durable part of the tail to the background writer as one
block, which stays readable here until `flushed`. A memory log is a tail that is never drained.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EINTR, errno as c_errno
from libc.string cimport memcpy

from storage.errors import ReadFailed


cdef extern from "<unistd.h>" nogil:
    ssize_t c_pread "pread"(int fd, void *data, size_t size, long offset)


cdef class LogFile:
    """An append-only file of records."""

    def __cinit__(self, str path not None, uint64_t number, uint32_t salt, list dirty, *, uint64_t end=0,
                  object owner=None):
        """Go on at offset `end`; what lies below is in the file, synced. `dirty` None makes a memory log."""
        self.path = path
        self.path_bytes = path.encode()
        self.number, self.salt = number, salt
        self.dirty = dirty
        self.is_memory = dirty is None
        self.tail = Block(256)
        self.tail_start = self.end = self.drained = self.durable = self.written = end
        self.flushing = None
        self.overwrites = []
        self.wants_sync = True
        self.owner = owner

    cdef int mark_dirty(self) except -1:
        if not self.is_dirty and self.dirty is not None:
            self.is_dirty = True
            self.dirty.append(self)
        return 0

    cdef uint8_t *reserve(self, uint64_t size) except NULL:
        """Return where `size` bytes at offset `end` go; the caller fills all of them, then adds `size` to
        `end`."""
        cdef size_t used = <size_t>(self.end - self.tail_start)
        if used + size > self.tail.capacity:
            self.tail.grow(used + size)
        if not self.is_dirty:
            self.mark_dirty()
        return self.tail.data + used

    def append(self, bytes data not None):
        """Add bytes that are whole records for offset `end`."""
        cdef uint64_t size = PyBytes_GET_SIZE(data)
        memcpy(self.reserve(size), PyBytes_AS_STRING(data), size)
        self.end += size

    def overwrite(self, uint64_t offset, bytes data not None):
        """Put `data` over bytes that were appended before; it takes the same way to the disk as an append."""
        cdef uint64_t size = PyBytes_GET_SIZE(data)
        self.overwritten += 1
        if offset >= self.tail_start:
            memcpy(self.tail.data + (offset - self.tail_start), PyBytes_AS_STRING(data), size)
        if not self.is_memory and offset < self.drained:
            self.overwrites.append((offset, data))
            self.mark_dirty()

    cdef const uint8_t *locate(self, uint64_t offset, uint64_t size) noexcept:
        """Return where bytes lie in memory until the next append, or NULL: they are in the file."""
        if offset >= self.tail_start:
            if offset + size <= self.end:
                return self.tail.data + (offset - self.tail_start)
            return NULL
        if self.flushing is not None and offset >= self.flushing_start and offset + size <= self.flushing_end:
            return self.flushing.data + (offset - self.flushing_start)
        return NULL

    cdef Py_ssize_t read_into(self, uint8_t *target, size_t size, uint64_t offset) except -1:
        """Copy up to `size` bytes from `offset`, stopping at `end` or the end of the file; return how many.

        Raises:
            ReadFailed: the file could not be read.
        """
        cdef size_t part
        cdef Py_ssize_t done = 0
        cdef uint64_t limit
        if offset >= self.end:
            return 0
        size = min(size, self.end - offset)
        while size:
            if offset >= self.tail_start:
                memcpy(target, self.tail.data + (offset - self.tail_start), size)
                return done + <Py_ssize_t>size
            if self.flushing is not None and self.flushing_start <= offset < self.flushing_end:
                part = min(size, self.flushing_end - offset)
                memcpy(target, self.flushing.data + (offset - self.flushing_start), part)
            else:
                limit = self.flushing_start if self.flushing is not None else self.tail_start
                part = min(size, limit - offset)
                part = self.read_file(target, part, offset)
                if part == 0:
                    return done
            target += part
            offset += part
            size -= part
            done += <Py_ssize_t>part
        return done

    cdef size_t read_file(self, uint8_t *target, size_t size, uint64_t offset) except? 0:
        cdef ssize_t got
        cdef int fd
        cdef bytes data
        if self.file is None:
            self.owner.open_log(self)
        fd = self.file.direct_fd
        if fd >= 0:
            got = c_pread(fd, target, size, <long>offset)
            while got < 0 and c_errno == EINTR:
                got = c_pread(fd, target, size, <long>offset)
            if got < 0:
                raise ReadFailed(f"{self.path} at {offset}: errno {c_errno}")
            return <size_t>got
        try:
            data = self.file.pread(size, offset)
        except OSError as error:
            raise ReadFailed(f"{self.path} at {offset}: {error}") from error
        memcpy(target, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return <size_t>PyBytes_GET_SIZE(data)

    def read(self, uint64_t offset, size_t size):
        """Return up to `size` bytes from `offset`.

        Raises:
            ReadFailed: the file could not be read.
        """
        cdef bytes out
        cdef Py_ssize_t got
        if offset >= self.end:
            return b""
        size = min(size, self.end - offset)
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        got = self.read_into(<uint8_t *>PyBytes_AS_STRING(out), size, offset)
        return out if got == <Py_ssize_t>size else out[:got]

    @property
    def flushable_bytes(self):
        """How many durable bytes wait in memory for the file."""
        if self.flushing is not None or self.durable <= self.tail_start:
            return 0
        return self.durable - self.tail_start

    @property
    def memory_bytes(self):
        """How many bytes of the file are held in memory."""
        return self.tail.capacity + (self.flushing.capacity if self.flushing is not None else 0)

    def take_flushable(self):
        """Return (block, start, size, offset) of the durable bytes in the tail, or None: none, or some are
        under way.

        They stay readable; call `flushed` when they are in the file.
        """
        cdef uint64_t size, rest
        cdef Block fresh
        if self.flushing is not None or self.durable <= self.tail_start:
            return None
        size = self.durable - self.tail_start
        rest = self.end - self.durable
        fresh = Block(max(rest * 2, 256))
        memcpy(fresh.data, self.tail.data + size, rest)
        self.flushing, self.flushing_start, self.flushing_end = self.tail, self.tail_start, self.durable
        self.tail, self.tail_start = fresh, self.durable
        return self.flushing, 0, size, self.flushing_start

    def flushed(self):
        """Note that what take_flushable returned is in the file now."""
        self.written = self.flushing_end
        self.flushing = None
