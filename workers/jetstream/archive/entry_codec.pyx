# cython: language_level=3, embedsignature=True, wraparound=False
"""One entry of the archive format ↔ bytes; entries.py draws the format."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy


cdef inline uint8_t *put(uint8_t *at, uint64_t value) noexcept nogil:
    """Write a varint of up to 10 bytes; return where it ends."""
    while value >= 0x80:
        at[0] = <uint8_t>(value | 0x80)
        at += 1
        value >>= 7
    at[0] = <uint8_t>value
    return at + 1


cdef inline int take(const uint8_t *start, Py_ssize_t size, uint64_t *value) noexcept nogil:
    """Read a varint; return its length, 0: it is not whole, -1: it has more than 64 bits."""
    cdef int index
    value[0] = 0
    for index in range(VARINT_BYTES_MAX):
        if index == size:
            return 0
        if index == VARINT_BYTES_MAX - 1 and start[index] > 1:
            return -1
        value[0] |= <uint64_t>(start[index] & 0x7F) << (7 * index)
        if start[index] < 0x80:
            return index + 1
    return -1


def encode(bytes name not None, int64_t timestamp_ns, uint64_t sequence, bytes headers not None,
           bytes payload not None):
    """Return one entry."""
    cdef uint8_t[NUMBERS * VARINT_BYTES_MAX] head
    cdef uint8_t *at = head
    cdef Py_ssize_t name_size = PyBytes_GET_SIZE(name)
    cdef Py_ssize_t headers_size = PyBytes_GET_SIZE(headers)
    cdef Py_ssize_t payload_size = PyBytes_GET_SIZE(payload)
    cdef bytes out
    at = put(at, <uint64_t>name_size)
    at = put(at, (<uint64_t>timestamp_ns << 1) ^ <uint64_t>(timestamp_ns >> 63))
    at = put(at, sequence)
    at = put(at, <uint64_t>headers_size)
    at = put(at, <uint64_t>payload_size)
    out = PyBytes_FromStringAndSize(NULL, (at - head) + name_size + headers_size + payload_size)
    memcpy(PyBytes_AS_STRING(out), head, <size_t>(at - head))
    at = <uint8_t *>PyBytes_AS_STRING(out) + (at - head)
    memcpy(at, PyBytes_AS_STRING(name), <size_t>name_size)
    memcpy(at + name_size, PyBytes_AS_STRING(headers), <size_t>headers_size)
    memcpy(at + name_size + headers_size, PyBytes_AS_STRING(payload), <size_t>payload_size)
    return out


def decode_head(bytearray buffer not None, Py_ssize_t at):
    """Return what stands before an entry's name, or None: it is not whole.

    Returns:
        (length of the name, timestamp, sequence, length of the headers, of the payload, where the name begins).

    Raises:
        ValueError: a number has more than 64 bits.
    """
    cdef uint64_t[NUMBERS] values
    cdef int64_t timestamp_ns
    cdef const uint8_t *start = <const uint8_t *>PyByteArray_AS_STRING(buffer)
    cdef Py_ssize_t size = PyByteArray_GET_SIZE(buffer)
    cdef int index, length
    for index in range(NUMBERS):
        if at >= size:
            return None
        length = take(start + at, size - at, &values[index])
        if length == 0:
            return None
        if length < 0:
            raise ValueError("number of more than 64 bits")
        at += length
    timestamp_ns = <int64_t>(values[1] >> 1) ^ -<int64_t>(values[1] & 1)
    return values[0], timestamp_ns, values[2], values[3], values[4], at


def split(bytearray buffer not None, Py_ssize_t at, Py_ssize_t name_size, Py_ssize_t headers_size,
          Py_ssize_t payload_size):
    """Return an entry's name, headers and payload, which begin at `at`.

    Raises:
        IndexError: they are not within the buffer.
    """
    cdef const char *start = PyByteArray_AS_STRING(buffer)
    if min(at, name_size, headers_size, payload_size) < 0:
        raise IndexError("negative length")
    if at + name_size + headers_size + payload_size > PyByteArray_GET_SIZE(buffer):
        raise IndexError("entry longer than the buffer")
    return (PyBytes_FromStringAndSize(start + at, name_size),
            PyBytes_FromStringAndSize(start + at + name_size, headers_size),
            PyBytes_FromStringAndSize(start + at + name_size + headers_size, payload_size))
