# cython: language_level=3
"""The structs of layout.h, for Cython. Comments and byte pictures are there."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "layout.h" nogil:
    const uint32_t CACHE_LINES_APART

    const uint32_t FRAME_VERSION
    const uint32_t FRAME_HEADER_BYTES
    const uint32_t FRAME_ALIGNMENT
    const uint32_t FRAME_DATA
    const uint32_t FRAME_PADDING
    const uint32_t FRAME_FRAGMENT_FIRST
    const uint32_t FRAME_FRAGMENT_MIDDLE
    const uint32_t FRAME_FRAGMENT_LAST

    const uint64_t RING_MAGIC
    const uint64_t RING_CAPACITY_MIN
    const uint64_t RING_CAPACITY_MAX
    const uint32_t RING_HEADER_BYTES

    ctypedef struct ring_header_t:
        uint64_t magic
        uint64_t capacity
        uint32_t epoch
        uint64_t tail
        uint64_t head
        uint32_t producer_waiting

    ctypedef struct wake_words_t:
        uint32_t sleeping
        uint32_t control_pending

    const uint32_t COUNTER_COUNT
    const uint32_t COUNTERS_BYTES

    ctypedef struct counters_t:
        uint64_t accepted_total
        uint64_t connections
        uint64_t subscriptions
        uint64_t in_msgs
        uint64_t in_bytes
        uint64_t out_msgs
        uint64_t out_bytes
        uint64_t slow_consumers
        uint64_t closed_total
        uint64_t stale_connections
        uint64_t ring_in_frames
        uint64_t ring_out_frames
        uint64_t ring_full
        uint64_t control_in_frames
        uint64_t control_out_frames
        uint64_t wakeups
        uint64_t rounds
        uint64_t routes_cached
        uint64_t route_hits
        uint64_t route_misses
        uint64_t pending_bytes
        uint64_t auth_errors
        uint64_t protocol_errors
        uint64_t stalls

    const char *counter_name(uint32_t index)
    int counter_is_gauge(uint32_t index)

    const uint64_t REGION_MAGIC
    const uint32_t REGION_VERSION
    const uint32_t REGION_PAGE_BYTES
    const uint32_t SLOT_COUNT
    const uint32_t WORKERS_MAX

    ctypedef struct region_header_t:
        uint64_t magic
        uint32_t version
        uint32_t worker_count
        uint32_t slot_count
        uint64_t data_ring_bytes
        uint64_t control_ring_bytes
        uint64_t data_stride
        uint64_t control_stride
        uint64_t wake_offset
        uint64_t counters_offset
        uint64_t placement_offset
        uint64_t data_offset
        uint64_t control_offset
        uint64_t total_bytes

    int ring_capacity_is_valid(uint64_t capacity)
    int region_plan(region_header_t *header, uint32_t worker_count, uint64_t data_ring_bytes,
                    uint64_t control_ring_bytes)
