"""Which worker is the authority for a slot: rendezvous hashing, pure.

A slot is the hash of a name modulo SLOT_COUNT. Every (slot, worker) pair has a fixed pseudo-random weight,
and the worker with the largest weight owns the slot. A worker added takes only the slots that it wins, and
a worker removed gives up only its own: no other slot moves. That matters once streams live on disk, where a
moved slot means moved files.
"""

from __future__ import annotations

SLOT_COUNT = 1024
WORKERS_MAX = 64
"""The largest worker count; rings grow with its square."""

_MASK = (1 << 64) - 1


def owner_table(worker_count: int) -> list[int]:
    """Return the owning worker of each slot.

    Args:
        worker_count: 1..WORKERS_MAX.
    """
    assert 1 <= worker_count <= WORKERS_MAX
    if worker_count == 1:
        return [0] * SLOT_COUNT
    return [slot_owner(slot, worker_count) for slot in range(SLOT_COUNT)]


def slot_owner(slot: int, worker_count: int) -> int:
    """Return the worker with the largest weight for this slot."""
    return max(range(worker_count), key=lambda worker: _weight(slot, worker))


def _weight(slot: int, worker: int) -> int:
    """Mix the pair into 64 bits with the finalizer of SplitMix64, which is fixed for ever, unlike hash()."""
    value = (slot << 16 | worker) * 0x9E3779B97F4A7C15 & _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31
