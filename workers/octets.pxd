"""Face of octets.h: scan, copy, hash and allocate byte strings."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from "octets.h" nogil:
    enum:
        OCTETS_SLACK
    uint64_t scan_blanks(const uint8_t* text, int count)
    int find_dots(const uint8_t* text, size_t length, uint32_t* dots, int count_max)
    int lowest_bit(uint64_t mask)
    int bit_count(uint64_t mask)
    void copy_bytes(uint8_t* to, const uint8_t* source, size_t length)
    void copy_exact(uint8_t* to, const uint8_t* source, size_t length)
    int same_bytes(const uint8_t* one, const uint8_t* other, size_t length)
    ctypedef struct decimal_memo_t:
        pass
    uint32_t write_decimal(uint8_t* to, uint64_t number)
    uint32_t write_eight(uint8_t* to, uint64_t number)
    uint32_t write_near(uint8_t* to, uint64_t number, decimal_memo_t* memo)
    uint64_t hash_bytes(const uint8_t* text, size_t length, uint64_t seed)
    void* must_malloc(size_t size)
    void* must_calloc(size_t count, size_t size)
    void* must_realloc(void* old, size_t size)
