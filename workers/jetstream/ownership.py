"""Which worker is the authority for a stream and for an account's directory of streams: pure.

A name is hashed to one of the slots of the placement table that all workers share, so every worker gives the
same answer without asking. The hash decides where files lie, so it is fixed for ever, unlike hash().
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from shm.layout import SLOTS


def stream_slot(account: str, stream: str) -> int:
    """Return the slot of a stream of an account."""
    return _slot(f"{account}\0{stream}")


def directory_slot(account: str) -> int:
    """Return the slot of an account's directory."""
    return _slot(account)


def _slot(name: str) -> int:
    digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % SLOTS


class Ownership:
    """The placement table as names."""

    def __init__(self, placement: Sequence[int]) -> None:
        """Take the worker of each slot.

        Raises:
            ValueError: the table has another length.
        """
        if len(placement) != SLOTS:
            raise ValueError(f"placement table of {len(placement)} slots, expected {SLOTS}")
        self._placement = tuple(placement)

    def owner(self, account: str, stream: str) -> int:
        """Return the worker that keeps a stream, whether it exists or not."""
        return self._placement[stream_slot(account, stream)]

    def directory(self, account: str) -> int:
        """Return the worker that keeps an account's directory."""
        return self._placement[directory_slot(account)]
