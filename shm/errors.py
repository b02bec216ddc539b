"""What can go wrong with shared memory. A full or empty ring is a return value, not an error."""

from __future__ import annotations


class ShmError(Exception):
    """Base of all errors of this folder."""


class RegionMismatch(ShmError):
    """The memory is not a region of this version, or its header contradicts its size."""


class StaleEpoch(ShmError):
    """The ring was reset, or never had the epoch that the caller was told."""


class RingCorrupt(ShmError):
    """The other end wrote what no correct end writes; treat it as failed."""


class FragmentError(ShmError):
    """Fragments came out of order, or their body is larger than allowed."""
