"""The C face of storage/record.pyx: one record and the header of a log file."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "record.h" nogil:
    ctypedef struct record_header_t:
        uint32_t crc                # of bytes 4 .. length, from the seed of its place
        uint32_t length             # bytes from crc to the last body byte, padding not included
        uint64_t sequence
        int64_t timestamp_ns
        uint16_t subject_length
        uint8_t kind
        uint8_t flags
        uint32_t headers_length

    ctypedef struct log_header_t:
        char magic[8]
        uint16_t version
        uint16_t kind
        uint32_t salt               # random; part of every record's seed
        uint64_t number             # of this file within its stream, never reused
        uint64_t stream             # number of the stream's directory
        uint64_t base_sequence      # the first sequence that the file may hold
        int64_t created_ns
        uint64_t replaces           # number of the file that this compacted one stands for, or 0
        uint32_t reserved
        uint32_t crc

    uint64_t record_padded(uint64_t length)
    uint32_t record_seed(uint32_t salt, uint64_t offset)
    void record_seal(uint8_t *record, uint32_t length, uint32_t salt, uint64_t offset)
    uint64_t record_check(const uint8_t *data, uint64_t available, uint32_t salt, uint64_t offset)
    uint32_t crc32c(uint32_t seed, const uint8_t *data, size_t size)
    void crc32c_choose()

cdef enum:
    HEADER_BYTES = 32
    LOG_HEADER_BYTES = 64
    RECORDS_START = 128         # behind both copies of the header

    MESSAGE = 1
    TOMBSTONES = 2
    HEAD = 3
    SKIP = 4
    TRUNCATE = 5
    DEAD_MAP = 6

    EXPIRES = 1
    COMPRESSED = 2
    ENCRYPTED = 4
    ERASED = 8
