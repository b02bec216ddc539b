"""Which ring joins whom: every ordered pair of different workers has its own ring.

Pure arithmetic; knows no memory. The numbering is drawn in layout.h.
"""

from __future__ import annotations

from collections.abc import Iterator


def pair_index(producer: int, consumer: int, worker_count: int) -> int:
    """Return the number of the ring from one worker to another, 0..pair_count-1.

    Raises:
        ValueError: a worker does not exist, or the two are the same.
    """
    if producer == consumer or not (0 <= producer < worker_count and 0 <= consumer < worker_count):
        raise ValueError(f"no ring from worker {producer} to worker {consumer} of {worker_count}")
    return producer * (worker_count - 1) + consumer - (consumer > producer)


def pair_count(worker_count: int) -> int:
    """Return the number of rings of one type."""
    return worker_count * (worker_count - 1)


def pairs(worker_count: int) -> Iterator[tuple[int, int]]:
    """Yield (producer, consumer) of every ring, in ring order."""
    for producer in range(worker_count):
        for consumer in range(worker_count):
            if producer != consumer:
                yield producer, consumer


def pairs_of(worker: int, worker_count: int) -> Iterator[tuple[int, int]]:
    """Yield (producer, consumer) of every ring that ends or begins at one worker."""
    for producer, consumer in pairs(worker_count):
        if worker in (producer, consumer):
            yield producer, consumer
