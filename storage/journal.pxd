"""The C face of storage/journal.pyx: one frame per commit for every log of a worker."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from storage.log cimport LogFile
from storage.writer cimport Block, Writer


cdef extern from "frame.h" nogil:
    ctypedef struct frame_header_t:
        char magic[8]
        uint64_t position
        uint32_t body_bytes
        uint32_t entry_count
        uint32_t body_crc
        uint32_t header_crc

    ctypedef struct entry_header_t:
        uint32_t length
        uint32_t crc
        uint64_t offset
        uint32_t data_bytes
        uint16_t path_bytes
        uint8_t kind
        uint8_t copy

    int FRAME_HEADER_BYTES
    int FRAME_ALIGN
    int ENTRY_HEADER_BYTES
    void frame_make_empty(uint8_t *frame, uint64_t position)
    uint32_t crc32c(uint32_t seed, const uint8_t *data, size_t size)
    void crc32c_choose()


cdef class Journal:
    cdef object files
    cdef Writer writer
    cdef readonly str directory
    cdef readonly uint64_t file_bytes   # of each journal file
    cdef readonly uint64_t frame_bytes_max
    cdef readonly uint64_t bytes_max    # commits wait for checkpoints above this
    cdef readonly list dirty_logs       # shared with every LogFile
    cdef list drained_logs              # those in the frame on its way
    cdef readonly list removals         # paths to remove once that is durable
    cdef readonly list newly_dirty      # logs that got their first frame since their checkpoint
    cdef public uint64_t flush_bytes    # a log with so many durable bytes in memory is flushable
    cdef readonly list flushable
    cdef Block frame
    cdef uint64_t frame_used
    cdef uint32_t entry_count
    cdef object file                    # the current journal file
    cdef readonly uint64_t file_start   # position of its first byte
    cdef readonly uint64_t file_capacity
    cdef uint64_t offset                # where the next frame goes in it
    cdef uint64_t filled                # how much of it has blocks
    cdef readonly list spares           # (path, capacity) of recyclable files
    cdef readonly list full_files       # (path, start, capacity), oldest first
    cdef str file_path
    cdef uint64_t file_number
    cdef readonly uint64_t released     # positions below are not needed any more
    cdef readonly bint in_flight
    cdef public bint sync_always        # else no frame is synced because of a log: `sync` follows some time later
    cdef bint is_written                # the frame on its way was written by `commit` itself, `_finished` is due
    cdef int write_errno                # and this is what came of it
    cdef bint needs_sync                # something in the frame wants it
    cdef readonly bint has_unsynced     # frames of the current file were written and not synced
    cdef readonly uint64_t round        # what is appended now becomes part of this round
    cdef readonly uint64_t durable_round
    cdef readonly uint64_t flight_round
    # errno of the write or sync that failed; nothing is written afterwards
    cdef readonly int failed
    cdef public object on_durable       # called after each commit, with (error number, nanoseconds)
    cdef readonly uint64_t commits
    cdef readonly uint64_t bytes_written

    cdef int add(self, int kind, bytes path, uint64_t offset, const uint8_t *data, uint64_t size) except -1
    cdef int drain_log(self, LogFile log) except -1
    cdef int seal(self) except -1
    cdef int fill_ahead(self) except -1
