"""The C face of storage/log.pyx: one append-only file, its unwritten tail in memory."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from storage.writer cimport Block


cdef class LogFile:
    cdef readonly str path              # relative to the store's root
    cdef readonly bytes path_bytes
    cdef readonly uint64_t number
    cdef readonly uint32_t salt
    cdef public object file             # File, or None: not open, or a memory log
    cdef readonly bint is_memory
    cdef Block tail                     # bytes tail_start .. end
    cdef uint64_t tail_start
    cdef readonly uint64_t end          # offset where the next record goes
    cdef readonly uint64_t drained      # bytes below are in a journal frame, written or being written
    cdef readonly uint64_t durable      # bytes below are in the journal and synced, or in the file and synced
    # bytes flushing_start .. flushing_end on their way to the file, or None
    cdef Block flushing
    cdef uint64_t flushing_start
    cdef uint64_t flushing_end
    cdef readonly uint64_t written      # bytes below are in the file (with the kernel)
    cdef readonly bint is_dirty         # it is in `dirty`
    # the journal's list of logs with bytes to drain; None for a memory log
    cdef list dirty
    # journal position of its first frame since the last checkpoint, 0: none
    cdef public uint64_t dirty_since
    cdef public list overwrites         # (offset, bytes) to put over old bytes, not drained yet
    cdef readonly uint64_t overwritten  # how often bytes were overwritten
    cdef public bint is_dropped         # its file goes: nothing more is written to it
    cdef public bint wants_sync         # a commit with bytes of it is synced
    cdef public object owner            # the stream directory that it belongs to

    cdef uint8_t *reserve(self, uint64_t size) except NULL
    cdef int mark_dirty(self) except -1
    cdef const uint8_t *locate(self, uint64_t offset, uint64_t size) noexcept
    cdef Py_ssize_t read_into(self, uint8_t *target, size_t size, uint64_t offset) except -1
    cdef size_t read_file(self, uint8_t *target, size_t size, uint64_t offset) except? 0
