"""The region: what lies where, who may attach, and that nothing stays behind."""

import ctypes
import fcntl
import itertools
import mmap
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shm import layout, mesh
from shm.errors import RegionMismatch, StaleEpoch
from shm.region import Region
from shm.ring import RingConsumer, RingProducer
from shm.wake import WakeWords

WORKERS = 3
DATA_BYTES = 1 << 12
CONTROL_BYTES = 1 << 10


@pytest.fixture
def region() -> Iterator[Region]:
    made = Region.create(WORKERS, DATA_BYTES, CONTROL_BYTES)
    yield made
    made.close()


def header_bytes(region: Region) -> bytes:
    return os.pread(region.fd, 128, 0)


def test_header_lies_as_drawn(region: Region) -> None:
    """Six pairs: data rings of 512 + 4096 bytes take two pages, control rings of 512 + 1024 take one."""
    page = 4096
    assert struct.unpack("<8s4I10Q24x", header_bytes(region)) == (
        b"mmidge01",
        1,
        WORKERS,
        1024,
        0,
        DATA_BYTES,
        CONTROL_BYTES,
        2 * page,
        page,
        1 * page,
        2 * page,
        3 * page,
        4 * page,
        16 * page,
        22 * page,
    )
    assert region.total_bytes == os.fstat(region.fd).st_size == 22 * page


def test_every_address_is_inside_and_alone(region: Region) -> None:
    """No two parts overlap and each starts on lines of its own."""
    parts = [(region.wake_address(worker), 128) for worker in range(WORKERS)]
    parts += [(region.counters_address(worker), 512) for worker in range(WORKERS)]
    parts.append((region.placement_address, 2 * layout.SLOTS))
    for pair in mesh.pairs(WORKERS):
        parts.append((region.data_ring_address(*pair), 512 + DATA_BYTES))
        parts.append((region.control_ring_address(*pair), 512 + CONTROL_BYTES))
    parts.sort()
    assert parts[0][0] >= region.address + 128
    assert all(address % 128 == 0 for address, _ in parts)
    for (address, size), (following, _) in itertools.pairwise(parts):
        assert address + size <= following
    assert sum(parts[-1]) <= region.address + region.total_bytes


def test_attached_region_is_the_same_memory(region: Region) -> None:
    other = Region.attach(os.dup(region.fd))
    producer = RingProducer(region.data_ring_address(0, 2), 1, region)
    consumer = RingConsumer(other.data_ring_address(0, 2), 1, other)
    assert producer.try_write(b"across mappings")
    assert producer.publish()
    assert consumer.poll()
    assert consumer.read() == b"across mappings"
    assert RingConsumer(other.control_ring_address(0, 2), 1).poll() == 0
    assert RingConsumer(other.data_ring_address(2, 0), 1).poll() == 0
    other.close()


