"""Who follows a stream that only interest keeps: a mirror or source is interest, as long as it reads.

A message is kept while a follower that wants it has not stored it yet. Followers are forgotten when nothing
was heard of them for a while, as nats-server's consumers for them end; they are not kept over a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage import queries

if TYPE_CHECKING:
    from storage.stream import StreamStore
    from storage.subjects import SubjectFilter

INACTIVE_NS = 10_000_000_000


@dataclass(slots=True)
class Follower:
    """One reader.

    Attributes:
        done: the last sequence that it has stored, of those that it wants.
        heard_ns: when it read last, Unix ns.
    """

    filter: SubjectFilter
    done: int
    heard_ns: int


class Followers:
    """The readers of one stream."""

    def __init__(self, store: StreamStore, now_ns: Callable[[], int]) -> None:
        """Begin with none."""
        self._store = store
        self._now_ns = now_ns
        self._by_name: dict[str, Follower] = {}

    def heard(self, name: str, subjects: SubjectFilter, done: int) -> list[int]:
        """Take note of a reader; return the sequences that it is done with since the last time."""
        follower = self._by_name.setdefault(name, Follower(subjects, done, 0))
        follower.heard_ns = self._now_ns()
        before, follower.done = follower.done, max(follower.done, done)
        if follower.done <= before:
            return []
        found = queries.find_all(self._store, follower.filter, before + 1, follower.done + 1)
        return [int(sequence) for sequence in found]

    def wants_subject(self, subject: bytes) -> bool:
        """Tell whether a reader wants messages of a subject."""
        return any(one.filter.matches_subject(subject) for one in self._active())

    def wants(self, sequence: int) -> bool:
        """Tell whether a reader still has to store a message."""
        return any(
            one.done < sequence and len(queries.find_all(self._store, one.filter, sequence, sequence + 1))
            for one in self._active()
        )

    def _active(self) -> list[Follower]:
        if not self._by_name:
            return []
        oldest_ns = self._now_ns() - INACTIVE_NS
        for name in [name for name, one in self._by_name.items() if one.heard_ns < oldest_ns]:
            del self._by_name[name]
        return list(self._by_name.values())
