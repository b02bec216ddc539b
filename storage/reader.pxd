"""The C face of storage/reader.pyx: reading the messages of one stream."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from storage.index cimport Segment, StreamIndex
from storage.log cimport LogFile
from storage.pages cimport PageCache
from storage.record cimport record_header_t
from storage.writer cimport Block


cdef extern from "message_id.h" nogil:
    const uint8_t *message_id_of(const uint8_t *headers, uint32_t headers_bytes, uint32_t *id_bytes)


cdef class Message:
    cdef readonly uint64_t sequence
    cdef readonly int64_t timestamp_ns
    cdef readonly bytes subject
    cdef readonly bytes headers
    cdef readonly bytes payload


# A message where it lies; valid until the next call into the stream.
ctypedef struct record_view_t:
    uint64_t sequence
    int64_t timestamp_ns
    const uint8_t *subject
    const uint8_t *headers
    const uint8_t *payload
    uint32_t subject_bytes
    uint32_t headers_bytes
    uint32_t payload_bytes


cdef class StreamReader(StreamIndex):
    cdef public object codec            # compression and encryption, or None
    cdef readonly PageCache pages       # for reading here and there
    cdef Block window                   # bytes window_start .. window_end of window_log, read ahead
    cdef LogFile window_log
    cdef uint64_t window_start
    cdef uint64_t window_end
    cdef uint64_t read_next             # the sequence after the last one read
    cdef object decoded                 # the parts of a coded message that `peek` points into
    cdef readonly uint64_t damaged_reads
    cdef public object version          # moves when segments change, for checkpoints

    cdef const uint8_t *record_of(self, Segment segment, uint32_t row, bint is_sequential) except? NULL
    cdef int peek(self, uint64_t sequence, record_view_t *view) except -1
    cdef int peek_decoded(self, const record_header_t *header, const uint8_t *body, record_view_t *view) except -1
    cdef Message message_of(self, Segment segment, uint32_t row, bint is_sequential)
    cdef Py_ssize_t fill_window(self, LogFile log, uint64_t offset, uint64_t size) except -1


cdef class FrozenSegment:
    cdef StreamReader stream
    cdef Segment segment                # a copy that nobody deletes from
    cdef object file                    # keeps the log's file open, or None
