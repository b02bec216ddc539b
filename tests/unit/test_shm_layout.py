"""What other languages than C believe about shm/layout.h is what C says."""

import re
from pathlib import Path

import pytest

from shm import layout

SHM = Path(__file__).parents[2] / "shm"


def test_sizes_and_offsets_are_as_drawn() -> None:
    assert layout.HEADER_BYTES == 128
    assert layout.WAKE_WORDS_BYTES == 128
    assert layout.COUNTERS_ROW_BYTES == 512
    assert layout.RING_HEADER_SIZE == 512
    assert layout.FRAME_HEADER_SIZE == 8
    assert layout.SLOTS == 1024
    assert layout.RING_EPOCH_OFFSET == 16
    assert layout.RING_TAIL_OFFSET == 128
    assert layout.RING_HEAD_OFFSET == 256
    assert layout.RING_WAITING_OFFSET == 384


def test_counter_names_are_unique_and_fit_their_row() -> None:
    assert len(set(layout.COUNTER_NAMES)) == len(layout.COUNTER_NAMES)
    assert 8 * len(layout.COUNTER_NAMES) <= layout.COUNTERS_ROW_BYTES
    assert set(layout.GAUGE_NAMES) < set(layout.COUNTER_NAMES)
    assert not [name for name in layout.GAUGE_NAMES if name.endswith("_total")]


def test_pxd_declares_every_counter_in_order() -> None:
    declared = re.search(
        r"ctypedef struct counters_t:\n((?: {8}uint64_t \w+\n)+)", (SHM / "layout.pxd").read_text()
    )
    assert declared is not None
    assert tuple(re.findall(r"uint64_t (\w+)", declared[1])) == layout.COUNTER_NAMES


@pytest.mark.parametrize("name", ["layout.h", "ring.h", "wake.h", "fragment.h", "layout.pyx", "ring.pyx"])
def test_ordered_accesses_are_made_in_atomics_h_alone(name: str) -> None:
    assert "__atomic" not in (SHM / name).read_text()
    assert "volatile" not in (SHM / name).read_text()


def test_header_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="127 bytes"):
        layout.read_header(bytes(127))


def test_planned_header_is_read_back() -> None:
    header = layout.read_header(layout.plan_region(4, 1 << 20, 1 << 18))
    assert header.worker_count == 4
    assert header.data_ring_bytes == 1 << 20
    assert header.control_offset == header.data_offset + 12 * header.data_stride
    assert header.total_bytes == header.control_offset + 12 * header.control_stride
