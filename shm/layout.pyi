from mmap import mmap
from typing import NamedTuple

HEADER_BYTES: int
WAKE_WORDS_BYTES: int
COUNTERS_ROW_BYTES: int
RING_HEADER_SIZE: int
RING_EPOCH_OFFSET: int
RING_TAIL_OFFSET: int
RING_HEAD_OFFSET: int
RING_WAITING_OFFSET: int
FRAME_HEADER_SIZE: int
SLOTS: int
WORKER_COUNT_MAX: int
KIND_DATA: int
KIND_PADDING: int
KIND_FRAGMENT_FIRST: int
KIND_FRAGMENT_MIDDLE: int
KIND_FRAGMENT_LAST: int
COUNTER_NAMES: tuple[str, ...]
GAUGE_NAMES: tuple[str, ...]

class RegionHeader(NamedTuple):
    magic: int
    version: int
    worker_count: int
    slot_count: int
    data_ring_bytes: int
    control_ring_bytes: int
    data_stride: int
    control_stride: int
    wake_offset: int
    counters_offset: int
    placement_offset: int
    data_offset: int
    control_offset: int
    total_bytes: int

def plan_region(worker_count: int, data_ring_bytes: int, control_ring_bytes: int) -> bytes: ...
def read_header(header: bytes) -> RegionHeader: ...
def address_of(memory: bytearray | mmap) -> int: ...
def initialize_ring(address: int, capacity: int, epoch: int = 1) -> None: ...
def reset_ring(address: int) -> int: ...
def ring_epoch(address: int) -> int: ...
