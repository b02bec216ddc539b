"""Batches that clients have begun and not ended: how many there may be, and the end of those left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from workers.jetstream.publishing import Publisher
    from workers.jetstream.schedules import Timer

TIMEOUT_SECONDS = 10.0
"""A batch without a new message for so long is given up."""
TIMER_SECONDS_MIN = 0.01


@dataclass(slots=True)
class Staged:
    """How many batches of one kind all streams of a worker have open, and the bytes of theirs in memory."""

    batches: int = 0
    size: int = 0


class Batch(Protocol):
    """One batch.

    Attributes:
        deadline_ns: Unix time at which it is given up.
    """

    deadline_ns: int


B = TypeVar("B", bound=Batch)


class OpenBatches(Generic[B]):
    """The open batches of one kind of one stream, by their ids."""

    def __init__(self, publisher: Publisher, staged: Staged, *, stream_max: int, worker_max: int) -> None:
        """Begin without any.

        Args:
            staged: counts those of all streams of the worker.
            stream_max, worker_max: how many may be open in this stream, and in all.
        """
        self._publisher = publisher
        self._engine = publisher.stream.engine
        self._staged = staged
        self._stream_max, self._worker_max = stream_max, worker_max
        self._batches: dict[bytes, B] = {}
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._batches)

    def close(self) -> None:
        """Forget all batches without a word."""
        for batch_id in list(self._batches):
            self._drop(batch_id)
        if self._timer is not None:
            self._timer.cancel()

    @property
    def _is_full(self) -> bool:
        return len(self._batches) >= self._stream_max or self._staged.batches >= self._worker_max

    def _open(self, batch_id: bytes, batch: B) -> B:
        self._batches[batch_id] = batch
        self._staged.batches += 1
        if self._timer is None:
            self._timer = self._engine.later(TIMEOUT_SECONDS, self._expire)
        return batch

    def _drop(self, batch_id: bytes) -> B:
        """Forget a batch and return it."""
        self._staged.batches -= 1
        return self._batches.pop(batch_id)

    def _time_out(self, batch_id: bytes) -> None:
        """Give a batch up that got no message for too long."""
        self._drop(batch_id)

    def _deadline_ns(self) -> int:
        return self._engine.now_ns() + int(TIMEOUT_SECONDS * 1e9)

    def _expire(self) -> None:
        self._timer = None
        now_ns = self._engine.now_ns()
        for batch_id in [one for one, batch in self._batches.items() if batch.deadline_ns <= now_ns]:
            self._time_out(batch_id)
        if self._batches:
            soonest_ns = min(batch.deadline_ns for batch in self._batches.values())
            seconds = max((soonest_ns - now_ns) / 1e9, TIMER_SECONDS_MIN)
            self._timer = self._engine.later(seconds, self._expire)
