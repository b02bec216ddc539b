"""A slow, obvious ring, and memory for real ones.

RingModel does with a deque what shm/ring.h does with bytes; property tests run both and compare every answer.
"""

from __future__ import annotations

import mmap
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shm import layout


@dataclass
class RingMemory:
    """An empty ring in anonymous memory, with access to its bytes by the offsets drawn in shm/layout.h."""

    memory: mmap.mmap
    address: int
    capacity: int

    EPOCH_OFFSET = 16
    TAIL_OFFSET = 128
    HEAD_OFFSET = 256
    WAITING_OFFSET = 384
    DATA_OFFSET = 512

    def word(self, offset: int) -> int:
        """Return the uint64 at an offset from the start of the ring's header."""
        (value,) = struct.unpack_from("=Q", self.memory, offset)
        return int(value)

    def set_word(self, offset: int, value: int) -> None:
        """Store a uint64, as a broken peer would."""
        struct.pack_into("=Q", self.memory, offset, value)

    def frames(self, start: int, length: int) -> bytes:
        """Return raw bytes of the data part."""
        return self.memory[self.DATA_OFFSET + start : self.DATA_OFFSET + start + length]

    def set_frames(self, start: int, raw: bytes) -> None:
        """Overwrite raw bytes of the data part, as a broken peer would."""
        self.memory[self.DATA_OFFSET + start : self.DATA_OFFSET + start + len(raw)] = raw


@contextmanager
def ring_memory(capacity: int, epoch: int = 1) -> Iterator[RingMemory]:
    """Make an empty ring; its memory is gone after the block, so both ends must be too."""
    memory = mmap.mmap(-1, RingMemory.DATA_OFFSET + capacity)
    address = layout.address_of(memory)
    layout.initialize_ring(address, capacity, epoch)
    yield RingMemory(memory, address, capacity)
    memory.close()


def frame_header(length: int, kind: int, epoch: int = 1, version: int = 1) -> bytes:
    """Return a frame's eight bytes as drawn in shm/layout.h, for a little-endian host."""
    return struct.pack("<IBBH", length, version, kind, epoch & 0xFFFF)


@dataclass
class RingModel:
    """Both ends of a ring as Python numbers and a deque of (end position, body or None for padding)."""

    capacity: int
    tail: int = 0
    published: int = 0
    limit: int = 0
    head: int = 0
    released: int = 0
    is_waiting: bool = False
    committed: deque[tuple[int, bytes | None]] = field(default_factory=deque)

    @property
    def frame_max(self) -> int:
        """A quarter of the ring without the frame's header."""
        return self.capacity // 4 - 8

    def try_write(self, body: bytes) -> bool:
        """Append a frame, after padding when it would run over the end."""
        frame_bytes = 8 + -(-len(body) // 8) * 8
        to_end = self.capacity - self.tail % self.capacity
        padding = to_end if frame_bytes > to_end else 0
        if len(body) > self.frame_max or self.tail + padding + frame_bytes - self.released > self.capacity:
            return False
        if padding:
            self.committed.append((self.tail + padding, None))
        self.tail += padding + frame_bytes
        self.committed.append((self.tail, body))
        return True

    def publish(self) -> bool:
        """Move what the consumer may see to the tail."""
        is_new = self.tail > self.published
        self.published = self.tail
        return is_new

    def poll(self) -> int:
        """Take over what was published."""
        self.limit = self.published
        return self.limit - self.head

    def read(self) -> bytes | None:
        """Return the next body up to the last poll."""
        while self.head < self.limit:
            self.head, body = self.committed.popleft()
            if body is not None:
                return body
        return None

    def release(self) -> bool:
        """Give back what was read; whether the producer was waiting."""
        if self.head == self.released:
            return False
        self.released = self.head
        was_waiting, self.is_waiting = self.is_waiting, False
        return was_waiting

    def forget_unpublished(self) -> None:
        """Do what a new producer means: frames that were never published are gone."""
        while self.committed and self.committed[-1][0] > self.published:
            self.committed.pop()
        self.tail = self.published

    def forget_unreleased(self) -> None:
        """Refuse: a consumer is only replaced when everything it read is released."""
        assert self.head == self.released
        self.limit = self.released

    def reset(self) -> None:
        """Empty the ring."""
        self.__init__(self.capacity)  # type: ignore[misc]
