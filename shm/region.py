"""The region: the one block of memory that the supervisor and all workers share.

The supervisor creates it (a sealed memfd: it has no name, so nothing stays behind when processes are killed)
and sends the descriptor to workers, which attach. Must not know what travels through the rings, nor who runs
where: the placement table is computed by the supervisor and only kept here. Bytes are drawn in layout.h.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from shm import layout, mesh
from shm.errors import RegionMismatch

if TYPE_CHECKING:
    import numpy

_COUNTER = struct.Struct("Q")
_COUNTER_OFFSETS = {name: index * _COUNTER.size for index, name in enumerate(layout.COUNTER_NAMES)}
_PLACEMENT = struct.Struct(f"{layout.SLOTS}H")


class Region:
    """The region as mapped into this process; addresses stay valid until close()."""

    def __init__(self, fd: int, memory: mmap.mmap) -> None:
        """Use create() or attach()."""
        self.fd = fd
        self._memory = memory
        self._header = layout.read_header(memory[: layout.HEADER_BYTES])
        self.address = layout.address_of(memory)

    @classmethod
    def create(
        cls, worker_count: int, data_ring_bytes: int = 1 << 20, control_ring_bytes: int = 1 << 18
    ) -> Self:
        """Make a region with empty rings of epoch 1, zero counters and every slot placed on worker 0.

        Args:
            worker_count: 1..layout.WORKER_COUNT_MAX.
            data_ring_bytes: capacity of each data ring, a power of two; memory is used as it is touched.
            control_ring_bytes: the same for control rings.
        Raises:
            ValueError: a size is out of range.
            OSError: no descriptor or address space is left.
        """
        header = layout.plan_region(worker_count, data_ring_bytes, control_ring_bytes)
        fd = os.memfd_create("midge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, layout.read_header(header).total_bytes)
            # Nobody may shrink it under a reader, which would be killed by SIGBUS.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            memory = mmap.mmap(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        memory[: len(header)] = header
        region = cls(fd, memory)
        for producer, consumer in mesh.pairs(worker_count):
            layout.initialize_ring(region.data_ring_address(producer, consumer), data_ring_bytes)
            layout.initialize_ring(region.control_ring_address(producer, consumer), control_ring_bytes)
        return region

    @classmethod
    def attach(cls, fd: int) -> Self:
        """Map the region behind a descriptor, which then belongs to the Region (also when this raises).

        Raises:
            RegionMismatch: it is no region, or one of another version.
            OSError: it cannot be mapped.
        """
        try:
            size = os.fstat(fd).st_size
            if size < layout.HEADER_BYTES:
                raise RegionMismatch(f"region of {size} bytes, smaller than its header")
            memory = mmap.mmap(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        region = cls(fd, memory)
        try:
            _check_header(memory[: layout.HEADER_BYTES], size)
        except BaseException:
            region.close()
            raise
        return region

    def close(self) -> None:
        """Unmap and close the descriptor: addresses given out are invalid now. Twice does nothing."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self.address = 0
            self._memory.close()
            os.close(fd)

    @property
    def worker_count(self) -> int:
        """Number of workers that the region was made for."""
        return self._header.worker_count

    @property
    def total_bytes(self) -> int:
        """Size of the mapping; pages never touched take no memory."""
        return self._header.total_bytes

    def data_ring_address(self, producer: int, consumer: int) -> int:
        """Return the address of the data ring from one worker to another (ring_header_t)."""
        index = mesh.pair_index(producer, consumer, self._header.worker_count)
        return self._at(self._header.data_offset + index * self._header.data_stride)

    def control_ring_address(self, producer: int, consumer: int) -> int:
        """Return the address of the control ring from one worker to another (ring_header_t)."""
        index = mesh.pair_index(producer, consumer, self._header.worker_count)
        return self._at(self._header.control_offset + index * self._header.control_stride)

    def wake_address(self, worker: int) -> int:
        """Return the address of a worker's wake words (wake_words_t)."""
        return self._at(self._header.wake_offset + self._row(worker) * layout.WAKE_WORDS_BYTES)

    def counters_address(self, worker: int) -> int:
        """Return the address of a worker's counters (counters_t), which only that worker writes."""
        return self._at(self._header.counters_offset + self._row(worker) * layout.COUNTERS_ROW_BYTES)

    @property
    def placement_address(self) -> int:
        """Address of the placement table: SLOTS native uint16, the worker of each slot."""
        return self._at(self._header.placement_offset)

    @property
    def placement(self) -> tuple[int, ...]:
        """The worker of each slot; only the supervisor assigns it, before workers start.

        Raises:
            ValueError: the assigned table has another length, or names a worker that does not exist.
        """
        return _PLACEMENT.unpack_from(self._memory, self._header.placement_offset)

    @placement.setter
    def placement(self, workers: Sequence[int]) -> None:
        if len(workers) != layout.SLOTS or not all(0 <= worker < self.worker_count for worker in workers):
            raise ValueError(f"placement needs {layout.SLOTS} workers from 0 to {self.worker_count - 1}")
        _PLACEMENT.pack_into(self._memory, self._header.placement_offset, *workers)

    def counter(self, worker: int, name: str) -> int:
        """Return one counter of one worker, as it is now.

        Raises:
            KeyError: no counter has this name.
        """
        (value,) = _COUNTER.unpack_from(self._memory, self._counter_offset(worker, name))
        return int(value)

    def counters(self) -> numpy.ndarray[tuple[int], numpy.dtype[numpy.void]]:
        """Return a copy of all counters: a structured array, a row per worker, a field per counter."""
        import numpy  # only here: starting the supervisor must not pay for it

        dtype = numpy.dtype(
            {
                "names": list(_COUNTER_OFFSETS),
                "formats": ["u8"] * len(_COUNTER_OFFSETS),
                "offsets": list(_COUNTER_OFFSETS.values()),
                "itemsize": layout.COUNTERS_ROW_BYTES,
            }
        )
        return numpy.frombuffer(self._memory, dtype, self.worker_count, self._header.counters_offset).copy()

    def ring_epochs(self) -> list[list[int]]:
        """Return the epoch of the two rings from worker i to worker j as [i][j]; 0 on the diagonal."""
        epochs = [[0] * self.worker_count for _ in range(self.worker_count)]
        for producer, consumer in mesh.pairs(self.worker_count):
            epochs[producer][consumer] = layout.ring_epoch(self.data_ring_address(producer, consumer))
        return epochs

    def reset_rings(self, worker: int) -> list[list[int]]:
        """Empty every ring to and from a worker, raise their epochs and return ring_epochs().

        Only the supervisor may, when that worker is reaped and every other one has said that it detached. The
        worker's wake words and gauges (present values, as connections) become 0 too; what it counted stays.
        """
        self._row(worker)
        for producer, consumer in mesh.pairs_of(worker, self.worker_count):
            layout.reset_ring(self.data_ring_address(producer, consumer))
            layout.reset_ring(self.control_ring_address(producer, consumer))
        start = self._header.wake_offset + worker * layout.WAKE_WORDS_BYTES
        self._memory[start : start + layout.WAKE_WORDS_BYTES] = bytes(layout.WAKE_WORDS_BYTES)
        for name in layout.GAUGE_NAMES:
            _COUNTER.pack_into(self._memory, self._counter_offset(worker, name), 0)
        return self.ring_epochs()

    def _counter_offset(self, worker: int, name: str) -> int:
        row = self._header.counters_offset + self._row(worker) * layout.COUNTERS_ROW_BYTES
        return row + _COUNTER_OFFSETS[name]

    def _row(self, worker: int) -> int:
        if not 0 <= worker < self._header.worker_count:
            raise ValueError(f"no worker {worker} of {self._header.worker_count}")
        return worker

    def _at(self, offset: int) -> int:
        if self.address == 0:
            raise ValueError("region is closed")
        return self.address + offset


def _check_header(header: bytes, size: int) -> None:
    """Raise RegionMismatch unless the header is the one that a region of its sizes must have."""
    fields = layout.read_header(header)
    try:
        expected = layout.plan_region(fields.worker_count, fields.data_ring_bytes, fields.control_ring_bytes)
    except ValueError as error:
        raise RegionMismatch(f"region header: {error}") from error
    if header != expected:
        raise RegionMismatch(f"region header {fields}, expected {layout.read_header(expected)}")
    if size != fields.total_bytes:
        raise RegionMismatch(f"region of {size} bytes, expected {fields.total_bytes}")
