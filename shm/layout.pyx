# cython: language_level=3, embedsignature=True, wraparound=False
"""The numbers of layout.h for Python, and the few steps on raw memory that region.py cannot do itself."""

from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport uintptr_t, uint32_t
from libc.string cimport memcpy

from collections import namedtuple

cdef extern from "ring.h" nogil:
    int _ring_initialize "ring_initialize" (void *memory, uint64_t capacity, uint32_t epoch)
    uint32_t _ring_reset "ring_reset" (void *memory)

HEADER_BYTES = sizeof(region_header_t)
WAKE_WORDS_BYTES = sizeof(wake_words_t)
COUNTERS_ROW_BYTES = sizeof(counters_t)
RING_HEADER_SIZE = sizeof(ring_header_t)
RING_EPOCH_OFFSET = <size_t>&(<ring_header_t *>NULL).epoch
RING_TAIL_OFFSET = <size_t>&(<ring_header_t *>NULL).tail
RING_HEAD_OFFSET = <size_t>&(<ring_header_t *>NULL).head
RING_WAITING_OFFSET = <size_t>&(<ring_header_t *>NULL).producer_waiting
FRAME_HEADER_SIZE = FRAME_HEADER_BYTES
SLOTS = SLOT_COUNT
WORKER_COUNT_MAX = WORKERS_MAX
KIND_DATA = FRAME_DATA
KIND_PADDING = FRAME_PADDING
KIND_FRAGMENT_FIRST = FRAME_FRAGMENT_FIRST
KIND_FRAGMENT_MIDDLE = FRAME_FRAGMENT_MIDDLE
KIND_FRAGMENT_LAST = FRAME_FRAGMENT_LAST

COUNTER_NAMES = tuple([counter_name(index).decode() for index in range(COUNTER_COUNT)])
"""Every counter, in the order in which a row holds them: each a native uint64."""

GAUGE_NAMES = tuple([name for index, name in enumerate(COUNTER_NAMES) if counter_is_gauge(index)])
"""Those of COUNTER_NAMES that are present values; the others only grow."""

RegionHeader = namedtuple("RegionHeader", [
    "magic", "version", "worker_count", "slot_count", "data_ring_bytes", "control_ring_bytes", "data_stride",
    "control_stride", "wake_offset", "counters_offset", "placement_offset", "data_offset", "control_offset",
    "total_bytes",
])


def plan_region(uint32_t worker_count, uint64_t data_ring_bytes, uint64_t control_ring_bytes):
    """Return the header that a region of these sizes has, as bytes; ValueError when it has none."""
    cdef region_header_t header
    if not region_plan(&header, worker_count, data_ring_bytes, control_ring_bytes):
        raise ValueError(
            f"region of {worker_count} workers, rings of {data_ring_bytes} and {control_ring_bytes} bytes: "
            f"1 to {WORKERS_MAX} workers, powers of two from {RING_CAPACITY_MIN} to {RING_CAPACITY_MAX} bytes"
        )
    return PyBytes_FromStringAndSize(<char *>&header, sizeof(header))


def read_header(bytes header not None):
    """Return the fields of a header of exactly HEADER_BYTES; their values are not checked."""
    cdef region_header_t fields
    if len(header) != sizeof(fields):
        raise ValueError(f"region header of {len(header)} bytes, expected {sizeof(fields)}")
    memcpy(&fields, <char *>header, sizeof(fields))
    return RegionHeader(
        fields.magic, fields.version, fields.worker_count, fields.slot_count, fields.data_ring_bytes,
        fields.control_ring_bytes, fields.data_stride, fields.control_stride, fields.wake_offset,
        fields.counters_offset, fields.placement_offset, fields.data_offset, fields.control_offset,
        fields.total_bytes,
    )


def address_of(memory):
    """Return where a writable buffer lies; the caller keeps it there while the address is in use."""
    cdef Py_buffer view
    PyObject_GetBuffer(memory, &view, PyBUF_WRITABLE)
    try:
        return <uintptr_t>view.buf
    finally:
        PyBuffer_Release(&view)


def initialize_ring(uintptr_t address, uint64_t capacity, uint32_t epoch=1):
    """Make an empty ring of RING_HEADER_SIZE + capacity bytes at an address.

    Raises:
        ValueError: capacity is no power of two in range, or epoch is 0.
    """
    if not _ring_initialize(<void *>address, capacity, epoch):
        raise ValueError(
            f"ring of {capacity} bytes, epoch {epoch}: a power of two from {RING_CAPACITY_MIN} to "
            f"{RING_CAPACITY_MAX}, epoch from 1"
        )


def reset_ring(uintptr_t address):
    """Empty a ring whose two ends are dead or detached, raise its epoch and return the new one."""
    return _ring_reset(<void *>address)


def ring_epoch(uintptr_t address):
    """Return the present epoch of a ring."""
    return (<ring_header_t *>address).epoch