def test_descriptor_is_sealed_against_resizing_and_not_inherited(region: Region) -> None:
    for size in (0, region.total_bytes + 4096):
        with pytest.raises(PermissionError):
            os.ftruncate(region.fd, size)
    assert fcntl.fcntl(region.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def memfd_with(content: bytes) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        pytest.param(0, b"another!", id="magic"),
        pytest.param(8, b"\x02", id="version"),
        pytest.param(12, b"\xff\xff", id="too many workers"),
        pytest.param(16, b"\x01\x00", id="slots"),
        pytest.param(24, b"\x01", id="ring size"),
        pytest.param(72, b"\x01", id="offset"),
    ],
)
def test_attach_refuses_another_header_and_keeps_no_descriptor(
    region: Region, offset: int, value: bytes
) -> None:
    header = header_bytes(region)
    fd = memfd_with(header[:offset] + value + header[offset + len(value) :])
    os.ftruncate(fd, region.total_bytes)
    with pytest.raises(RegionMismatch):
        Region.attach(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("size", [0, 127, 4096])
def test_attach_refuses_a_cut_region(region: Region, size: int) -> None:
    fd = memfd_with(header_bytes(region)[:size])
    os.ftruncate(fd, size)
    with pytest.raises(RegionMismatch):
        Region.attach(fd)


@pytest.mark.parametrize(
    "sizes", [(0, 64, 64), (129, 64, 64), (2, 100, 64), (2, 64, 32), (2, 1 << 31, 64), (2, 64, 0)]
)
def test_create_refuses_sizes_out_of_range(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="region of"):
        Region.create(*sizes)


def test_one_worker_has_no_rings() -> None:
    region = Region.create(1)
    assert region.ring_epochs() == [[0]]
    assert region.reset_rings(0) == [[0]]
    assert region.total_bytes == 4 * 4096
    region.close()


@pytest.mark.parametrize("pair", [(0, 0), (0, WORKERS), (-1, 0)])
def test_rings_of_unknown_workers_are_refused(region: Region, pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no ring"):
        region.data_ring_address(*pair)
    with pytest.raises(ValueError, match="no ring"):
        region.control_ring_address(*pair)


@pytest.mark.parametrize("worker", [-1, WORKERS])
def test_rows_of_unknown_workers_are_refused(region: Region, worker: int) -> None:
    for ask in (region.wake_address, region.counters_address, region.reset_rings):
        with pytest.raises(ValueError, match="no worker"):
            ask(worker)
    with pytest.raises(ValueError, match="no worker"):
        region.counter(worker, "in_msgs")


def test_reset_raises_the_epochs_of_one_workers_rings_alone(region: Region) -> None:
    assert region.ring_epochs() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    survivors = RingProducer(region.data_ring_address(0, 2), 1)
    assert region.reset_rings(1) == [[0, 2, 1], [2, 0, 2], [1, 2, 0]]
    assert region.ring_epochs() == [[0, 2, 1], [2, 0, 2], [1, 2, 0]]
    assert not survivors.is_stale
    for address in (region.data_ring_address(0, 1), region.control_ring_address(1, 2)):
        with pytest.raises(StaleEpoch):
            RingProducer(address, 1)
        assert RingProducer(address, 2).try_write(b"")


def test_reset_clears_wake_words_and_gauges_but_not_totals(region: Region) -> None:
    words = WakeWords(region.wake_address(1), region)
    words.announce_control()
    words.prepare_sleep()
    for worker in range(WORKERS):
        row = (ctypes.c_uint64 * 64).from_address(region.counters_address(worker))
        row[:] = [7] * 64
    region.reset_rings(1)
    assert not words.take_control()
    assert not words.needs_ring()
    cleared = {name for name in layout.COUNTER_NAMES if region.counter(1, name) == 0}
    assert cleared == {"connections", "subscriptions", "routes_cached", "pending_bytes"}
    assert all(region.counter(0, name) == 7 for name in layout.COUNTER_NAMES)


def test_counters_are_read_by_name_from_their_place(region: Region) -> None:
    rows = [(ctypes.c_uint64 * 64).from_address(region.counters_address(worker)) for worker in range(WORKERS)]
    for worker, row in enumerate(rows):
        row[:] = [worker << 32 | index for index in range(64)]
    table = region.counters()
    assert table.shape == (WORKERS,)
    assert table.dtype.itemsize == 512
    assert table.dtype.names == layout.COUNTER_NAMES
    for worker in range(WORKERS):
        for index, name in enumerate(layout.COUNTER_NAMES):
            assert region.counter(worker, name) == worker << 32 | index
            assert table[name][worker] == worker << 32 | index
    with pytest.raises(KeyError):
        region.counter(0, "reserved")


def test_counters_are_a_copy_that_outlives_the_region() -> None:
    region = Region.create(1)
    table = region.counters()
    region.close()
    assert table["in_msgs"].sum() == 0


def test_placement_is_kept_and_checked(region: Region) -> None:
    assert region.placement == (0,) * layout.SLOTS
    table = [slot % WORKERS for slot in range(layout.SLOTS)]
    region.placement = table
    assert region.placement == tuple(table)
    raw = (ctypes.c_uint16 * layout.SLOTS).from_address(region.placement_address)
    assert list(raw) == table
    for wrong in ([0] * (layout.SLOTS - 1), [WORKERS] * layout.SLOTS, [-1] * layout.SLOTS):
        with pytest.raises(ValueError, match="placement"):
            region.placement = wrong
    assert region.placement == tuple(table)


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_close_leaves_no_descriptor_and_no_mapping() -> None:
    before = open_descriptors()
    region = Region.create(2, DATA_BYTES, CONTROL_BYTES)
    attached = Region.attach(os.dup(region.fd))
    region.counters()
    for each in (region, attached, region):
        each.close()
    assert open_descriptors() == before
    assert "memfd:midge" not in Path("/proc/self/maps").read_text()
    with pytest.raises(ValueError, match="closed"):
        region.wake_address(0)


def test_untouched_rings_take_no_memory() -> None:
    """One page for the header of each ring and a few for the rest, of 260 MiB of rings."""
    region = Region.create(15)
    used_bytes = os.fstat(region.fd).st_blocks * 512
    assert used_bytes <= (2 * mesh.pair_count(15) + 16) * 4096
    region.close()


def test_numpy_is_imported_only_for_the_counters_table() -> None:
    """The supervisor's start must not pay for it."""
    code = (
        "import sys; from shm.region import Region; region = Region.create(2); region.counter(0, 'in_msgs'); "
        "assert 'numpy' not in sys.modules; region.counters(); assert 'numpy' in sys.modules"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_address_of_a_buffer_is_where_its_bytes_are() -> None:
    memory = mmap.mmap(-1, 4096)
    ctypes.c_uint64.from_address(layout.address_of(memory)).value = 0x0102
    assert memory[:2] == b"\x02\x01"
    memory.close()
    with pytest.raises(BufferError):
        layout.address_of(b"read only")
